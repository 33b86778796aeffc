"""Rendering frames, encoding them, and both with an allocation of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns.booking import Booking, book
from airflow_brayns.cluster.cluster import Waiter
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.endpoint import reachable
from airflow_brayns.errors import BraynsError, InvalidSetting
from airflow_brayns.follow import Follower
from airflow_brayns.links.cluster import SlurmJobLink
from airflow_brayns.movie.encode import encode_movie
from airflow_brayns.movie.render import Shot, remove_frames, render_frames
from airflow_brayns.observe import count
from airflow_brayns.operators.base import BraynsOperator, booking_of, is_set, whole_number, word_list
from airflow_brayns.operators.cluster import announce
from airflow_brayns.settings import ClusterSettings

_SHOT_FIELDS = ("scene", "camera", "frames", "width", "height", "renderer")
_LEASE_SECONDS = 60.0


def check_output(path: str, field: str = "output_file") -> Path:
    """A path whose folder can be written, made if need be.

    :raises InvalidSetting: naming the field.
    """
    if not path or "\0" in path:
        raise InvalidSetting(field, f"{path!r} is not a path")
    target = Path(path).expanduser().absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting(
            field, f"{target.parent} cannot be made: {error.strerror}. Choose a folder that the worker may write."
        ) from error
    if not os.access(target.parent, os.W_OK):
        raise InvalidSetting(field, f"{target.parent} cannot be written by the worker. Choose another folder.")
    return target


def check_movie_file(path: str, field: str = "output_file") -> Path:
    """A path for an MP4.

    :raises InvalidSetting: naming the field.
    """
    target = check_output(path, field)
    if target.suffix != ".mp4":
        raise InvalidSetting(field, f"{target.name!r} must end in .mp4")
    return target


def check_fps(value: Any) -> int:
    """Frames a second.

    :raises InvalidSetting: not at least 1.
    """
    fps = whole_number("fps", value)
    if fps < 1:
        raise InvalidSetting("fps", f"must be at least 1, not {fps}")
    return fps


def drop_frames(folder: Path) -> None:
    """Take a movie's frames away, and their folder if nothing else is in it; the movie is made, so nothing here fails."""
    with contextlib.suppress(OSError):
        remove_frames(folder)
        folder.rmdir()


class _ShotOperator(BraynsOperator):
    """The fields of a shot.

    :param scene: path of a model as the services see it: OBJ, PLY, STL, OFF, SWC, ASC or H5 (templated)
    :param camera: `turntable` (one turn), `swing` or `still` (templated)
    :param frames: how many (templated)
    :param width, height: pixels, even numbers (templated)
    :param renderer: `interactive` or `production` (templated)
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, *_SHOT_FIELDS)

    def __init__(
        self,
        *,
        scene: str,
        camera: str = "turntable",
        frames: int | str = 60,
        width: int | str = 640,
        height: int | str = 360,
        renderer: str = "production",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scene = scene
        self.camera = camera
        self.frames = frames
        self.width = width
        self.height = height
        self.renderer = renderer

    def shot(self) -> Shot:
        """The shot, checked.

        :raises InvalidSetting: naming the field.
        """
        if self.read_settings().scheduler == "local" and not Path(self.scene).exists():
            raise InvalidSetting("scene", f"{self.scene} does not exist on this machine")
        return Shot(
            scene=self.scene,
            camera=self.camera,
            frames=whole_number("frames", self.frames),
            width=whole_number("width", self.width),
            height=whole_number("height", self.height),
            renderer=self.renderer,
        )

    async def render(self, settings: ClusterSettings, endpoints: list[str], shot: Shot, folder: Path) -> list[Path]:
        """Every frame of the shot, with progress in the task log."""
        step = max(1, shot.frames // 20)

        def progress(done: int, total: int) -> None:
            count("brayns.frames")
            if done % step == 0 or done == total:
                self.log.info("%d of %d frames (%d %%)", done, total, 100 * done // total)

        async with reachable(self.hook, settings, endpoints) as near:
            return await render_frames(near, shot, folder, progress=progress)

    @contextlib.asynccontextmanager
    async def in_use(self, poller: Poller, booking: Booking | None) -> Any:
        """Renews the allocations' leases while the block runs."""

        async def renew() -> None:
            while booking is not None:
                with contextlib.suppress(BraynsError):
                    await poller.cluster.look([Waiter(*allocation.key) for allocation in booking.allocations])
                await asyncio.sleep(_LEASE_SECONDS)

        task = asyncio.create_task(renew())
        try:
            yield
        finally:
            task.cancel()


