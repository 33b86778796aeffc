"""The operator that makes a whole movie with an allocation of its own; those that render and encode alone can be
imported from here too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import Context

from airflow_brayns.links.cluster import MovieLink, SlurmJobLink
from airflow_brayns.movie.ffmpeg import Encoded
from airflow_brayns.movie.production import Outcome
from airflow_brayns.movie.rendered import just_rendered
from airflow_brayns.operators.encode import MADE_BY, EncodeMovieOperator, EncodesMovies
from airflow_brayns.operators.frames import RenderFramesOperator, RendersFrames
from airflow_brayns.rendering.encode import EncodeRequest, encode_here
from airflow_brayns.rendering.render import RenderRequest, booking_for_movie, render_alone

# DAGs of 0.2.0 may import it from here
from airflow_brayns.rendering.render import settings_for_movies as settings_for_movies
from airflow_brayns.services.booking import BookingRequest
from airflow_brayns.task.fields import is_set, whole_number, word_list
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.handover import announce
from airflow_brayns.task.movie_fields import drop_frames, read_specification
from airflow_brayns.task.report import TaskReporter

__all__ = ["BraynsMovieOperator", "EncodeMovieOperator", "RenderFramesOperator"]


class BraynsMovieOperator(RendersFrames, EncodesMovies):
    """Allocates, renders, encodes and gives back, as one task that holds one pool slot. Returns the movie's path.

    Rendering starts with the first node that is there. The nodes are given back before the movie is encoded. A retry
    allocates anew and goes on from the frames that are whole.

    :param output_file: the movie's path on the worker; None for the specification's `output` (templated)
    :param nodes: how many nodes, with a service each; default 1 (templated)
    :param plugins: names of the plugins to load; default `braynsCircuitExplorer` (templated)
    :param frames_dir: the folder for the frames; None for one beside the movie (templated)
    :param fetch: with frames on the cluster, the path on the worker to bring the movie to; None to leave it there
        (templated)
    :param keep_frames: whether the frames stay when the movie is made; on the cluster they always do. Default False.
    :param poster: whether to keep the frame in the middle beside the movie, as `….poster.jpg`; default True.
    :param contact_sheet: whether to put frames on one sheet beside it, as `….sheet.jpg`; default True.
    """

    template_fields: Sequence[str] = (
        *RendersFrames.template_fields,
        "output_file",
        "nodes",
        "plugins",
        "frames_dir",
        "fetch",
    )
    operator_extra_links = (SlurmJobLink(), MovieLink())

    def __init__(
        self,
        *,
        output_file: str | None = None,
        nodes: int | str = 1,
        plugins: Sequence[str] | str = ("braynsCircuitExplorer",),
        frames_dir: str | None = None,
        fetch: str | None = None,
        keep_frames: bool = False,
        poster: bool = True,
        contact_sheet: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.output_file = output_file
        self.nodes = nodes
        self.plugins = plugins
        self.frames_dir = frames_dir
        self.fetch = fetch
        self.keep_frames = keep_frames
        self.poster = poster
        self.contact_sheet = contact_sheet

    def bookings(self) -> list[BookingRequest]:
        """See `BraynsOperator.bookings`: for the frames and, where they stay on the cluster, for encoding them."""
        nodes, plugins = whole_number("nodes", self.nodes), word_list("plugins", self.plugins)
        frames = booking_for_movie(self.read_settings(), nodes, plugins)
        return [frames, *(self._booking_there() if self.on_cluster() else [])]

    @guarded
    def execute(self, context: Context) -> str:
        """Make the whole movie, and return its path."""
        frames, movie, nodes = self._read(context)
        rendering = self._frames(context, frames, nodes)
        if frames.on_cluster:
            self.block(rendering())
            made, known = self.encode_on_cluster(context, movie)
        else:
            made, known = self.block(self._encoded_here(rendering, movie))
            if not self.keep_frames:
                drop_frames(Path(movie.folder))
        self.announce_asset(context, made, known)
        return str(made.path)

    def _read(self, context: Context) -> tuple[RenderRequest, EncodeRequest, int]:
        """Read the fields: the request to render, the request to encode, and the number of nodes.

        :raises InvalidSetting: a value cannot work; the error names the field.
        """
        specification = read_specification(self, self.specification, context)
        encoding = specification.encoding
        output = str(self.output_file if is_set(self.output_file) else specification.output)
        target = self.target_of(output, encoding, self.on_cluster())
        for asked in self.bookings():
            asked.jobs()  # what cannot work fails here
        nodes, plugins = whole_number("nodes", self.nodes), word_list("plugins", self.plugins)
        if is_set(self.frames_dir):
            folder = self.folder_of(str(self.frames_dir))
        else:  # the folder is the same for every try
            folder = str(target.with_name(f"{target.stem}.frames-{self.owner_of(context).name}"))
        frames = self.request(context, specification, folder, plugins)
        return frames, self.encode_request(context, folder, target, encoding), nodes

    def _frames(
        self, context: Context, request: RenderRequest, nodes: int
    ) -> Callable[[], Coroutine[Any, Any, Outcome]]:
        """The function that renders every frame, with nodes that are given back whatever happens. Airflow is asked
        here, before a loop runs.
        """
        settings = self.read_settings()
        reporter = TaskReporter(self.log, context, "" if request.on_cluster else request.folder)

        async def main() -> Outcome:
            async with self.hook.session(self.log) as session:
                return await render_alone(
                    session, nodes, request, reporter,
                    lambda booking: announce(self, context, booking, settings),
                )  # fmt: skip

        return main

    async def _encoded_here(
        self, rendering: Callable[[], Coroutine[Any, Any, Outcome]], request: EncodeRequest
    ) -> tuple[Encoded, dict[str, Any]]:
        """Render and encode in one coroutine, so that both stop when the task is told to."""
        outcome = await rendering()
        files, known = await asyncio.to_thread(just_rendered, Path(request.folder), outcome.plan, outcome.header)
        known = MADE_BY | known
        return await encode_here(request, files, known, self.log), known
