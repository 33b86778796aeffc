"""The entry to rendering: services render the frames of a specification into a folder, here or on the cluster."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.files import identity, install
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.errors import ConnectionLost, InvalidSetting, reason_of
from airflow_brayns.movie.ffmpeg import static_ffmpeg
from airflow_brayns.movie.frame_folder import FolderStore
from airflow_brayns.movie.frame_store import FrameStore
from airflow_brayns.movie.interfaces import FixedServices, Reporter, ServiceSource
from airflow_brayns.movie.ledger import Ledger
from airflow_brayns.movie.production import FIRST_FRAME_SECONDS, Outcome, Production
from airflow_brayns.movie.script import Script, script_of
from airflow_brayns.movie.script_file import ScriptFile
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.rendering.cluster_frames import ClusterFrames
from airflow_brayns.rendering.endpoint_pool import EndpointPool
from airflow_brayns.rendering.frame_checks import Place
from airflow_brayns.rendering.model_files import files_behind
from airflow_brayns.rendering.service_pool import ServicePool
from airflow_brayns.services.booking import Booking, BookingRequest, book
from airflow_brayns.services.release import give_back
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings


@dataclass(frozen=True)
class Rendering:
    """The options of rendering, whichever services do it.

    :param plugins: names of the plugins that each service must have loaded.
    :param way: the way to ask for a frame, `one-pass` or `snapshot`; None for one pass where the services are ours.
    :param renew_before: seconds before an allocation's end at which the next one is queued; None for no next one.
    :param frame_timeout: seconds that the first frame may take.
    :param load_timeout: seconds that a model may take to load.
    :param budget: the node-hours that all tries may use; None for the specification's.
    :param sample: how many frames to render, evenly spread over the movie; None for all.
    """

    plugins: tuple[str, ...] = ()
    way: str | None = None
    renew_before: float | None = None
    frame_timeout: float = FIRST_FRAME_SECONDS
    load_timeout: float = 3600.0
    budget: float | None = None
    sample: int | None = None

    @classmethod
    def names(cls) -> frozenset[str]:
        """The names of the options."""
        return frozenset(one.name for one in fields(cls))

    def to_json(self) -> dict[str, Any]:
        """The options as plain JSON values for a trigger: the plugins, which 0.2.0 demands, and of the others those
        that are not at their default.
        """
        others = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        return {**others, "plugins": list(self.plugins)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rendering:
        """Read what `to_json` gave; an option that is left out is at its default."""
        return cls(**{**value, "plugins": tuple(value.get("plugins", ()))})


@dataclass(frozen=True)
class RenderRequest:
    """A request to render a movie's frames.

    :param folder: the folder that frames go to, of the worker or, as its nodes see it, of the cluster.
    :param how: see `Rendering`.
    :param owner: the task that owns the booking, and the movie whose frames these are.
    :param on_cluster: whether the folder is the cluster's.
    :param ffmpeg: path of an ffmpeg on the cluster's nodes, for frames that stay there; see `prepared`.
    :param files: size and time of the models' files, and of those that these name: frames of a scene that has changed are rendered again; see
        `prepared`.
    :param script: the functions that a task hands over itself; None for those of the specification's file.
    """

    specification: MovieSpecification
    folder: str
    how: Rendering
    owner: Owner
    on_cluster: bool = False
    ffmpeg: str = ""
    files: str = ""
    script: Script | None = None

    @cached_property
    def holder(self) -> str:
        """The token by which leases and folder are held: each process has another one, also where the same try goes on
        in another process.
        """
        return f"{self.owner.token[:18]}-{secrets.token_hex(4)}"

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of this try."""
        budget = self.specification.budget if self.how.budget is None else self.how.budget
        return Ledger(self.owner.movie, self.holder, budget if self.how.sample is None else None)

    async def prepared(self, cluster: Cluster, *, ours: bool = True) -> RenderRequest:
        """This request with `ffmpeg` and `files`, for which the cluster is asked.

        :param ours: whether the services are this cluster's; others may have files that it does not see.
        """
        ffmpeg = await install(cluster, Path(static_ffmpeg())) if self.on_cluster else ""
        paths = self._paths()
        files = await identity(cluster, paths) if paths else ""
        if behind := await files_behind(cluster, self.specification.models):
            files = f"{files}\n{behind}"
        if ours and script_of(self.specification) is not None:
            for path, told in zip(paths, files.splitlines(), strict=False):
                if told == "unknown":
                    raise InvalidSetting(
                        "inputs",
                        f"{path} is neither on the worker nor on the cluster.",
                        remedy="correct it, or leave it out.",
                    )
        return replace(self, ffmpeg=ffmpeg, files=files)

    def _paths(self) -> list[str]:
        """The files that the movie is made of, as the nodes see them, without those that the worker has read."""
        source = script_of(self.specification)
        if source is None:
            return [model.path for model in self.specification.models]
        return [path for path in source.inputs if path not in source.digests]

    @property
    def functions(self) -> Script | None:
        """The Python that scene and frames come from; None where the specification tells them."""
        source = script_of(self.specification)
        return self.script or (None if source is None else ScriptFile.of(source))

    def store(self, cluster: Cluster, nodes: Callable[[], Sequence[Place]] = list) -> FrameStore:
        """The frame store for the request's folder.

        :param nodes: a function that tells the nodes that render, for a folder of the cluster.
        """
        if self.on_cluster:
            return ClusterFrames(cluster, self.folder, self.ffmpeg, self.owner.movie, self.holder, nodes)
        return FolderStore(Path(self.folder), self.owner.movie, self.holder)

    def production(self, source: ServiceSource, store: FrameStore, reporter: Reporter) -> Production:
        """The production of the request's frames, with services from some source."""
        how = self.how
        return Production(
            self.specification, source, store, reporter, identity=self.files, way=how.way, sample=how.sample,
            frame_timeout=how.frame_timeout, load_timeout=how.load_timeout, script=self.functions,
            ledger=self.ledger,
        )  # fmt: skip


