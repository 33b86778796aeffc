"""Rendering frames, encoding them, and both with an allocation of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import AssetAlias, Context
from airflow.sdk.definitions.asset import Asset
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns import __version__
from airflow_brayns.booking import Booking, book
from airflow_brayns.brayns.readiness import NotYet, parse_endpoint, probe
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.endpoint import reachable
from airflow_brayns.errors import InvalidSetting, ServiceFailed
from airflow_brayns.links.cluster import SlurmJobLink
from airflow_brayns.movie.encode import Encoded, Encoding, encode_movie, make_poster, make_sheet
from airflow_brayns.movie.manifest import NAME as MANIFEST
from airflow_brayns.movie.manifest import Header, Manifest, digest
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.production import FIRST_FRAME_SECONDS, Outcome, Production
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.store import FolderStore, remove_frames, survey_folder
from airflow_brayns.movie.supply import FixedSupply, Station
from airflow_brayns.movie.way import RENDER_IMAGE, SNAPSHOT
from airflow_brayns.operators.base import BraynsOperator, booking_of, is_set, started_of, whole_number, word_list
from airflow_brayns.operators.cluster import announce
from airflow_brayns.operators.report import TaskReporter
from airflow_brayns.render import Rendering, already_rendered, files_of, movie_metadata, render_with
from airflow_brayns.settings import ClusterSettings, literal

_SUFFIXES = (".yaml", ".yml", ".json")


def read_specification(operator: BraynsOperator, value: Any, context: Context | None) -> MovieSpecification:
    """A specification as it was given: a file's path, YAML or JSON, or plain values.

    :param context: a file's text is a template too, rendered with this; None to take it as it is.
    :raises InvalidSetting: naming the key and, in a file, its line.
    """
    if isinstance(value, MovieSpecification):
        return value
    if isinstance(value, str) and "\n" not in value and value.strip().endswith(_SUFFIXES):
        render = None if context is None else lambda text: operator.render_template(text, context)
        found = MovieSpecification.read_file(Path(value.strip()).expanduser(), render)
    elif isinstance(value, str):
        plain = literal(value) if value.lstrip()[:1] == "{" else value
        found = MovieSpecification.check(plain) if isinstance(plain, dict) else MovieSpecification.read(value)
    elif isinstance(value, Mapping):
        found = MovieSpecification.check(dict(value))
    else:
        raise InvalidSetting("specification", f"must be a file's path, YAML, JSON or a dict, not {value!r}")
    if operator.read_settings().scheduler == "local":
        for index, model in enumerate(found.models):
            if not Path(model.path).exists():
                raise InvalidSetting(f"models.{index}.path", f"{model.path} does not exist on this machine")
    return found


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


def seconds_of(field: str, value: Any) -> float | None:
    """A number of seconds or a timedelta that may have been templated.

    :raises InvalidSetting: naming the field.
    """
    if not is_set(value):
        return None
    try:
        seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    except (TypeError, ValueError):
        raise InvalidSetting(field, f"must be a number of seconds, not {value!r}") from None
    if seconds <= 0:
        raise InvalidSetting(field, f"must be more than 0 seconds, not {value!r}")
    return seconds


def drop_frames(folder: Path) -> None:
    """Take a movie's frames away, and their folder if nothing else is in it; the movie is made, so nothing here fails."""
    with contextlib.suppress(OSError):
        remove_frames(folder)


