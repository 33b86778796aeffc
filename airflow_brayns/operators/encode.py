"""The operator that encodes frames to a movie, where the frames are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import AssetAlias, Context
from airflow.sdk.definitions.asset import Asset

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.links import keys
from airflow_brayns.links.cluster import MovieLink
from airflow_brayns.movie.codecs import Encoding, EncodingChoice, rate_of
from airflow_brayns.movie.ffmpeg import Encoded
from airflow_brayns.movie.parts import beside
from airflow_brayns.movie.rendered import incomplete as incomplete  # DAGs of 0.2.0 may import it from here
from airflow_brayns.movie.rendered import rendered_in
from airflow_brayns.rendering.encode import EncodeRequest, booking_for_encoding, encode_here, encode_on_cluster
from airflow_brayns.rendering.frames_script import check_folder
from airflow_brayns.services.booking import BookingRequest
from airflow_brayns.task.fields import is_set, whole_number
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.handover import announce
from airflow_brayns.task.movie_fields import check_output, drop_frames, is_on_cluster
from airflow_brayns.task.operator import BraynsOperator
from airflow_brayns.version import __version__

MADE_BY: dict[str, Any] = {"airflow-brayns": __version__}


class EncodesMovies(BraynsOperator):
    """The part of a movie's operator that encodes, once the frames are there."""

    fetch: str | None
    poster: bool
    contact_sheet: bool
    allocates = True  # a node of the cluster, where the frames are on the cluster

    def target_of(self, output: str, encoding: Encoding | None, on_cluster: bool) -> Path:
        """Where the movie goes.

        :param encoding: None where only the manifest tells it.
        :raises InvalidSetting: it cannot go there.
        """
        target = Path(check_folder(output, "output_file")) if on_cluster else check_output(output)
        if encoding is not None:
            encoding.check_output(target)
        return target

    def encode_request(
        self,
        context: Context,
        folder: str,
        target: Path | None,
        encoding: Encoding | EncodingChoice,
        frames: int | None = None,
    ) -> EncodeRequest:
        """The request that says what is encoded, and how.

        :raises InvalidSetting: `fetch` cannot be written.
        """
        near = check_output(str(self.fetch), "fetch") if is_set(self.fetch) else None
        return EncodeRequest(
            folder, target, encoding, self.poster, self.contact_sheet, self.owner_of(context), frames, near
        )

    def _booking_there(self) -> list[BookingRequest]:
        return [booking_for_encoding(self.read_settings())]

    def encode_on_cluster(self, context: Context, request: EncodeRequest) -> tuple[Encoded, dict[str, Any]]:
        """Encode on the cluster, in a small job of its own; return the movie that was made, and what is known of it."""
        settings = self.read_settings()

        async def main() -> tuple[Encoded, dict[str, Any]]:
            async with self.hook.session(self.log) as session:
                return await encode_on_cluster(
                    session, request, MADE_BY, lambda booking: announce(self, context, booking, settings)
                )

        return self.block(main())

    def announce_asset(self, context: Context, made: Encoded, metadata: Mapping[str, Any]) -> None:
        """Tell those who wait for the movie: each of the task's outlets gets an event that describes it."""
        extra = {
            "path": str(made.path),
            "frames": made.frames,
            "seconds": round(made.duration, 3),
            "resolution": [made.width, made.height],
            "codec": made.codec,
            "bytes": made.bytes,
            "manifest_sha256": metadata.get("manifest_sha256", ""),
        }
        poster, sheet = beside(made.path)
        pictures = {"poster": poster if self.poster else None, "contact_sheet": sheet if self.contact_sheet else None}
        told = {name: str(path) for name, path in {"movie": made.path, **pictures}.items() if path is not None}
        context["ti"].xcom_push(key=keys.MOVIE, value=told)
        events: Any = context.get("outlet_events")
        for outlet in self.outlets if events is not None else ():
            if isinstance(outlet, AssetAlias):
                events[outlet].add(Asset(made.path.as_uri()), extra=extra)
            elif isinstance(outlet, Asset):
                events[outlet].extra = extra


