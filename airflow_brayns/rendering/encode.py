"""Encoding where the frames are: on the worker, or on a node of the cluster by the static ffmpeg that was copied there;
and fetching the movie from there.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.files import install
from airflow_brayns.cluster.shell import quote
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.errors import RenderingFailed
from airflow_brayns.movie.codecs import Encoding
from airflow_brayns.movie.encode import FrameFiles, check_made, described, encode_movie
from airflow_brayns.movie.ffmpeg import Encoded, duration_in, static_ffmpeg, stream_in
from airflow_brayns.movie.manifest import Manifest, digest
from airflow_brayns.movie.overlays import POSTER, Drawing
from airflow_brayns.movie.parts import beside, mark_of, part_of, stem_of
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.rendered import CLEAR, incomplete, known_of, plan_of
from airflow_brayns.movie.script import specification_of
from airflow_brayns.rendering.cluster_frames import ClusterFrames
from airflow_brayns.rendering.drawn import Drawn, drawn_beside
from airflow_brayns.rendering.encode_request import EncodeRequest as EncodeRequest
from airflow_brayns.rendering.fetch import fetch as fetch
from airflow_brayns.rendering.frames_script import check_folder, file_text
from airflow_brayns.services.booking import Booking, BookingRequest, book
from airflow_brayns.services.release import give_back
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from airflow_brayns.services.waiting import Waiting
from airflow_brayns.services.watch import AllocationWatch

_SILENT_MINUTES = 60  # a part file that nobody has written to for so long was left by a killed writer
CHANGED = 65  # exit code of the script when frames are not those that were rendered
UNPROVED = 66  # exit code of the script when its ffmpeg is not the one that was copied
UNDRAWN = 67  # exit code of the script when what is drawn over the frames did not come to the node whole


@dataclass(frozen=True)
class Sources:
    """The frames on the cluster that a movie is encoded of.

    :param folder: the absolute path of their folder.
    :param plan: the plan of the movie that they belong to.
    :param ffmpeg: path of an ffmpeg that runs on the nodes.
    :param sums: their digest, see `sums_of`; empty where none is known.
    """

    folder: str
    plan: Plan
    ffmpeg: str
    sums: str = ""


def encode_script(
    sources: Sources,
    output: str,
    encoding: Encoding,
    metadata: Mapping[str, Any],
    *,
    poster: bool,
    sheet: bool,
    mark: str = "",
    keep: bool = False,
    drawn: Drawn | None = None,
) -> str:
    """The script that a node runs to make a movie: the settings of encode.sh, and encode.sh.

    :param output: the movie's path on the cluster.
    :param metadata: what is written into the movie of where it is from.
    :param poster: whether to keep the frame in the middle beside it.
    :param sheet: whether to put frames on one sheet beside it.
    :param mark: the mark of the part files, see `movie.parts.mark_of`; empty for a mark of nobody's.
    :param keep: whether to leave a second name of the movie behind, see `kept_name`: the movie that is fetched is then
        this one, whoever writes to the same output meanwhile.
    :param drawn: what is drawn over the frames; None for nothing.
    :raises InvalidSetting: `output` is not an absolute path in one line.
    """
    target = PurePosixPath(check_folder(output, "output_file"))
    mark = mark or mark_of("")
    plan, frames = sources.plan, sources.plan.frames
    poster_file, sheet_file = beside(target)
    settings = {
        "ffmpeg": sources.ffmpeg,
        "proved": "",
        "folder": sources.folder,
        "format": plan.specification.format,
        "digits": plan.digits,
        "first": frames[0],
        "last": frames[-1],
        "step": plan.specification.step,
        "count": encoding.length(len(frames)),
        "sums": sources.sums,
        "rate": encoding.rate,
        "metadata": described(target.name.removesuffix(target.suffix), metadata).rstrip("\n"),
        "parent": target.parent,
        "movie": target,
        "movie_part": part_of(target, mark),
        "kept": kept_name(str(target), mark) if keep else "",
        "poster_of": f"{sources.folder}/{plan.file(frames[len(frames) // 2])}",
        "poster": poster_file if poster else "",
        "poster_part": part_of(poster_file, mark),
        "sheet_step": max(1, encoding.length(len(frames)) // 16),
        "sheet": sheet_file if sheet else "",
        "sheet_part": part_of(sheet_file, mark),
        "stem": re.sub(r"([][*?\\])", r"\\\1", stem_of(target)),
        "whose": mark.partition("-")[0],
        "silent_minutes": _SILENT_MINUTES,
        "changed": CHANGED,
        "unproved": UNPROVED,
        "undrawn": UNDRAWN,
        "drawn": drawn.path if drawn else "",
        "drawn_sha256": drawn.sha256 if drawn else "",
        "drawn_poster": POSTER,
    }
    head = "".join(f"{name}={quote(str(value))}\n" for name, value in settings.items())
    codec = " ".join(map(quote, encoding.arguments(drawn.drawing.graph() if drawn else "")))
    layers = " ".join(map(quote, drawn.drawing.inputs(encoding.rate) if drawn else ()))
    return f"{head}codec=({codec})\nlayers=({layers})\n{file_text('ffmpeg')}{file_text('encode')}"


def sums_of(plan: Plan, manifest: Manifest) -> str:
    """The digest that a node must find over a plan's files before it encodes them: the SHA-256 of what `sha256sum`
    prints for them.
    """
    lines = (f"{manifest.frames[frame].sha256}  {plan.file(frame)}\n" for frame in plan.frames)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def kept_name(output: str, mark: str) -> str:
    """The second name of a movie on the cluster, by which it is fetched."""
    target = PurePosixPath(output)
    return str(target.with_name(f".{stem_of(target)}.{mark}.part.fetch{target.suffix}"))


async def encode_here(
    request: EncodeRequest, files: FrameFiles | None, metadata: Mapping[str, Any], log: Any
) -> Encoded:
    """Encode on the worker, with progress in the log, and make the pictures beside the movie.

    :param files: the frames; None for those that lie in the folder.
    """
    told, plain = -1, metadata.get("specification")
    told_of = None if plain is None else specification_of(plain)
    decided = request.decided(told_of)
    target = decided.target.absolute()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if (share := 10 * done // max(total, 1)) > told:
            told = share
            log.info("%d of %d frames encoded", done, total)

    made = await encode_movie(
        Path(request.folder), target, decided.encoding, files=files, frames=request.frames,
        metadata={**metadata, "encoding": decided.encoding.plain()}, progress=progress, poster=request.poster,
        sheet=request.sheet, owner=request.owner.about, tiling=None if told_of is None else told_of.tiling,
    )  # fmt: skip
    log.info("The movie is %s", made.text())
    poster, sheet = beside(target)
    if request.poster:
        log.info("A picture of it: %s", poster)
    if request.sheet:
        log.info("Frames of it: %s", sheet)
    return made


def booking_for_encoding(settings: ClusterSettings) -> BookingRequest:
    """What encoding on the cluster asks for: one node, however movies are packed; the step begins when it is there."""
    return BookingRequest(settings.model_copy(update={"packing": "one_job"}), 1, None, "to encode")


async def encode_on_cluster(
    session: Session,
    request: EncodeRequest,
    metadata: Mapping[str, Any],
    announce: Callable[[Booking], Awaitable[None]],
) -> tuple[Encoded, dict[str, Any]]:
    """Encode on the cluster, in a small job of its own, and bring the movie here if that is wanted.

    :param metadata: what is known of the movie already, to be written into it.
    :param announce: a function that is told of the booking.
    :return: the movie that was made, and all that is known of it.
    """
    cluster, owner = session.cluster, request.owner
    whose = mark_of(owner.about).partition("-")[0]
    asked = booking_for_encoding(session.settings)
    sources, known = await sources_in(cluster, request.folder, owner.about)
    decided = request.decided(sources.plan.specification)
    known, target = {**metadata, **known, "encoding": decided.encoding.plain()}, str(decided.target)
    drawing = await asyncio.to_thread(Drawing.of, sources.plan)
    async with drawn_beside(cluster, request.folder, drawing, whose) as drawn:
        script_with = partial(
            encode_script, sources, target, decided.encoding, known, poster=request.poster, sheet=request.sheet,
            keep=request.near is not None, drawn=drawn,
        )  # fmt: skip
        script = script_with(mark=whose)  # what cannot be is refused before a node is asked for
        try:
            booking = await book(cluster, asked.settings, owner, nodes=asked.nodes, plugins=asked.plugins)
            await announce(booking)
            # In one job the same is one writer, whichever try asks for it; in another job it is another one.
            mark = f"{whose}-{_digest(f'{booking.allocations[0].key} {script}')[:6]}"
            made, sha256 = await encode_there(
                session, booking, script_with(mark=mark), target, sources, decided.encoding.fps
            )
        finally:
            told_to_stop = isinstance(sys.exception(), asyncio.CancelledError)
            await asyncio.shield(give_back(cluster, owner, session.log, told_to_stop=told_to_stop))
    session.log.info("The movie is on the cluster: %s", made.text())
    if request.near is not None:
        kept = kept_name(target, mark)
        await fetch(cluster, kept, request.near, sha256, made.bytes, session.log, owner=owner.about)
        await cluster.shell.run(f"rm -f {quote(kept)}\n", 60)
        made = replace(made, path=request.near)
    return made, known


async def sources_in(cluster: Cluster, folder: str, about: str) -> tuple[Sources, dict[str, Any]]:
    """The frames in a folder of the cluster, all of the manifest's movie and each whole; and what is known of that
    movie.

    :raises RenderingFailed: there is no manifest, or some frames are missing, damaged or of another movie.
    """
    ffmpeg = await install(cluster, Path(static_ffmpeg()))
    store = ClusterFrames(cluster, folder, ffmpeg, f"encoding {about}", f"encode-{secrets.token_hex(4)}", list)
    manifest = await store.read()
    header = manifest.header
    if header is None:
        raise RenderingFailed(
            f"{folder} has no manifest on the cluster: nothing was rendered there.",
            remedy="clear the task that renders.",
            retry=False,
            field="frames_dir",
        )
    plan = plan_of(header)
    survey = await store.survey(plan, manifest)
    if survey.left:
        raise RenderingFailed(incomplete(folder, plan, survey), remedy=CLEAR, field="frames", retry=False)
    hashes = "".join(f"{frame}:{manifest.frames[frame].sha256}\n" for frame in plan.frames)
    return Sources(folder, plan, ffmpeg, sums_of(plan, manifest)), known_of(
        header, digest(hashes.encode()), manifest.used_last()
    )


async def encode_there(
    session: Session,
    booking: Booking,
    script: str,
    output: str,
    expected: Sources,
    fps: float,
) -> tuple[Encoded, str]:
    """Run the encoding script as a step on a booking's node, and follow it to its end.

    :param booking: a booking of one node, with no service.
    :param script: the script, see `encode_script`.
    :param output: the movie's path on the cluster.
    :param expected: the frames that it is made of.
    :return: the movie that was made, and its SHA-256.
    :raises RenderingFailed: ffmpeg failed, or the movie is not as long or as large as its frames make it.
    """
    [status] = await Waiting(session, booking).nodes()
    allocation = booking.allocations[0]
    step = await _begin(session.cluster, allocation, status, script)
    watch = AllocationWatch(session, allocation)
    async with aclosing(watch.statuses()) as looks:
        async for status in looks:
            service = status.service(step)
            if service is not None and service.exit_code is not None:
                text = watch.log_of(service)
                if service.exit_code:
                    raise _failure(service.exit_code, service.node, text, expected)
                return _read(text, output, expected, fps)
    raise RenderingFailed("The step that encodes was lost.", remedy="Clear the task: the frames are kept.")


def step_name(script: str) -> str:
    """The name of the step that runs a script: another script is another step."""
    return f"encode-{_digest(script)[:12]}"


async def _begin(cluster: Cluster, allocation: Allocation, status: AllocationStatus, script: str) -> str:
    """Begin the step, and return its name. What an earlier try has begun with the same script goes on, unless it has failed;
    what one has begun with another is stopped: it makes another movie, and would give that the names of this one.
    """
    name, number = step_name(script), 0
    while (before := status.service(name)) is not None and (before.exit_code or before.stopped):
        number += 1
        name = f"{step_name(script)}-{number}"
    for one in status.services:
        if one.name != name and one.exit_code is None:
            await cluster.stop_service(allocation, one.name)
    await cluster.add_service(allocation, ServiceCommand(name, 1, script, "0", ()))
    return name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _failure(code: int, node: str, said: str, expected: Sources) -> RenderingFailed:
    """The error for an exit code of encode.sh.

    :param said: the end of what the step logged.
    """
    if code == CHANGED:
        return RenderingFailed(
            f"some in {expected.folder} are not those that were rendered, or changed while they were encoded.",
            remedy="see what else writes there; a retry looks at all of them again.",
            field="frames",
        )
    if code == UNPROVED:
        return RenderingFailed(
            f"{expected.ffmpeg} was cut off or changed, so it was not run.",
            remedy="see who may write in the state folder, and whether it has room; a retry copies it anew.",
            field="state_dir",
        )
    if code == UNDRAWN:
        return RenderingFailed(
            f"{node} did not get whole what is drawn over the frames. {said[-300:]}",
            remedy="see whether the node sees the folder of the frames, and has room in /tmp; a retry lays it there anew.",
            field="overlays",
            node=node,
        )
    return RenderingFailed(
        f"ffmpeg failed on {node} with exit code {code}: {said[-800:]}",
        remedy="Mend what ffmpeg says: a full disk, a frame that it cannot read.",
        node=node,
        exit_code=code,
    )


def _read(text: str, output: str, expected: Sources, fps: float) -> tuple[Encoded, str]:
    frames = re.findall(r"^frame=([0-9]{1,9})$", text, re.MULTILINE)
    stream, seconds = stream_in(text), duration_in(text)
    sha = re.search(r"^sha256 ([0-9a-f]{64}) ([0-9]{1,15})$", text, re.MULTILINE)
    if not (frames and stream and seconds is not None and sha):
        raise RenderingFailed(
            f"The step that encodes did not tell what it made: {text[-500:]}",
            remedy="Clear the task: the frames are kept.",
        )
    made = Encoded(Path(output), int(frames[-1]), seconds, int(stream[2]), int(stream[3]), stream[1], int(sha[2]))
    plan = expected.plan
    frames_made = plan.specification.encoding.length(len(plan.frames))
    check_made(made, frames_made, fps, plan.specification.resolution)
    return made, sha[1]