class _MovieOperator(BraynsOperator):
    """What rendering takes.

    :param specification: the movie: path of a YAML or JSON file on the worker (its text is a template too), its text, or a
        dict; see `airflow_brayns.movie.specification.MovieSpecification` (templated)
    :param way: `snapshot` or `render-image`; None to try both on the first frame and take the faster (templated)
    :param renew_before: seconds before an allocation's end at which the next one is queued, if the movie will not be done by
        then; None for no next one (templated)
    :param frame_timeout: seconds that the first frame may take; later ones have time-outs learnt from those rendered.
    :param load_timeout: seconds that a model may take to load.
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "specification", "way", "renew_before")
    template_fields_renderers = {**BraynsOperator.template_fields_renderers, "specification": "yaml"}

    def __init__(
        self,
        *,
        specification: Any,
        way: str | None = None,
        renew_before: timedelta | float | str | None = None,
        frame_timeout: timedelta | float = FIRST_FRAME_SECONDS,
        load_timeout: timedelta | float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.specification = specification
        self.way = way
        self.renew_before = renew_before
        self.frame_timeout = frame_timeout
        self.load_timeout = load_timeout

    def rendering(self, plugins: Sequence[str]) -> Rendering:
        """How it is rendered.

        :raises InvalidSetting: naming the field.
        """
        way = self.way if is_set(self.way) else None
        if way not in (None, SNAPSHOT, RENDER_IMAGE):
            raise InvalidSetting("way", f"{way!r} is none of {SNAPSHOT}, {RENDER_IMAGE}")
        return Rendering(
            tuple(plugins),
            way,
            seconds_of("renew_before", self.renew_before),
            seconds_of("frame_timeout", self.frame_timeout) or FIRST_FRAME_SECONDS,
            seconds_of("load_timeout", self.load_timeout) or 3600.0,
        )

    def movie_of(self, context: Context) -> str:
        """Whose frames these are: this task of this run, whichever try."""
        ti = context["ti"]
        return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{-1 if ti.map_index is None else ti.map_index}"

    def driver(self, context: Context) -> str:
        """Token of this process: another one for each, also where the same try goes on in another process."""
        return f"{str(context['ti'].id)[:18]}-{secrets.token_hex(4)}"

    async def render(
        self,
        context: Context,
        poller: Poller,
        settings: ClusterSettings,
        booking: Booking,
        specification: MovieSpecification,
        folder: Path,
        how: Rendering,
        files: str,
    ) -> Outcome:
        """Every frame that is left."""
        driver = self.driver(context)
        return await render_with(
            poller,
            settings,
            booking,
            specification,
            FolderStore(folder, self.movie_of(context), driver),
            TaskReporter(self.log, context),
            how,
            driver=driver,
            owner=self.token(context),
            about=self.about(context),
            log=self.log,
            files=files,
        )


class RenderFramesOperator(_MovieOperator):
    """Renders what is left of a movie's frames with all services of an allocation, a file each. Returns the folder.

    Each service takes the next frame as it is free and joins as it becomes usable. A retry goes on from the frames that are
    whole; a changed specification renders again what it changes.

    :param frames_dir: folder on the worker for the frames, `00000.png` and so on, and their manifest (templated)
    :param allocation: what the services run in (XCom key `allocation`, or what `StartBraynsServiceOperator` returned) (templated)
    :param endpoints: where there is no allocation: `host:port` of services. They may not be ours alone and cannot be started
        anew, so frames are rendered by `snapshot` (templated)
    """

    template_fields: Sequence[str] = (*_MovieOperator.template_fields, "frames_dir", "allocation", "endpoints")

    def __init__(self, *, frames_dir: str, allocation: Any = None, endpoints: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.frames_dir = frames_dir
        self.allocation = allocation
        self.endpoints = endpoints

    def execute(self, context: Context) -> str:
        """Render."""
        settings = self.read_settings()
        try:
            specification = read_specification(self, self.specification, context)
            folder = check_output(str(Path(self.frames_dir) / "frame"), "frames_dir").parent
            booking = booking_of(self.allocation) if is_set(self.allocation) else None
            plugins = started_of(self.allocation).get("plugins") or [] if booking else []
            how = self.rendering(plugins)
            endpoints = word_list("endpoints", self.endpoints)
            if booking is None and not endpoints:
                raise InvalidSetting("allocation", "give the allocation to render with, or endpoints")
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error

        async def main() -> Outcome:
            if booking is None:
                return await self._render_at(context, settings, endpoints, specification, folder, how)
            async with self.hook.connect(settings) as poller:
                files = await files_of(poller.cluster, specification)
                return await self.render(context, poller, settings, booking, specification, folder, how, files)

        outcome = self.block(main())
        self.log.info("%d frames rendered, %d were there: %s", outcome.rendered, len(outcome.survey.done), folder)
        return str(folder)

    async def _render_at(
        self,
        context: Context,
        settings: ClusterSettings,
        endpoints: list[str],
        specification: MovieSpecification,
        folder: Path,
        how: Rendering,
    ) -> Outcome:
        """With services that somebody else looks after."""
        async with reachable(self.hook, settings, endpoints) as near:
            stations = []
            for told, endpoint in zip(endpoints, near, strict=True):
                try:
                    usable = await probe(*parse_endpoint(endpoint))
                except (NotYet, ServiceFailed) as error:
                    self.log.warning("%s will not render: %s", told, error)
                    continue
                stations.append(Station(endpoint, told, told.rpartition(":")[0], version=usable.version, owned=False))
            if not stations:
                raise ServiceFailed(f"endpoints: none of {', '.join(endpoints)} is a usable braynsService.")
            store = FolderStore(folder, self.movie_of(context), self.driver(context))
            return await Production(
                specification, FixedSupply(stations), store, TaskReporter(self.log, context), way=how.way,
                frame_timeout=how.frame_timeout, load_timeout=how.load_timeout,
            ).run()  # fmt: skip


class _Encodes(BraynsOperator):
    """What is done with a movie once its frames are there."""

    poster: bool
    contact_sheet: bool

    async def encode(
        self,
        folder: Path,
        target: Path,
        encoding: Encoding,
        frames: int | None,
        first: int | None,
        metadata: Mapping[str, Any],
    ) -> Encoded:
        """Encode, with progress in the log, and make the pictures beside it."""
        told = -1

        def progress(done: int, total: int) -> None:
            nonlocal told
            if (share := 10 * done // max(total, 1)) > told:
                told = share
                self.log.info("%d of %d frames encoded", done, total)

        made = await encode_movie(
            folder, target, encoding, frames=frames, first=first, metadata=metadata, progress=progress
        )
        self.log.info("The movie is %s", made.text())
        if self.poster:
            self.log.info("A picture of it: %s", await asyncio.to_thread(make_poster, folder, target))
        if self.contact_sheet:
            self.log.info("Frames of it: %s", await asyncio.to_thread(make_sheet, folder, target))
        return made

    def announce_asset(self, context: Context, made: Encoded, metadata: Mapping[str, Any]) -> None:
        """Tell those who wait for the movie: each of the task's outlets gets an event that says what was made."""
        extra = {
            "path": str(made.path),
            "frames": made.frames,
            "seconds": round(made.duration, 3),
            "resolution": [made.width, made.height],
            "codec": made.codec,
            "bytes": made.bytes,
            "manifest_sha256": metadata.get("manifest_sha256", ""),
        }
        events: Any = context.get("outlet_events")
        for outlet in self.outlets if events is not None else ():
            if isinstance(outlet, AssetAlias):
                events[outlet].add(Asset(made.path.as_uri()), extra=extra)
            elif isinstance(outlet, Asset):
                events[outlet].extra = extra


