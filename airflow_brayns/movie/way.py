"""The two ways to get a frame out of a service, and which is the faster for a movie.

`snapshot` carries camera, renderer and size in its own parameters, and looks for its own end once a second. `render-image`
works on the service's own, so one driver must own the service. Which is faster differs by 30 times one way and four times
the other (3.10.1, run), so it is tried.
"""

from __future__ import annotations

import reprlib
import time
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_brayns.brayns.client import BraynsClient, Reply
from airflow_brayns.errors import BraynsError, RenderingFailed, RpcFailed
from airflow_brayns.movie.picture import check_picture, difference
from airflow_brayns.movie.plan import Plan

SNAPSHOT, RENDER_IMAGE = "snapshot", "render-image"
# Two renderings of one frame differ by noise: 0.00 with one sample, 0.35 with 16 (3.10.1, run). More is another picture.
_MOST_DIFFERENCE = 2.0
_CLOSE_CALL, _WORTHWHILE = 4.0, 0.1  # a lead that a second look could turn, and seconds that are worth it
_ENDLESS = 1e6  # whoever calls has a time-out of its own
_MOST_PASSES = 4096


class Way(Protocol):
    """How a frame is asked for."""

    name: str

    @property
    def queues(self) -> bool:
        """Whether the next frame may be asked for while the service renders one."""
        ...

    async def begin(self, client: BraynsClient, plan: Plan) -> None:
        """Set what all frames have in common."""
        ...

    async def render(self, client: BraynsClient, plan: Plan, frame: int, file_path: str = "") -> bytes:
        """One frame's image; nothing where the service writes it to `file_path` itself.

        :raises RpcFailed: the service refused.
        :raises ConnectionLost: it did not answer.
        """
        ...


class Snapshot:
    """Complete in itself, whatever the service's own camera and renderer are."""

    name = SNAPSHOT
    queues = True

    async def begin(self, client: BraynsClient, plan: Plan) -> None:
        """See `Way.begin`."""

    async def render(self, client: BraynsClient, plan: Plan, frame: int, file_path: str = "") -> bytes:
        """See `Way.render`."""
        spec, pose = plan.specification, plan.pose(frame)
        settings: dict[str, Any] = {"format": spec.format, "size": list(spec.resolution)}
        if spec.format == "jpg":
            settings["quality"] = spec.quality
        request: dict[str, Any] = {
            "image_settings": settings,
            "camera": {"name": "perspective", "params": {"fovy": pose.fovy}},
            "camera_view": pose.view(),
            "renderer": {"name": spec.renderer.name, "params": spec.renderer.parameters()},
        }
        if (shown := plan.simulation_frame(frame)) is not None:
            request["simulation_frame"] = shown
        if file_path:
            request["file_path"] = file_path
        reply = await client.call("snapshot", request, timeout=_ENDLESS)
        return b"" if file_path else _color_buffer(reply)


def _color_buffer(reply: Reply) -> bytes:
    try:
        buffer = reply.result["color_buffer"]
        offset, size = int(buffer["offset"]), int(buffer["size"])
        if not 0 <= offset <= offset + size <= len(reply.binary):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        told = reprlib.repr(reply.result)
        raise RenderingFailed(f"snapshot answered {told} and {len(reply.binary)} bytes, which is no image") from None
    return reply.binary[offset : offset + size]


