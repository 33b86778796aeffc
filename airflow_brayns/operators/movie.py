"""A whole movie with an allocation of its own; the operators that render and encode alone are to be had from here too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns import __version__
from airflow_brayns.booking import book
from airflow_brayns.cluster_store import check_folder
from airflow_brayns.errors import InvalidSetting, reason_of
from airflow_brayns.links.cluster import SlurmJobLink
from airflow_brayns.movie.encode import Encoded, Encoding, static_ffmpeg
from airflow_brayns.movie.manifest import Manifest
from airflow_brayns.movie.production import Outcome
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.operators.base import (
    is_set,
    whole_number,
    word_list,
)
from airflow_brayns.operators.cluster import announce
from airflow_brayns.operators.encode import EncodeMovieOperator, EncodesMovies, read_manifest, whole_frames
from airflow_brayns.operators.fields import check_output, drop_frames, read_specification
from airflow_brayns.operators.frames import RenderFramesOperator, RendersFrames
from airflow_brayns.operators.report import TaskReporter
from airflow_brayns.render import Rendering, already_rendered, files_of, movie_metadata, place_for_frames
from airflow_brayns.settings import ClusterSettings

__all__ = ["BraynsMovieOperator", "EncodeMovieOperator", "RenderFramesOperator"]


class BraynsMovieOperator(RendersFrames, EncodesMovies):
    """Allocates, renders, encodes and gives back, as one task that holds one pool slot. Returns the movie's path.

    Rendering starts with the first node that is there. The nodes are given back before the movie is encoded. A retry
    allocates anew and goes on from the frames that are whole.

    :param output_file: the movie on the worker; None for the specification's `output` (templated)
    :param nodes: how many nodes, a service each (templated)
    :param plugins: plugins to load (templated)
    :param frames_dir: folder for the frames; None for one beside the movie (templated)
    :param fetch: with frames on the cluster: where to bring the movie on the worker; None to leave it there (templated)
    :param keep_frames: whether the frames stay when the movie is made; on the cluster they always do.
    :param poster: whether to keep the frame in the middle beside the movie, as `….poster.jpg`.
    :param contact_sheet: whether to put frames on one sheet beside it, as `….sheet.jpg`.
    """

    template_fields: Sequence[str] = (
        *RendersFrames.template_fields,
        "output_file",
        "nodes",
        "plugins",
        "frames_dir",
        "fetch",
    )
    operator_extra_links = (SlurmJobLink(),)

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

    def execute(self, context: Context) -> str:
        """The whole movie."""
        settings = settings_for_movies(self.read_settings())
        try:
            specification = read_specification(self, self.specification, context)
            encoding = Encoding(specification.codec, specification.fps, specification.crf)
            output = str(self.output_file if is_set(self.output_file) else specification.output)
            target = Path(check_folder(output, "output_file")) if self.on_cluster() else check_output(output)
            encoding.check_output(target)
            near = check_output(str(self.fetch), "fetch") if is_set(self.fetch) else None
            nodes, plugins = whole_number("nodes", self.nodes), word_list("plugins", self.plugins)
            settings.request(nodes)
            settings.service(tuple(plugins))
            how = self.rendering(plugins)
            folder = self._folder(context, target)
            owner = self.name_for(context), self.about(context)  # asks Airflow, so it comes before the loop
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        if self.on_cluster():
            self.block(self._frames(context, settings, specification, folder, nodes, how, *owner))
            metadata: dict[str, Any] = {"airflow-brayns": __version__}
            made = self.encode_on_cluster(context, folder, target, encoding, metadata, near)
        else:
            made, metadata = self.block(
                self._here(context, settings, specification, Path(folder), nodes, how, target, encoding, *owner)
            )
            if not self.keep_frames:
                drop_frames(Path(folder))
        self.announce_asset(context, made, metadata)
        return str(made.path)

    def _folder(self, context: Context, target: Path) -> str:
        """Where the frames go: the same for every try."""
        if not is_set(self.frames_dir):
            return str(target.with_name(f"{target.stem}.frames-{self.name_for(context)}"))
        if self.on_cluster():
            return check_folder(str(self.frames_dir))
        return str(check_output(str(Path(str(self.frames_dir)) / "frame"), "frames_dir").parent)

    async def _here(
        self,
        context: Context,
        settings: ClusterSettings,
        specification: MovieSpecification,
        folder: Path,
        nodes: int,
        how: Rendering,
        target: Path,
        encoding: Encoding,
        name: str,
        about: str,
    ) -> tuple[Encoded, dict[str, Any]]:
        """Rendered and encoded in one go: told to stop, both do."""
        outcome = await self._frames(context, settings, specification, str(folder), nodes, how, name, about)
        found = await asyncio.to_thread(read_manifest, folder)
        manifest, sha256 = found or (Manifest(None, {}), "")
        files = await asyncio.to_thread(lambda: whole_frames(folder, outcome.plan, manifest, retry=True))
        metadata = movie_metadata(outcome, sha256, [("airflow-brayns", __version__)])
        return await self.encode(about, folder, target, encoding, metadata, files), metadata

    async def _frames(
        self,
        context: Context,
        settings: ClusterSettings,
        specification: MovieSpecification,
        folder: str,
        nodes: int,
        how: Rendering,
        name: str,
        about: str,
    ) -> Outcome:
        """Every frame, with nodes that are given back whatever happens."""
        token = self.token(context)
        async with self.hook.connect(settings) as poller:
            files = await files_of(poller.cluster, specification)
            ffmpeg = await poller.cluster.install(Path(static_ffmpeg())) if self.on_cluster() else ""
            store = place_for_frames(poller.cluster, folder, ffmpeg, self.movie_of(context), self.driver(context))(list)
            if outcome := await already_rendered(specification, store, TaskReporter(self.log, context), how, files):
                return outcome
            try:
                booking = await book(
                    poller.cluster, settings, name, token, nodes=nodes, plugins=how.plugins, about=about
                )
                await announce(self, context, booking, settings)
                outcome = await self.render(
                    context, poller, settings, booking, specification, folder, how, files, about
                )
            except BaseException:
                await asyncio.shield(self.give_back(poller.cluster, name, token))
                raise
            try:
                await poller.cluster.release(name)
            except Exception as error:  # the frames are there: a release that fails must not cost them
                self.log.warning("%s", reason_of(error))
                await self.give_back(poller.cluster, name, token)
            return outcome


def settings_for_movies(settings: ClusterSettings) -> ClusterSettings:
    """A job for each node, where nothing else is asked for: rendering starts with the first that comes free."""
    if "packing" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"packing": "job_per_node"})
