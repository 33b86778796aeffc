"""Encoding frames, where they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow.sdk import AssetAlias, Context
from airflow.sdk.definitions.asset import Asset
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns import __version__
from airflow_brayns.booking import book
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.shell import quote
from airflow_brayns.cluster_encode import Sources, encode_script, encode_there, fetch, kept_name, sums_of
from airflow_brayns.cluster_store import ClusterStore, check_folder
from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.encode import Encoded, Encoding, FrameFiles, encode_movie, static_ffmpeg
from airflow_brayns.movie.manifest import NAME as MANIFEST
from airflow_brayns.movie.manifest import Header, Manifest, digest
from airflow_brayns.movie.parts import beside, mark_of
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.store import Survey, survey_folder
from airflow_brayns.operators.base import (
    BraynsOperator,
    is_set,
    whole_number,
)
from airflow_brayns.operators.cluster import announce
from airflow_brayns.operators.fields import check_output, drop_frames, is_on_cluster


class EncodesMovies(BraynsOperator):
    """What is done with a movie once its frames are there."""

    poster: bool
    contact_sheet: bool
    allocates = True  # a node of the cluster, where the frames are there

    async def encode(
        self,
        owner: str,
        folder: Path,
        target: Path,
        encoding: Encoding,
        metadata: Mapping[str, Any],
        files: FrameFiles | None,
        frames: int | None = None,
    ) -> Encoded:
        """Encode, with progress in the log, and make the pictures beside it.

        :param owner: see `about`; found before the loop runs, since Airflow may be asked for it.
        :param files: which frames; None for those that lie in the folder.
        """
        told = -1

        def progress(done: int, total: int) -> None:
            nonlocal told
            if (share := 10 * done // max(total, 1)) > told:
                told = share
                self.log.info("%d of %d frames encoded", done, total)

        made = await encode_movie(
            folder,
            target,
            encoding,
            files=files,
            frames=frames,
            metadata=metadata,
            progress=progress,
            poster=self.poster,
            sheet=self.contact_sheet,
            owner=owner,
        )
        self.log.info("The movie is %s", made.text())
        poster, sheet = beside(target)
        if self.poster:
            self.log.info("A picture of it: %s", poster)
        if self.contact_sheet:
            self.log.info("Frames of it: %s", sheet)
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
        name, token, about = self.name_for(context), self.token(context), self.about(context)
        mark = mark_of(about)

        async def main() -> Encoded:
            async with self.hook.connect(settings) as poller:
                sources = await self._sources(about, poller, folder, metadata)
                script = encode_script(
                    sources, str(target), encoding, metadata, poster=self.poster, sheet=self.contact_sheet, mark=mark,
                    keep=near is not None,
                )  # fmt: skip
                try:
                    booking = await book(poller.cluster, settings, name, token, nodes=1, plugins=None, about=about)
                    await announce(self, context, booking, settings)
                    made, sha256 = await encode_there(
                        poller, settings, booking, script, str(target), sources, self.log, encoding.fps
                    )
                finally:
                    await asyncio.shield(self.give_back(poller.cluster, name, token))
                self.log.info("The movie is on the cluster: %s", made.text())
                if near is not None:
                    kept = kept_name(str(target), mark)
                    await fetch(poller.cluster, kept, near, sha256, made.bytes, self.log, owner=about)
                    await poller.cluster.shell.run(f"rm -f {quote(kept)}\n", 60)
                    made = replace(made, path=near)
                return made

        return self.block(main())

    async def _sources(self, about: str, poller: Poller, folder: str, metadata: dict[str, Any]) -> Sources:
        """What is encoded: all frames of the manifest's movie, whole. Tells `metadata` what they are."""
        ffmpeg = await poller.cluster.install(Path(static_ffmpeg()))
        token = f"encode-{secrets.token_hex(4)}"
        store = ClusterStore(poller.cluster, folder, ffmpeg, f"encoding {about}", token, list)
        manifest = await store.read()
        header = manifest.header
        if header is None:
            raise RenderingFailed(
                f"frames_dir: {folder} has no manifest on the cluster: nothing was rendered there. Clear the task that renders.",
                retry=False,
            )
        plan = plan_of(header)
        survey = await store.survey(plan, manifest)
        if survey.left:
            raise RenderingFailed(incomplete(folder, plan, survey), retry=False)
        known = "".join(f"{frame}:{manifest.frames[frame].sha256}\n" for frame in plan.frames)
        metadata |= known_of(header, digest(known.encode()))
        return Sources(folder, plan, ffmpeg, sums_of(plan, manifest))

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