class RenderImage:
    """Through the service's own camera and renderer; for whoever has the service to itself."""

    name = RENDER_IMAGE

    def __init__(self) -> None:
        self._fovy: float | None = None
        self._passes = 0

    @property
    def queues(self) -> bool:
        """See `Way.queues`: not where a frame takes several requests, between which the camera must stay."""
        return self._passes == 1

    async def begin(self, client: BraynsClient, plan: Plan) -> None:
        """See `Way.begin`."""
        spec = plan.specification
        await client.call("set-application-parameters", {"viewport": list(spec.resolution)})
        await client.call(f"set-renderer-{spec.renderer.name}", spec.renderer.parameters())
        self._fovy, self._passes = None, 0

    async def render(self, client: BraynsClient, plan: Plan, frame: int, file_path: str = "") -> bytes:
        """See `Way.render`. What sets the camera goes out together with the request: the service takes them in order."""
        spec, pose = plan.specification, plan.pose(frame)
        request: dict[str, Any] = {
            "send": True,
            "force": True,
            "accumulate": True,
            "render": True,
            "format": spec.format,
        }
        if spec.format == "jpg":
            request["jpeg_quality"] = spec.quality
        messages: list[tuple[str, dict[str, Any]]] = [("set-camera-view", pose.view()), ("render-image", request)]
        if (shown := plan.simulation_frame(frame)) is not None:
            messages.insert(0, ("set-simulation-parameters", {"current": shown}))
        if self._fovy != pose.fovy:
            self._fovy = pose.fovy
            messages.insert(0, ("set-camera-perspective", {"fovy": pose.fovy}))
        reply = (await client.call_in_order(messages, timeout=_ENDLESS))[-1]
        data, passes = reply.binary, 1
        while (progress := _accumulation(reply))[0] < progress[1]:  # until all samples are in the picture
            if self._passes == 1 or passes > _MOST_PASSES:
                raise RenderingFailed(f"render-image stopped at sample {progress[0]} of {progress[1]}")
            reply = await client.call("render-image", {**request, "force": False}, timeout=_ENDLESS)
            data, passes = reply.binary or data, passes + 1
        self._passes = max(passes, self._passes)
        return data


def _accumulation(reply: Reply) -> tuple[int, int]:
    result = reply.result if isinstance(reply.result, dict) else {}
    try:
        return int(result.get("accumulation", 1)), int(result.get("max_accumulation", 1))
    except (TypeError, ValueError, OverflowError):
        raise RenderingFailed(f"render-image answered {reprlib.repr(result)}, which is no image") from None


@dataclass(frozen=True)
class Trial:
    """What trying both ways told.

    :param way: the better one.
    :param measured: seconds a frame, by way.
    :param why: one sentence for the log.
    :param data: the frame that was tried, rendered in that way; empty where it was not tried.
    :param frame: its number.
    """

    way: str
    measured: dict[str, float]
    why: str
    data: bytes
    frame: int


async def try_both(client: BraynsClient, plan: Plan, frame: int) -> Trial:
    """Render a frame in both ways, compare, choose.

    :raises RpcFailed: `snapshot` is refused.
    :raises ConnectionLost: the service does not answer.
    """
    spec = plan.specification
    snapshot, seconds = await _timed(Snapshot(), client, plan, frame)
    check_picture(snapshot, spec.resolution, spec.format)
    measured = {SNAPSHOT: seconds}
    try:
        image, measured[RENDER_IMAGE] = await _timed(RenderImage(), client, plan, frame)
        check_picture(image, spec.resolution, spec.format)
    except RpcFailed as error:
        return Trial(SNAPSHOT, measured, f"render-image is refused ({error}), so snapshot", snapshot, frame)
    except RenderingFailed as error:
        return Trial(SNAPSHOT, measured, f"render-image gives no usable image ({error}), so snapshot", snapshot, frame)
    apart = difference(snapshot, image)
    if apart > _MOST_DIFFERENCE:
        return Trial(
            SNAPSHOT, measured, f"the two ways differ by {apart:.1f} of 255, so snapshot, which is complete in itself", snapshot, frame
        )  # fmt: skip
    lead = measured[SNAPSHOT] / max(measured[RENDER_IMAGE], 1e-6)
    if 1 < lead < _CLOSE_CALL and measured[SNAPSHOT] - measured[RENDER_IMAGE] > _WORTHWHILE:
        # The very first picture also paid for what the service builds once.
        measured[SNAPSHOT] = min(seconds, (await _timed(Snapshot(), client, plan, frame))[1])
    better = min(measured, key=lambda name: measured[name])
    told = ", ".join(f"{name} {value:.3f} s" for name, value in measured.items())
    return Trial(better, measured, f"{better}: {told}; the same picture (mean difference {apart:.2f} of 255)", snapshot if better == SNAPSHOT else image, frame)  # fmt: skip


async def _timed(way: Way, client: BraynsClient, plan: Plan, frame: int) -> tuple[bytes, float]:
    await way.begin(client, plan)
    began = time.monotonic()
    data = await way.render(client, plan, frame)
    return data, time.monotonic() - began


def make_way(name: str) -> Way:
    """The way of a name.

    :raises BraynsError: there is none of that name.
    """
    for way in (Snapshot, RenderImage):
        if way.name == name:
            return way()
    raise BraynsError(f"way: {name!r} is none of {SNAPSHOT}, {RENDER_IMAGE}", retry=False)
