"""Rendering frames, encoding them, and both with an allocation of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import reprlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import AssetAlias, Context
from airflow.sdk.definitions.asset import Asset
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns import __version__
from airflow_brayns.booking import Booking, book
from airflow_brayns.brayns.readiness import NotYet, probe
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster_encode import Sources, encode_script, encode_there, fetch
from airflow_brayns.cluster_store import ClusterStore, check_folder
from airflow_brayns.endpoint import reachable
from airflow_brayns.errors import InvalidSetting, RenderingFailed, ServiceFailed
from airflow_brayns.links.cluster import SlurmJobLink
from airflow_brayns.movie.encode import Encoded, Encoding, encode_movie, make_poster, make_sheet, static_ffmpeg
from airflow_brayns.movie.manifest import NAME as MANIFEST
from airflow_brayns.movie.manifest import Header, Manifest, digest
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.production import FIRST_FRAME_SECONDS, Outcome, Production
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.store import FolderStore, Survey, remove_frames, survey_folder
from airflow_brayns.movie.supply import FixedSupply, Station
from airflow_brayns.movie.way import RENDER_IMAGE, SNAPSHOT
from airflow_brayns.operators.base import (
    BraynsOperator,
    booking_of,
    failed,
    is_set,
    started_of,
    whole_number,
    word_list,
)
from airflow_brayns.operators.cluster import announce
from airflow_brayns.operators.report import TaskReporter
from airflow_brayns.render import Rendering, already_rendered, files_of, movie_metadata, place_for_frames, render_with
from airflow_brayns.settings import ClusterSettings, literal
from airflow_brayns.triggers.movie import RenderFramesTrigger

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
        raise InvalidSetting("specification", f"must be a file's path, YAML, JSON or a dict, not {reprlib.repr(value)}")
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
        raise InvalidSetting(field, f"{path[:200]!r} is not a path")
    try:
        os.fsencode(path)
        target = Path(path).expanduser().absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
    except (UnicodeEncodeError, RuntimeError):  # half a character; no such user's home
        raise InvalidSetting(field, f"{path[:200]!r} is not a path") from None
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
    except (TypeError, ValueError, OverflowError):
        raise InvalidSetting(field, f"must be a number of seconds, not {reprlib.repr(value)}") from None
    if not 0 < seconds <= 1e9:  # NaN is neither
        raise InvalidSetting(field, f"must be more than 0 seconds and at most 1e9, not {reprlib.repr(value)}")
    return seconds


def is_on_cluster(value: Any) -> bool:
    """`frames_on`, that may have been templated.

    :raises InvalidSetting: it is neither of both.
    """
    if value not in ("worker", "cluster"):
        raise InvalidSetting("frames_on", f"{value!r} is none of worker, cluster")
    return bool(value == "cluster")


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
    :param frames_on: `worker`: frames come over the connection; `cluster`: the services write them on the cluster's own file
        system, and a node checks them, for when no worker mounts it (templated)
    """

    template_fields: Sequence[str] = (
        *BraynsOperator.template_fields, "specification", "way", "renew_before", "frames_on",
    )  # fmt: skip
    template_fields_renderers = {**BraynsOperator.template_fields_renderers, "specification": "yaml"}

    def __init__(
        self,
        *,
        specification: Any,
        way: str | None = None,
        renew_before: timedelta | float | str | None = None,
        frame_timeout: timedelta | float = FIRST_FRAME_SECONDS,
        load_timeout: timedelta | float = 3600.0,
        frames_on: str = "worker",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.frames_on = frames_on
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

    def on_cluster(self) -> bool:
        """Whether frames stay on the cluster.

        :raises InvalidSetting: naming the field.
        """
        return is_on_cluster(self.frames_on)

    async def render(
        self,
        context: Context,
        poller: Poller,
        settings: ClusterSettings,
        booking: Booking,
        specification: MovieSpecification,
        folder: str,
        how: Rendering,
        files: str,
    ) -> Outcome:
        """Every frame that is left."""
        driver = self.driver(context)
        ffmpeg = await poller.cluster.install(Path(static_ffmpeg())) if self.on_cluster() else ""
        return await render_with(
            poller,
            settings,
            booking,
            specification,
            place_for_frames(poller.cluster, folder, ffmpeg, self.movie_of(context), driver),
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
    :param deferrable: with `frames_on="cluster"`, render from the triggerer, without a worker slot.
    """

    template_fields: Sequence[str] = (*_MovieOperator.template_fields, "frames_dir", "allocation", "endpoints")

    def __init__(
        self, *, frames_dir: str, allocation: Any = None, endpoints: Any = None, deferrable: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.frames_dir = frames_dir
        self.allocation = allocation
        self.endpoints = endpoints
        self.deferrable = deferrable

    def execute(self, context: Context) -> str:
        """Render, here or in the triggerer."""
        settings = self.read_settings()
        try:
            specification = read_specification(self, self.specification, context)
            on_cluster = self.on_cluster()
            if on_cluster:
                folder = check_folder(str(self.frames_dir))
            else:
                folder = str(check_output(str(Path(self.frames_dir) / "frame"), "frames_dir").parent)
            booking = booking_of(self.allocation) if is_set(self.allocation) else None
            plugins = started_of(self.allocation).get("plugins") or [] if booking else []
            how = self.rendering(plugins)
            endpoints = word_list("endpoints", self.endpoints)
            if booking is None and (on_cluster or not endpoints):
                others = "" if on_cluster else ", or endpoints"
                raise InvalidSetting("allocation", f"give the allocation to render with{others}")
            if self.deferrable and not on_cluster:
                raise InvalidSetting(
                    "deferrable",
                    "images must not go through the triggerer: use it with frames_on='cluster', or leave it out",
                )
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        if self.deferrable and booking is not None:
            self._defer(context, settings, specification, booking, folder, how)

        async def main() -> Outcome:
            if booking is None:
                return await self._render_at(context, settings, endpoints, specification, Path(folder), how)
            async with self.hook.connect(settings) as poller:
                files = await files_of(poller.cluster, specification)
                return await self.render(context, poller, settings, booking, specification, folder, how, files)

        outcome = self.block(main())
        self.log.info("%d frames rendered, %d were there: %s", outcome.rendered, len(outcome.survey.done), folder)
        return folder

    def _defer(
        self,
        context: Context,
        settings: ClusterSettings,
        specification: MovieSpecification,
        booking: Booking,
        folder: str,
        how: Rendering,
    ) -> None:
        async def prepare() -> tuple[str, str]:
            async with self.hook.connect(settings) as poller:
                ffmpeg = await poller.cluster.install(Path(static_ffmpeg()))
                return ffmpeg, await files_of(poller.cluster, specification)

        ffmpeg, files = self.block(prepare())
        self.defer(
            trigger=RenderFramesTrigger(
                cluster_conn_id=self.cluster_conn_id,
                overrides=self.plain_overrides,
                booking=booking.to_json(),
                specification=specification.plain(),
                folder=folder,
                ffmpeg=ffmpeg,
                files=files,
                rendering=asdict(how),
                movie=self.movie_of(context),
                owner=self.token(context),
                about=self.about(context),
            ),
            method_name="resume",
            timeout=self.execution_timeout,
        )

    def resume(self, context: Context, event: dict[str, Any]) -> str:
        """Comes back from the triggerer."""
        if event["status"] != "success":
            failed(event["message"], retry=event["retry"])
        self.log.info("%d frames rendered, %d were there: %s", event["rendered"], event["done"], event["folder"])
        return str(event["folder"])

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
            for told, one in zip(endpoints, near, strict=True):
                try:
                    usable = await probe(one.host, one.port, ssl_context=one.ssl_context)
                except (NotYet, ServiceFailed) as error:
                    self.log.warning("%s will not render: %s", told, error)
                    continue
                stations.append(
                    Station(
                        one.endpoint, told, told.rpartition(":")[0], version=usable.version, owned=False,
                        ssl_context=one.ssl_context,
                    )
                )  # fmt: skip
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

    def encode_on_cluster(
        self,
        context: Context,
        folder: str,
        target: Path,
        encoding: Encoding,
        metadata: dict[str, Any],
        near: Path | None,
    ) -> Encoded:
        """A small job of its own encodes where the frames are; the movie is brought here if it is wanted."""
        settings = self.read_settings().model_copy(update={"packing": "one_job"})
        name, token = self.name_for(context), self.token(context)

        async def main() -> Encoded:
            async with self.hook.connect(settings) as poller:
                sources = await self._sources(context, poller, folder, metadata)
                script = encode_script(
                    sources, str(target), encoding, metadata, poster=self.poster, sheet=self.contact_sheet
                )
                try:
                    booking = await book(
                        poller.cluster, settings, name, token, nodes=1, plugins=None, about=self.about(context)
                    )
                    announce(self, context, booking, settings)
                    made, sha256 = await encode_there(
                        poller, settings, booking, script, str(target), sources, self.log, encoding.fps
                    )
                finally:
                    await asyncio.shield(self.give_back(poller.cluster, name, token))
                self.log.info("The movie is on the cluster: %s", made.text())
                if near is not None:
                    await fetch(poller.cluster, str(target), near, sha256, made.bytes, self.log)
                    made = replace(made, path=near)
                return made

        return self.block(main())

    async def _sources(self, context: Context, poller: Poller, folder: str, metadata: dict[str, Any]) -> Sources:
        """What is encoded: all frames of the manifest's movie, whole. Tells `metadata` what they are."""
        ffmpeg = await poller.cluster.install(Path(static_ffmpeg()))
        token = f"encode-{secrets.token_hex(4)}"
        store = ClusterStore(poller.cluster, folder, ffmpeg, f"encoding {self.about(context)}", token, list)
        manifest = await store.open()
        try:
            header = manifest.header
            if header is None:
                raise RenderingFailed(
                    f"frames_dir: {folder} has no manifest on the cluster: nothing was rendered there.", retry=False
                )
            plan = Plan(
                MovieSpecification.check(header.specification), SceneFacts.from_plain(header.facts), header.scene
            )
            survey = await store.survey(plan, manifest)
        finally:
            await store.close()
        if survey.left:
            raise RenderingFailed(incomplete(folder, plan, survey), retry=False)
        known = "".join(f"{frame}:{manifest.frames[frame].sha256}\n" for frame in plan.frames)
        metadata |= {"specification": header.specification, "braynsService": header.version, "way": header.way}
        metadata["manifest_sha256"] = digest(known.encode())
        return Sources(folder, plan, ffmpeg)

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
        raise AirflowFailException(incomplete(str(folder), plan, survey))
    return len(plan.frames)


def incomplete(folder: str, plan: Plan, survey: Survey) -> str:
    """Why a movie is not encoded."""
    return (
        f"frames: {len(survey.left)} of {len(plan.frames)} in {folder} cannot be encoded: {survey.text()}. Clear the task that "
        "renders them: it renders only these."
    )


class EncodeMovieOperator(_Encodes):
    """Encodes a folder of frames to a movie, where the frames are. Returns the movie's path.

    Refuses a sequence with gaps, listing them, and looks into what came out: number of frames, duration, size. What the
    manifest knows is written into the file. Each of `outlets` gets an event with the movie's path and properties.

    :param frames_dir: folder with the frames (templated)
    :param output_file: the movie; its ending must suit the codec (templated)
    :param codec: `h264`, `h265`, `vp9`, `prores` or `gif` (templated)
    :param fps: frames a second (templated)
    :param crf: quality, lower is better; None for a good one (templated)
    :param frames: how many there must be; None for as many as there are (templated)
    :param frames_on: `worker`, or `cluster`: then a small job of one node encodes, and `output_file` is a path there (templated)
    :param fetch: with frames on the cluster: where to bring the movie on the worker; None to leave it there (templated)
    :param keep_frames: whether the folder of frames stays when the movie is made; on the cluster it always does.
    :param poster: whether to keep the frame in the middle beside the movie, as `….poster.jpg`.
    :param contact_sheet: whether to put frames on one sheet beside it, as `….sheet.jpg`.
    """

    template_fields: Sequence[str] = (
        *BraynsOperator.template_fields, "frames_dir", "output_file", "codec", "fps", "crf", "frames", "frames_on", "fetch",
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
        frames_on: str = "worker",
        fetch: str | None = None,
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
        self.frames_on = frames_on
        self.fetch = fetch
        self.keep_frames = keep_frames
        self.poster = poster
        self.contact_sheet = contact_sheet

    def execute(self, context: Context) -> str:
        """Encode."""
        try:
            encoding = encoding_of(self.codec, self.fps, self.crf)
            on_cluster = is_on_cluster(self.frames_on)
            output = str(self.output_file)
            target = Path(check_folder(output, "output_file")) if on_cluster else check_output(output)
            encoding.check_output(target)
            near = check_output(str(self.fetch), "fetch") if is_set(self.fetch) else None
            frames = None if not is_set(self.frames) else whole_number("frames", self.frames)
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        metadata: dict[str, Any] = {"airflow-brayns": __version__}
        if on_cluster:
            made = self.encode_on_cluster(context, str(self.frames_dir), target, encoding, metadata, near)
        else:
            made = self._encode_here(Path(self.frames_dir), target, encoding, metadata, frames)
        self.announce_asset(context, made, metadata)
        return str(made.path)

    def _encode_here(
        self, folder: Path, target: Path, encoding: Encoding, metadata: dict[str, Any], frames: int | None
    ) -> Encoded:
        manifest, metadata["manifest_sha256"] = manifest_of(folder)
        if (header := manifest.header) is not None:
            metadata |= {"specification": header.specification, "braynsService": header.version, "way": header.way}
            frames = whole_sequence(folder, manifest, header)
        made = self.block(self.encode(folder, target, encoding, frames, None, metadata))
        if not self.keep_frames:
            drop_frames(folder)
        return made


class BraynsMovieOperator(_MovieOperator, _Encodes):
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
        *_MovieOperator.template_fields,
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
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        if self.on_cluster():
            self.block(self._frames(context, settings, specification, folder, nodes, how))
            metadata: dict[str, Any] = {"airflow-brayns": __version__}
            made = self.encode_on_cluster(context, folder, target, encoding, metadata, near)
        else:
            made, metadata = self.block(
                self._here(context, settings, specification, Path(folder), nodes, how, target, encoding)
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
    ) -> tuple[Encoded, dict[str, Any]]:
        """Rendered and encoded in one go: told to stop, both do."""
        outcome = await self._frames(context, settings, specification, str(folder), nodes, how)
        metadata = movie_metadata(outcome, manifest_of(folder)[1], [("airflow-brayns", __version__)])
        frames = outcome.plan.frames
        return await self.encode(folder, target, encoding, len(frames), frames[0], metadata), metadata

    async def _frames(
        self,
        context: Context,
        settings: ClusterSettings,
        specification: MovieSpecification,
        folder: str,
        nodes: int,
        how: Rendering,
    ) -> Outcome:
        """Every frame, with nodes that are given back whatever happens."""
        name, token = self.name_for(context), self.token(context)
        async with self.hook.connect(settings) as poller:
            files = await files_of(poller.cluster, specification)
            ffmpeg = await poller.cluster.install(Path(static_ffmpeg())) if self.on_cluster() else ""
            store = place_for_frames(poller.cluster, folder, ffmpeg, self.movie_of(context), self.driver(context))(list)
            if outcome := await already_rendered(specification, store, TaskReporter(self.log, context), how, files):
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