def plan_of(header: Header) -> Plan:
    """The movie that a manifest tells of.

    :raises RenderingFailed: it tells of none.
    """
    try:
        specification = MovieSpecification.check(header.specification)
        return Plan(specification, SceneFacts.from_plain(header.facts), header.scene)
    except ValueError as error:
        raise RenderingFailed(
            f"frames_dir: the manifest tells of no movie ({error}). Clear the task that renders.", retry=False
        ) from error


def known_of(header: Header, manifest_sha256: str) -> dict[str, Any]:
    """What is written into a movie's file of where it is from."""
    return {
        "specification": header.specification,
        "braynsService": header.version,
        "way": header.way,
        "manifest_sha256": manifest_sha256,
    }


def read_manifest(folder: Path) -> tuple[Manifest, str] | None:
    """A folder's manifest and its SHA-256; None where there is none.

    :raises RenderingFailed: it cannot be read.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RenderingFailed(f"frames_dir: {folder / MANIFEST} cannot be read: {error.strerror}.") from error
    found = Manifest.read(data.decode("utf-8", "replace").splitlines()).usable()
    if found.header is None:
        raise RenderingFailed(
            f"frames_dir: {folder / MANIFEST} does not tell of which movie its frames are. Clear the task that renders them.",
            retry=False,
        )
    return found, digest(data)


def whole_frames(folder: Path, plan: Plan, manifest: Manifest, *, retry: bool = False) -> FrameFiles:
    """The files of a plan's frames, all of them as they were written: what else lies in the folder is not looked at.

    :param retry: whether the task that asks renders them itself.
    :raises RenderingFailed: some are missing, damaged or of another movie; listing them.
    """
    files = FrameFiles.look([folder / plan.file(frame) for frame in plan.frames])  # before they are found right
    survey = survey_folder(folder, plan, manifest, thorough=True)
    if survey.left:
        for frame in survey.damaged:  # so that whoever renders reads it too, though size and time are as they were
            with contextlib.suppress(OSError):
                os.utime(folder / plan.file(frame), follow_symlinks=False)
        raise RenderingFailed(incomplete(str(folder), plan, survey), retry=retry)
    return files


def incomplete(folder: str, plan: Plan, survey: Survey) -> str:
    """Why a movie is not encoded."""
    return (
        f"frames: {len(survey.left)} of {len(plan.frames)} in {folder} cannot be encoded: {survey.text()}. Clear the task that "
        "renders them: it renders only these."
    )


class EncodeMovieOperator(EncodesMovies):
    """Encodes a folder of frames to a movie, where the frames are. Returns the movie's path.

    What is encoded is what the manifest beside the frames says, each frame compared with it; what else lies in the folder does
    not matter. Refuses a sequence with gaps, listing them, and looks into what came out: number of frames, duration, size. What
    the manifest knows is written into the file. Of two that encode to one output at once, the one that is finished last stays,
    whole. Each of `outlets` gets an event with the movie's path and properties.

    :param frames_dir: folder with the frames (templated)
    :param output_file: the movie; its ending must suit the codec (templated)
    :param codec: `h264`, `h265`, `vp9`, `prores` or `gif` (templated)
    :param fps: frames a second (templated)
    :param crf: quality, lower is better; None for a good one (templated)
    :param frames: how many there must be; None for as many as the manifest's movie has, or, in a folder without a manifest, as
        there are (templated)
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
            made = self._encode_here(context, Path(self.frames_dir), target, encoding, metadata, frames)
        self.announce_asset(context, made, metadata)
        return str(made.path)

    def _encode_here(
        self,
        context: Context,
        folder: Path,
        target: Path,
        encoding: Encoding,
        metadata: dict[str, Any],
        frames: int | None,
    ) -> Encoded:
        owner = self.about(context)

        async def main() -> Encoded:
            found = await asyncio.to_thread(read_manifest, folder)
            manifest, sha256 = found or (Manifest(None, {}), "")
            metadata["manifest_sha256"], files = sha256, None
            if manifest.header is not None:
                plan = plan_of(manifest.header)
                if frames is not None and frames != len(plan.frames):
                    raise InvalidSetting("frames", f"{folder} holds a movie of {len(plan.frames)}, not of {frames}")
                files = await asyncio.to_thread(whole_frames, folder, plan, manifest)
                metadata.update(known_of(manifest.header, sha256))
            return await self.encode(owner, folder, target, encoding, metadata, files, frames)

        made = self.block(main())
        if not self.keep_frames:
            drop_frames(folder)
        return made