@asynccontextmanager
async def one_node(
    session: Session, request: RenderRequest, announce: Callable[[Booking], Awaitable[None]] | None = None
) -> AsyncGenerator[Booking]:
    """Book one node for what is to be seen of a movie before it is rendered, and give it back whatever happens.

    :param announce: a function that is told of the booking.
    """
    asked = booking_for_movie(session.settings, 1, request.how.plugins)
    try:
        booking = await book(session.cluster, asked.settings, request.owner, nodes=1, plugins=asked.plugins)
        if announce is not None:
            await announce(booking)
        yield booking
    finally:
        told_to_stop = isinstance(sys.exception(), asyncio.CancelledError)
        await asyncio.shield(give_back(session.cluster, request.owner, session.log, told_to_stop=told_to_stop))


async def render_with(session: Session, booking: Booking, request: RenderRequest, reporter: Reporter) -> Outcome:
    """Render what is left of a movie with all services of a booking, each as it becomes usable.

    :param request: prepared.
    """
    pool = ServicePool(
        session, booking, request.how.plugins, token=request.holder, owner=request.owner,
        renew_before=request.how.renew_before, ledger=request.ledger,
    )  # fmt: skip
    async with pool:
        return await request.production(pool, request.store(session.cluster, pool.nodes), reporter).run()


async def render_at(session: Session, endpoints: Sequence[str], request: RenderRequest, reporter: Reporter) -> Outcome:
    """Render what is left of a movie with services that somebody else looks after.

    :param endpoints: `host:port` of each service.
    :param request: not prepared; that is done here.
    """
    try:
        request = await request.prepared(session.cluster, ours=False)
    except ConnectionLost as error:
        if session.settings.route != "direct":
            raise
        session.log.warning("It cannot be told whether the models' files have changed: %s", reason_of(error))
    async with EndpointPool(session, endpoints, token=request.holder, by=request.owner.movie) as pool:
        return await request.production(pool, request.store(session.cluster), reporter).run()


async def render_alone(
    session: Session,
    nodes: int,
    request: RenderRequest,
    reporter: Reporter,
    announce: Callable[[Booking], Awaitable[None]],
) -> Outcome:
    """Render what is left of a movie with nodes that are asked for here, and given back whatever happens. Where nothing
    is left to render no nodes are asked for: a movie that failed at encoding needs none again.

    :param nodes: how many nodes to ask for.
    :param request: not prepared; that is done here.
    :param announce: a function that is told of the booking.
    """
    cluster, owner = session.cluster, request.owner
    request = await request.prepared(cluster)
    if outcome := await request.production(FixedServices([]), request.store(cluster), reporter).look():
        return outcome
    asked = booking_for_movie(session.settings, nodes, request.how.plugins)
    try:
        booking = await book(cluster, asked.settings, owner, nodes=asked.nodes, plugins=asked.plugins, at_least=1)
        await announce(booking)
        outcome = await render_with(session, booking, request, reporter)
    except BaseException as error:
        told_to_stop = isinstance(error, asyncio.CancelledError)
        await asyncio.shield(give_back(cluster, owner, session.log, told_to_stop=told_to_stop))
        raise
    try:
        await cluster.release(owner.name)
    except Exception as error:  # the frames are there, and a release that fails must not cost them
        session.log.warning("%s", reason_of(error))
        await give_back(cluster, owner, session.log, told_to_stop=False)
    return outcome


def booking_for_movie(settings: ClusterSettings, nodes: int, plugins: Sequence[str]) -> BookingRequest:
    """What a movie with nodes of its own asks for."""
    return BookingRequest(settings_for_movies(settings), nodes, plugins, "to render")


def settings_for_movies(settings: ClusterSettings) -> ClusterSettings:
    """The settings for a movie: each node has a job of its own where nothing else is asked for, so that rendering
    starts with the first that comes free.
    """
    if "packing" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"packing": "job_per_node"})
