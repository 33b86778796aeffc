"""Frames of a scene, spread over services: each takes the next as it is free, a file each."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import BraynsError, InvalidSetting, RenderingFailed, RpcFailed
from airflow_brayns.movie.camera import FOVY, PATHS, Bounds, angle, view

RENDERERS: dict[str, dict[str, Any]] = {
    "interactive": {"samples_per_pixel": 4, "max_ray_bounces": 3, "ao_samples": 1, "enable_shadows": True},
    "production": {"samples_per_pixel": 16, "max_ray_bounces": 3},
}
LOADERS = {
    "obj": "mesh", "ply": "mesh", "stl": "mesh", "off": "mesh",
    "swc": "Neuron Morphology loader", "asc": "Neuron Morphology loader", "h5": "Neuron Morphology loader",
}  # fmt: skip
_MORPHOLOGY = {
    "radius_multiplier": 1.0,
    "load_soma": True,
    "load_axon": True,
    "load_dendrites": True,
    "geometry_type": "smooth",
}
_SECTION_COLORS = {
    "soma": [1.0, 0.82, 0.35, 1.0],
    "dendrite": [0.95, 0.42, 0.16, 1.0],
    "apical_dendrite": [0.9, 0.2, 0.35, 1.0],
    "axon": [0.25, 0.6, 1.0, 1.0],
}
_BACKGROUND = [0.006, 0.01, 0.03, 1.0]
_FRAME = re.compile(r"\.?\d{5,}\.png(\.part)?")
_PNG = b"\x89PNG\r\n\x1a\n"
_LOAD_SECONDS, _FRAME_SECONDS = 1800.0, 600.0
_ATTEMPTS = 3
_METHOD_NOT_FOUND = -32601


@dataclass(frozen=True)
class Shot:
    """What is rendered.

    :param scene: path of a model as the services see it (OBJ, PLY, STL, OFF, SWC, ASC, H5).
    :param camera: `turntable` (one turn over the movie), `swing` or `still`.
    :param frames: how many.
    :param width, height: pixels; even numbers, since H.264 takes no others.
    :param renderer: `interactive` or `production`.
    :raises InvalidSetting: naming the field.
    """

    scene: str
    camera: str = "turntable"
    frames: int = 60
    width: int = 640
    height: int = 360
    renderer: str = "production"

    def __post_init__(self) -> None:
        if self.extension not in LOADERS:
            raise InvalidSetting(
                "scene", f"{self.scene!r}: no loader for this ending; known are {', '.join(sorted(LOADERS))}"
            )
        if self.camera not in PATHS:
            raise InvalidSetting("camera", f"{self.camera!r} is none of {', '.join(PATHS)}")
        if self.frames < 1:
            raise InvalidSetting("frames", f"must be at least 1, not {self.frames}")
        for name in ("width", "height"):
            value = getattr(self, name)
            if value < 64 or value % 2:
                raise InvalidSetting(name, f"must be an even number of at least 64 pixels, not {value}")
        if self.renderer not in RENDERERS:
            raise InvalidSetting("renderer", f"{self.renderer!r} is none of {', '.join(RENDERERS)}")

    @property
    def extension(self) -> str:
        """The scene's ending, without the dot."""
        return self.scene.rpartition(".")[2].lower()

    @property
    def digits(self) -> int:
        """How many digits a frame's number has in its file's name."""
        return max(5, len(str(self.frames - 1)))

    def file(self, folder: Path, frame: int) -> Path:
        """The file of a frame."""
        return folder / f"{frame:0{self.digits}d}.png"


async def prepare(client: BraynsClient, shot: Shot) -> Bounds:
    """Empty the service, load the scene, colour and light it.

    :raises InvalidSetting: the service cannot load the scene.
    """
    for method in ("clear-models", "clear-lights"):
        try:
            await client.call(method)
        except RpcFailed as error:
            if error.code != _METHOD_NOT_FOUND:
                raise
    properties = _MORPHOLOGY if LOADERS[shot.extension] != "mesh" else {}
    request = {"path": shot.scene, "loader_name": LOADERS[shot.extension], "loader_properties": properties}
    try:
        models = (await client.call("add-model", request, timeout=_LOAD_SECONDS)).result
    except RpcFailed as error:
        hint = (
            " The loader comes with the plugin braynsCircuitExplorer: is it among the plugins?"
            if "loader name" in str(error)
            else " The path must exist on the nodes that render."
        )
        raise InvalidSetting("scene", f"{shot.scene} cannot be loaded: {error}.{hint}") from error
    for model in models:
        await _color(client, model["model_id"])
    await client.call(
        "add-light-directional", {"intensity": 5.0, "color": [1, 0.96, 0.9], "direction": [-0.5, -0.7, -0.9]}
    )
    await client.call(
        "add-light-directional", {"intensity": 1.6, "color": [0.6, 0.75, 1], "direction": [0.8, 0.3, 0.6]}
    )
    await client.call("add-light-ambient", {"intensity": 0.35, "color": [1, 1, 1]})
    bounds = (await client.call("get-scene")).result["bounds"]
    return Bounds(tuple(bounds["min"]), tuple(bounds["max"]))