def encoding_of(codec: Any, fps: Any, crf: Any) -> Encoding:
    """An encoding whose fields may have been templated.

    :raises InvalidSetting: naming the field.
    """
    try:
        rate = float(fps)
    except (TypeError, ValueError):
        raise InvalidSetting("fps", f"must be a number, not {fps!r}") from None
    return Encoding(str(codec), rate, whole_number("crf", crf) if is_set(crf) else None)


def manifest_of(folder: Path) -> tuple[Manifest, str]:
    """A folder's manifest and its SHA-256; empty where there is none."""
    path = folder / MANIFEST
    if not path.exists():
        return Manifest(None, {}), ""
    data = path.read_bytes()
    return Manifest.read(data.decode("utf-8", "replace").splitlines()), digest(data)


def whole_sequence(folder: Path, manifest: Manifest, header: Header) -> int:
    """How many frames a folder has, all of them whole and of its movie.

    :raises AirflowFailException: some are missing, damaged or of another movie; listing them.
    """
    plan = Plan(MovieSpecification.check(header.specification), SceneFacts.from_plain(header.facts), header.scene)
    survey = survey_folder(folder, plan, manifest)
    if survey.left:
        raise AirflowFailException(
            f"frames: {len(survey.left)} of {len(plan.frames)} in {folder} cannot be encoded: {survey.text()}. Clear the task that "
            "renders them: it renders only these."
        )
    return len(plan.frames)