def encoding_of(codec: Any, fps: Any, crf: Any) -> EncodingChoice:
    """What was chosen of an encoding, in fields that may have been templated.

    :raises InvalidSetting: a value cannot work; the error names the field.
    """
    try:
        rate = rate_of(fps) if is_set(fps) else None
    except ValueError as error:
        raise InvalidSetting("fps", str(error)) from None
    return EncodingChoice(
        str(codec) if is_set(codec) else None, rate, whole_number("crf", crf) if is_set(crf) else None
    )


class EncodeMovieOperator(EncodesMovies):
    """Encodes a folder of frames to a movie, where the frames are. Returns the movie's path.

    What is encoded is what the manifest beside the frames says, each frame compared with it; what else lies in the folder does
    not matter. How it is encoded is what its specification says, where nothing else is asked for. Refuses a sequence with gaps, listing them, and looks into what came out: number of frames, duration, size. What
    the manifest knows is written into the file. Of two that encode to one output at once, the one that is finished last stays,
    whole. Each of `outlets` gets an event with the movie's path and properties.

    :param frames_dir: folder with the frames (templated)
    :param output_file: the movie; its ending must suit the codec; None for the specification's `output` (templated)
    :param codec: `h264`, `h265`, `vp9`, `prores`, `gif`, or for a picture `png` or `jpg`; None for the specification's, or, in a folder without a manifest,
        `h264` (templated)
    :param fps: frames a second, a number or a text such as `30000/1001`; None for the specification's, or 25 (templated)
    :param crf: quality, lower is better; None for the specification's, or a good one (templated)
    :param frames: how many there must be; None for as many as the manifest's movie has, or, in a folder without a manifest, as
        there are (templated)
    :param frames_on: `worker`, or `cluster`: then a small job of one node encodes, and `output_file` is a path there (templated)
    :param fetch: with frames on the cluster: where to bring the movie on the worker; None to leave it there (templated)
    :param keep_frames: whether the folder of frames stays when the movie is made; on the cluster it always does.
        Default True.
    :param poster: whether to keep the frame in the middle beside the movie, as `….poster.jpg`; default True.
    :param contact_sheet: whether to put frames on one sheet beside it, as `….sheet.jpg`; default True.
    """

    template_fields: Sequence[str] = (
        *BraynsOperator.template_fields, "frames_dir", "output_file", "codec", "fps", "crf", "frames", "frames_on", "fetch",
    )  # fmt: skip
    operator_extra_links = (MovieLink(),)

    def __init__(
        self,
        *,
        frames_dir: str,
        output_file: str | None = None,
        codec: str | None = None,
        fps: float | str | None = None,
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

    def bookings(self) -> list[BookingRequest]:
        """See `BraynsOperator.bookings`: nothing, where the worker encodes."""
        return self._booking_there() if is_on_cluster(self.frames_on) else []

    @guarded
    def execute(self, context: Context) -> str:
        """Encode the frames, and return the movie's path."""
        choice = encoding_of(self.codec, self.fps, self.crf)
        told = choice.over(Encoding(choice.codec)) if choice.codec else None  # what cannot be is refused at once
        on_cluster = is_on_cluster(self.frames_on)
        target = self.target_of(str(self.output_file), told, on_cluster) if is_set(self.output_file) else None
        frames = whole_number("frames", self.frames) if is_set(self.frames) else None
        request = self.encode_request(context, str(self.frames_dir), target, choice, frames)
        if on_cluster:
            made, known = self.encode_on_cluster(context, request)
        else:
            made, known = self.block(self._encode_here(request))
            if not self.keep_frames:
                drop_frames(Path(request.folder))
        self.announce_asset(context, made, known)
        return str(made.path)

    async def _encode_here(self, request: EncodeRequest) -> tuple[Encoded, dict[str, Any]]:
        files, known = await asyncio.to_thread(rendered_in, Path(request.folder), request.frames)
        known = MADE_BY | known
        return await encode_here(request, files, known, self.log), known