async def _color(client: BraynsClient, model: int) -> None:
    methods = (await client.call("get-color-methods", {"id": model})).result
    if "morphology section" in methods:
        known = (await client.call("get-color-values", {"id": model, "method": "morphology section"})).result
        values = {name: color for name, color in _SECTION_COLORS.items() if name in known}
        await client.call("color-model", {"id": model, "method": "morphology section", "values": values})
    elif "solid" in methods:
        values = {"color": _SECTION_COLORS["dendrite"]}
        await client.call("color-model", {"id": model, "method": "solid", "values": values})


def snapshot_request(shot: Shot, bounds: Bounds, frame: int) -> dict[str, Any]:
    """The parameters of one frame's `snapshot`: complete in themselves, whatever the service's own camera is."""
    renderer = {**RENDERERS[shot.renderer], "background_color": _BACKGROUND}
    return {
        "image_settings": {"format": "png", "size": [shot.width, shot.height]},
        "camera": {"name": "perspective", "params": {"fovy": FOVY}},
        "camera_view": view(bounds, angle(shot.camera, frame, shot.frames), shot.width / shot.height),
        "renderer": {"name": shot.renderer, "params": renderer},
    }


def is_whole(data: bytes, width: int, height: int) -> bool:
    """Whether bytes are a PNG of that size with its end."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return data.startswith(_PNG) and data[16:24] == size and b"IEND" in data[-12:]


def remove_frames(folder: Path) -> None:
    """Take the frames out of a folder, and nothing else."""
    for path in folder.iterdir():
        if _FRAME.fullmatch(path.name):
            path.unlink()


def empty_folder(folder: Path) -> None:
    """Make the folder of the frames, and take out frames of an earlier movie.

    :raises InvalidSetting: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_frames(folder)
    except OSError as error:
        raise InvalidSetting("frames_dir", f"{folder} cannot be made ready for frames: {error.strerror}") from error


def write_frame(path: Path, data: bytes) -> None:
    """Write beside and rename: a frame on disk is whole."""
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise RenderingFailed(f"output: {path.parent} cannot be written: {error.strerror}", retry=False) from error


@dataclass
class _Work:
    """The shared queue: frames to render, how often each failed, what is done."""

    queue: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    failures: dict[int, int] = field(default_factory=dict)
    done: int = 0


async def render_frames(
    endpoints: Sequence[str],
    shot: Shot,
    folder: Path,
    *,
    ssl_context: ssl.SSLContext | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Render every frame of a shot into `folder`, one file each.

    :param endpoints: `host:port` of services that can be reached from here.
    :param progress: told after each frame: how many are done, of how many.
    :raises RenderingFailed: frames are missing; the message names them.
    """
    if not endpoints:
        raise InvalidSetting("endpoints", "no service to render with")
    empty_folder(folder)
    work = _Work()
    for frame in range(shot.frames):
        work.queue.put_nowait(frame)
    results = await asyncio.gather(
        *(_drive(endpoint, shot, folder, work, ssl_context, progress) for endpoint in endpoints), return_exceptions=True
    )
    errors = [result for result in results if isinstance(result, BaseException)]
    for found in errors:
        if not isinstance(found, BraynsError) or not found.retry:
            raise found
    missing = [frame for frame in range(shot.frames) if not shot.file(folder, frame).exists()]
    if missing:
        shown = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
        raise RenderingFailed(
            f"{len(missing)} of {shot.frames} frames are missing ({shown}): {errors[0] if errors else ''}"
        )
    return [shot.file(folder, frame) for frame in range(shot.frames)]


async def _drive(
    endpoint: str,
    shot: Shot,
    folder: Path,
    work: _Work,
    ssl_context: ssl.SSLContext | None,
    progress: Callable[[int, int], None],
) -> None:
    """One service's share: load the scene once, then take frames until there are none."""
    async with BraynsClient(endpoint, ssl_context=ssl_context) as client:
        bounds = await prepare(client, shot)
        while work.done < shot.frames:
            try:
                frame = work.queue.get_nowait()
            except asyncio.QueueEmpty:
                if work.done >= shot.frames:
                    return
                await asyncio.sleep(0.1)  # another service may still give its frame back
                continue
            try:
                reply = await client.call("snapshot", snapshot_request(shot, bounds, frame), timeout=_FRAME_SECONDS)
                data = reply.binary[: reply.result["color_buffer"]["size"]]
                if not is_whole(data, shot.width, shot.height):
                    raise RenderingFailed(
                        f"Frame {frame} from {endpoint} is not a whole PNG of {shot.width}x{shot.height}."
                    )
                await asyncio.to_thread(write_frame, shot.file(folder, frame), data)
            except BaseException as error:
                work.failures[frame] = work.failures.get(frame, 0) + 1
                if work.failures[frame] < _ATTEMPTS and not isinstance(error, asyncio.CancelledError):
                    work.queue.put_nowait(frame)
                else:
                    work.done += 1  # given up; the others need not wait for it
                raise
            work.done += 1
            progress(work.done, shot.frames)