class EncodeMovieOperator(_Encodes):
    """Encodes a folder of frames to a movie on the worker. Returns the movie's path.

    Refuses a sequence with gaps, listing them, and looks into what came out: number of frames, duration, size. What the
    manifest knows is written into the file. Each of `outlets` gets an event with the movie's path and properties.

    :param frames_dir: folder with the frames (templated)
    :param output_file: the movie; its ending must suit the codec (templated)
    :param codec: `h264`, `h265`, `vp9`, `prores` or `gif` (templated)
    :param fps: frames a second (templated)
    :param crf: quality, lower is better; None for a good one (templated)
    :param frames: how many there must be; None for as many as there are (templated)
    :param keep_frames: whether the folder of frames stays when the movie is made.
    :param poster: whether to keep the frame in the middle beside the movie, as `….poster.jpg`.
    :param contact_sheet: whether to put frames on one sheet beside it, as `….sheet.jpg`.
    """

    template_fields: Sequence[str] = (
        *BraynsOperator.template_fields, "frames_dir", "output_file", "codec", "fps", "crf", "frames",
    )  # fmt: skip

    def __init__(
        self,
        *,
        frames_dir: str,
        output_file: str,
        codec: str = "h264",
        fps: float | str = 25,
        crf: int | str | None = None,
        frames: int | str | None = None,
        keep_frames: bool = True,
        poster: bool = True,
        contact_sheet: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.frames_dir = frames_dir
        self.output_file = output_file
        self.codec = codec
        self.fps = fps
        self.crf = crf
        self.frames = frames
        self.keep_frames = keep_frames
        self.poster = poster
        self.contact_sheet = contact_sheet

    def execute(self, context: Context) -> str:
        """Encode."""
        try:
            target = check_output(str(self.output_file))
            encoding = encoding_of(self.codec, self.fps, self.crf)
            encoding.check_output(target)
            frames = None if not is_set(self.frames) else whole_number("frames", self.frames)
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        folder = Path(self.frames_dir)
        manifest, sha256 = manifest_of(folder)
        metadata: dict[str, Any] = {"airflow-brayns": __version__, "manifest_sha256": sha256}
        if (header := manifest.header) is not None:
            metadata |= {"specification": header.specification, "braynsService": header.version, "way": header.way}
            frames = whole_sequence(folder, manifest, header)
        made = self.block(self.encode(folder, target, encoding, frames, None, metadata))
        self.announce_asset(context, made, metadata)
        if not self.keep_frames:
            drop_frames(folder)
        return str(made.path)


class BraynsMovieOperator(_MovieOperator, _Encodes):
    """Allocates, renders, encodes and gives back, as one task that holds one pool slot. Returns the movie's path.

    Rendering starts with the first node that is there. The nodes are given back before the movie is encoded. A retry
    allocates anew and goes on from the frames that are whole.

    :param output_file: the movie on the worker; None for the specification's `output` (templated)
    :param nodes: how many nodes, a service each (templated)
    :param plugins: plugins to load (templated)
    :param frames_dir: folder for the frames; None for one beside the movie (templated)
    :param keep_frames: whether the frames stay when the movie is made.
    :param poster: whether to keep the frame in the middle beside the movie, as `….poster.jpg`.
    :param contact_sheet: whether to put frames on one sheet beside it, as `….sheet.jpg`.
    """

    template_fields: Sequence[str] = (*_MovieOperator.template_fields, "output_file", "nodes", "plugins", "frames_dir")
    operator_extra_links = (SlurmJobLink(),)

    def __init__(
        self,
        *,
        output_file: str | None = None,
        nodes: int | str = 1,
        plugins: Sequence[str] | str = ("braynsCircuitExplorer",),
        frames_dir: str | None = None,
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
        self.keep_frames = keep_frames
        self.poster = poster
        self.contact_sheet = contact_sheet

    def execute(self, context: Context) -> str:
        """The whole movie."""
        settings = settings_for_movies(self.read_settings())
        try:
            specification = read_specification(self, self.specification, context)
            target = check_output(str(self.output_file if is_set(self.output_file) else specification.output))
            encoding = Encoding(specification.codec, specification.fps, specification.crf)
            encoding.check_output(target)
            nodes, plugins = whole_number("nodes", self.nodes), word_list("plugins", self.plugins)
            settings.request(nodes)
            settings.service(tuple(plugins))
            how = self.rendering(plugins)
            folder = target.with_name(f"{target.stem}.frames-{self.name_for(context)}")
            if is_set(self.frames_dir):
                folder = check_output(str(Path(str(self.frames_dir)) / "frame"), "frames_dir").parent
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error

        async def main() -> tuple[Encoded, dict[str, Any]]:
            outcome = await self._frames(context, settings, specification, folder, nodes, how)
            _, sha256 = manifest_of(folder)
            metadata = movie_metadata(outcome, sha256, [("airflow-brayns", __version__)])
            frames = outcome.plan.frames
            return await self.encode(folder, target, encoding, len(frames), frames[0], metadata), metadata

        made, metadata = self.block(main())
        self.announce_asset(context, made, metadata)
        if not self.keep_frames:
            drop_frames(folder)
        return str(made.path)

    async def _frames(
        self,
        context: Context,
        settings: ClusterSettings,
        specification: MovieSpecification,
        folder: Path,
        nodes: int,
        how: Rendering,
    ) -> Outcome:
        """Every frame, with nodes that are given back whatever happens."""
        name, token = self.name_for(context), self.token(context)
        async with self.hook.connect(settings) as poller:
            files = await files_of(poller.cluster, specification)
            store = FolderStore(folder, self.movie_of(context), self.driver(context))
            reporter = TaskReporter(self.log, context)
            if outcome := await already_rendered(specification, store, reporter, how, files):
                return outcome
            try:
                booking = await book(
                    poller.cluster, settings, name, token, nodes=nodes, plugins=how.plugins, about=self.about(context)
                )
                announce(self, context, booking, settings)
                outcome = await self.render(context, poller, settings, booking, specification, folder, how, files)
            except BaseException:
                await asyncio.shield(self.give_back(poller.cluster, name, token))
                raise
            try:
                await poller.cluster.release(name)
            except Exception as error:  # the frames are there: a release that fails must not cost them
                self.log.warning("%s", error)
                await self.give_back(poller.cluster, name, token)
            return outcome


def settings_for_movies(settings: ClusterSettings) -> ClusterSettings:
    """A job for each node, where nothing else is asked for: rendering starts with the first that comes free."""
    if "packing" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"packing": "job_per_node"})