class RenderFramesOperator(_ShotOperator):
    """Renders the frames of a shot with all services of an allocation, a file each. Returns the folder.

    :param endpoints: `host:port` of the services (templated)
    :param frames_dir: folder on the worker for the frames, `00000.png` and so on (templated)
    :param allocation: what the services run in (XCom key `allocation`), so that it counts as used while frames are
        rendered; where it is not given, the traffic on the services' ports says so (templated)
    """

    template_fields: Sequence[str] = (*_ShotOperator.template_fields, "endpoints", "frames_dir", "allocation")

    def __init__(self, *, endpoints: Any, frames_dir: str, allocation: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.endpoints = endpoints
        self.frames_dir = frames_dir
        self.allocation = allocation

    def execute(self, context: Context) -> str:
        """Render."""
        try:
            shot = self.shot()
            endpoints = word_list("endpoints", self.endpoints)
            folder = check_output(str(Path(self.frames_dir) / "frame"), "frames_dir").parent
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        settings = self.read_settings()
        booking = booking_of(self.allocation) if is_set(self.allocation) else None

        async def main() -> None:
            async with self.hook.connect(settings) as poller, self.in_use(poller, booking):
                await self.render(settings, endpoints, shot, folder)

        self.block(main())
        return str(folder)


class EncodeMovieOperator(BraynsOperator):
    """Encodes a folder of frames to an H.264 movie on the worker; refuses gaps. Returns the movie's path.

    :param frames_dir: folder with the frames (templated)
    :param output_file: the movie, `*.mp4` (templated)
    :param fps: frames a second (templated)
    :param frames: how many there must be; None for as many as there are (templated)
    :param keep_frames: whether the folder of frames stays when the movie is made.
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "frames_dir", "output_file", "fps", "frames")

    def __init__(
        self,
        *,
        frames_dir: str,
        output_file: str,
        fps: int | str = 25,
        frames: int | str | None = None,
        keep_frames: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep_frames = keep_frames
        self.frames_dir = frames_dir
        self.output_file = output_file
        self.fps = fps
        self.frames = frames

    def execute(self, context: Context) -> str:
        """Encode."""
        try:
            target = check_movie_file(self.output_file)
            frames = None if not is_set(self.frames) else whole_number("frames", self.frames)
            fps = check_fps(self.fps)
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        movie = self.block(encode_movie(Path(self.frames_dir), target, fps=fps, frames=frames))
        if not self.keep_frames:
            drop_frames(Path(self.frames_dir))
        self.log.info("The movie is %s", movie)
        return str(movie)


class BraynsMovieOperator(_ShotOperator):
    """Allocates, renders, encodes and gives back, as one task that holds one pool slot. Returns the movie's path.

    :param output_file: the movie, `*.mp4`, on the worker; the frames lie beside it until it is encoded (templated)
    :param nodes: how many nodes, a service each (templated)
    :param plugins: plugins to load (templated)
    :param fps: frames a second (templated)
    """

    template_fields: Sequence[str] = (*_ShotOperator.template_fields, "output_file", "nodes", "plugins", "fps")
    operator_extra_links = (SlurmJobLink(),)

    def __init__(
        self,
        *,
        output_file: str,
        nodes: int | str = 1,
        plugins: Sequence[str] | str = ("braynsCircuitExplorer",),
        fps: int | str = 25,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.output_file = output_file
        self.nodes = nodes
        self.plugins = plugins
        self.fps = fps

    def execute(self, context: Context) -> str:
        """The whole movie."""
        try:
            shot, target = self.shot(), check_movie_file(self.output_file)
            nodes, fps = whole_number("nodes", self.nodes), check_fps(self.fps)
            plugins = word_list("plugins", self.plugins)
            settings = self.read_settings()
            settings.request(nodes)
            settings.service(tuple(plugins))
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        movie = self.block(self._produce(context, shot, target, nodes, fps, plugins))
        self.log.info("The movie is %s", movie)
        return str(movie)

    async def _produce(
        self, context: Context, shot: Shot, target: Path, nodes: int, fps: int, plugins: list[str]
    ) -> Path:
        settings = self.read_settings()
        name, token = self.name_for(context), self.token(context)
        folder = target.with_name(f"{target.stem}.frames-{name}")
        async with self.hook.connect(settings) as poller:
            try:
                booking = await book(
                    poller.cluster, settings, name, token, nodes=nodes, plugins=plugins, about=self.about(context)
                )
                announce(self, context, booking, settings)
                services = await Follower(poller, booking, settings, plugins, self.log).services()
                async with self.in_use(poller, booking):
                    await self.render(settings, [service.endpoint for service in services], shot, folder)
            except BaseException:
                await asyncio.shield(self.give_back(poller.cluster, name, token))
                raise
            try:
                await poller.cluster.release(name)
            finally:  # the frames are there: a release that fails must not cost them
                movie = await encode_movie(folder, target, fps=fps, frames=shot.frames)
        await asyncio.to_thread(drop_frames, folder)
        return movie
