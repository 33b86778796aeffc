"""Encoding where the frames are: on a node of the cluster, by the static ffmpeg that was copied there, and fetching what came of it."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from airflow_brayns.booking import Booking
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.shell import quote
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.cluster_store import check_folder
from airflow_brayns.errors import ConnectionLost, InvalidSetting, RenderingFailed
from airflow_brayns.follow import Follower
from airflow_brayns.movie.encode import Encoded, Encoding, described, duration_in, stream_in
from airflow_brayns.movie.manifest import Manifest
from airflow_brayns.movie.parts import beside, mark_of, part_of, stem_of
from airflow_brayns.movie.plan import Plan
from airflow_brayns.settings import ClusterSettings

_FETCH_LOG_SECONDS = 10.0
_SILENT_MINUTES = 60  # a part file that nobody has touched for so long is a killed writer's
_KEPT_SECONDS = 7 * 86_400.0  # what came of a fetch that was cut off waits so long for its next try
CHANGED = 65  # exit code of the script when frames are not those that were rendered
_CHANGED = f"{{ echo frames changed; exit {CHANGED}; }}"


@dataclass(frozen=True)
class Sources:
    """Frames on the cluster.

    :param folder: where they are.
    :param plan: whose frames.
    :param ffmpeg: path of an ffmpeg on the nodes.
    :param sums: see `sums_of`; empty where nothing is known of them.
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
) -> str:
    """Bash for a node: encode, look into the movie, hash it, give it and its pictures their names in one go.

    :param mark: of the part files, see `movie.parts.mark_of`; empty for one of nobody's.
    :param keep: leave a second name of the movie behind, see `kept_name`: what is fetched is then this movie, whoever writes to
        the same output meanwhile.
    :raises InvalidSetting: `output` is not an absolute path in one line.
    """
    target = PurePosixPath(check_folder(output, "output_file"))
    mark = mark or mark_of("")
    plan, frames = sources.plan, sources.plan.frames
    folder = sources.folder.replace("%", "%%")  # to ffmpeg the whole path is a pattern, the folder's name too
    pattern = f"{folder}/%0{plan.digits}d.{plan.specification.format}"
    finals = [target, *beside(target)]
    partial, poster_part, sheet_part = (str(part_of(final, mark)) for final in finals)
    words = [
        *("-framerate", f"{encoding.fps:g}", "-start_number", str(frames[0]), "-i", pattern),
        *("-f", "ffmetadata", "-i", "/dev/fd/3", "-map", "0:v", "-map_metadata", "1"),
        *("-frames:v", str(len(frames)), *encoding.arguments(), "-y", partial),
    ]
    step = max(1, len(frames) // 16)
    pictures, names = [], [(partial, str(target))]
    if poster:
        middle = f"{sources.folder}/{plan.file(frames[len(frames) // 2])}"
        pictures.append(f"encoder -v error -y -i {quote(middle)} -update 1 -q:v 2 {quote(poster_part)} </dev/null")
        names.append((poster_part, str(finals[1])))
    if sheet:
        tiles = f"select='not(mod(n,{step}))',scale=400:-2,tile=4x4"
        pictures.append(
            f"encoder -v error -y -i {quote(partial)} -vf {quote(tiles)} -frames:v 1 -update 1 -q:v 3 {quote(sheet_part)} </dev/null"
        )
        names.append((sheet_part, str(finals[2])))
    parts = " ".join(quote(part) for part, _ in names)
    lines = [
        "set -euo pipefail",
        f'encoder() {{ {quote(sources.ffmpeg)} -hide_banner -nostdin -xerror "$@"; }}',
        f"mkdir -p {quote(str(target.parent))}",
        *_leftovers(target, mark),
        f"parts=({parts})",
        "(trap 'kill $rest; exit' TERM; while :; do sleep 20 & rest=$!; wait $rest; touch -c -- \"${parts[@]}\"; done) "
        "</dev/null >/dev/null 2>&1 &",
        "beat=$!",
        "trap 'kill $beat 2>/dev/null || true; rm -f -- \"${parts[@]}\"' EXIT",
        *(_looked_at(sources) if sources.sums else []),
        f'share() {{ awk -F= -v total={len(frames)} \'$1 == "frame" {{ s = int(10 * $2 / total); '
        'if (s > t) { t = s; print $2 " of " total " frames encoded"; fflush() } }\'; }',
        f"encoder -v error -stats_period 2 -progress pipe:1 -nostats {' '.join(quote(word) for word in words)} "
        "3<<'END_OF_METADATA' </dev/null | share",
        described(target.name.removesuffix(target.suffix), metadata).rstrip("\n"),
        "END_OF_METADATA",
        *pictures,
        f"encoder -v info -nostats -progress pipe:1 -i {quote(partial)} -map 0:v:0 -fps_mode passthrough -f null - 2>&1 </dev/null "
        "| grep -E '^frame=|Duration:|Stream #0:[0-9]+.*Video:' | tail -n 6",
        f'[ "$(seen)" = "$before" ] || {_CHANGED}' if sources.sums else ":",
        f"printf 'sha256 %s %s\\n' \"$(sha256sum <{quote(partial)} | cut -d' ' -f1)\" \"$(wc -c <{quote(partial)} | tr -d ' ')\"",
        *([f"ln -f {quote(partial)} {quote(kept_name(str(target), mark))} || cp {quote(partial)} {quote(kept_name(str(target), mark))}"]
          if keep else []),
        "&& ".join(f"mv -f {quote(part)} {quote(final)} " for part, final in names),
        "echo movie made",
    ]  # fmt: skip
    return "\n".join(lines)


def _looked_at(sources: Sources) -> list[str]:
    """Lines that hash the frames before they are encoded, and note what they are, to see afterwards that they still are."""
    plan, frames = sources.plan, sources.plan.frames
    sums = "$(names | xargs sha256sum 2>/dev/null | sha256sum | cut -d' ' -f1)"
    return [
        f"cd {quote(sources.folder)}",
        f"names() {{ seq -f '%0{plan.digits}.0f.{plan.specification.format}' {frames[0]} {frames[-1]}; }}",
        "seen() { { names | xargs stat -c '%n %i %s %y' 2>&1 || true; } | sha256sum; }",  # one that is missing is told below
        "before=$(seen)",
        # Their time is changed, to one in no second of today's: the next survey reads them, though size and time were as they should be.
        f'[ "{sums}" = {quote(sources.sums)} ] || {{ names | xargs touch -c -t 200001010000; {_CHANGED}; }}',
    ]


def sums_of(plan: Plan, manifest: Manifest) -> str:
    """What the node must find when it hashes a plan's files before it encodes them: the SHA-256 of `sha256sum`'s output."""
    lines = (f"{manifest.frames[frame].sha256}  {plan.file(frame)}\n" for frame in plan.frames)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def kept_name(output: str, mark: str) -> str:
    """The second name of a movie that is to be fetched."""
    target = PurePosixPath(output)
    return str(target.with_name(f".{stem_of(target)}.{mark}.part.fetch{target.suffix}"))


def _leftovers(target: PurePosixPath, mark: str) -> list[str]:
    """Lines that take away what killed writers of the same output have left: at once what an earlier try of this one did."""
    stem = re.sub(r"([][*?\\])", r"\\\1", stem_of(target))
    where = f"find {quote(str(target.parent))} -maxdepth 1 -type f"
    whose = mark.partition("-")[0]
    return [
        f"{where} -name {quote(f'.{stem}.*{whose}-*.part.*')} -exec rm -f {{}} + 2>/dev/null || true",
        f"{where} -name {quote(f'.{stem}.*.part.*')} ! -name '*.part.fetch.*' -mmin +{_SILENT_MINUTES} -exec rm -f {{}} + 2>/dev/null || true",
        f"{where} -name {quote(f'.{stem}.*.part.fetch.*')} -mtime +7 -exec rm -f {{}} + 2>/dev/null || true",
        f"{where} -name {quote(f'.{stem}.part.*')} -mmin +{_SILENT_MINUTES} -exec rm -f {{}} + 2>/dev/null || true",
    ]


async def encode_there(
    poller: Poller,
    settings: ClusterSettings,
    booking: Booking,
    script: str,
    output: str,
    expected: Sources,
    log: Any,
    fps: float,
) -> tuple[Encoded, str]:
    """Run the step on a booking's node and follow it to its end.

    :param booking: of one node, with no service.
    :return: what was made, and its SHA-256.
    :raises RenderingFailed: ffmpeg failed, or the movie is not what it should be.
    """
    follower = Follower(poller, booking, settings, (), log)
    await follower.nodes()
    allocation = booking.allocations[0]
    await poller.cluster.add_service(allocation, ServiceCommand("encode", 1, script, "0", ()))
    async for status in follower.statuses(allocation, want=1):
        service = status.service("encode")
        if service is not None and service.exit_code is not None:
            text = follower.log_of(status, service)
            if service.exit_code == CHANGED:
                raise RenderingFailed(
                    f"frames: some in {expected.folder} are not those that were rendered, or changed while they were encoded. Something else writes there; a retry looks "
                    "at all of them again."
                )
            if service.exit_code:
                raise RenderingFailed(
                    f"ffmpeg failed on {service.node} with exit code {service.exit_code}: {text[-800:]}"
                )
            return _read(text, output, expected, fps)
    raise RenderingFailed("The step that encodes was lost.")


def _read(text: str, output: str, expected: Sources, fps: float) -> tuple[Encoded, str]:
    frames = re.findall(r"^frame=([0-9]{1,9})$", text, re.MULTILINE)
    stream, seconds = stream_in(text), duration_in(text)
    sha = re.search(r"^sha256 ([0-9a-f]{64}) ([0-9]{1,15})$", text, re.MULTILINE)
    if not (frames and stream and seconds is not None and sha):
        raise RenderingFailed(f"The step that encodes did not tell what it made: {text[-500:]}")
    made = Encoded(Path(output), int(frames[-1]), seconds, int(stream[2]), int(stream[3]), stream[1], int(sha[2]))
    number = len(expected.plan.frames)
    if made.frames != number or (made.width, made.height) != expected.plan.specification.resolution:
        raise RenderingFailed(f"The movie is not what it should be: {made.text()} instead of {number} frames.")
    if abs(seconds - number / fps) > 1.5 / fps + 0.02 * number / fps:
        raise RenderingFailed(f"The movie is not what it should be: {seconds:.2f} s instead of {number / fps:.2f} s.")
    return made, sha[1]


async def fetch(
    cluster: Cluster, remote: str, target: Path, sha256: str, size: int, log: Any, *, owner: str = ""
) -> Path:
    """Bring a file from the cluster: goes on where an earlier try was cut off, and counts only when it is whole.

    :param target: on the worker.
    :param owner: who fetches: two that bring the same file to the same place do not write into one another's.
    :raises ConnectionLost: the connection broke; what came is kept for the next try.
    :raises RenderingFailed: what came is not what is there.
    """
    whose = f"{mark_of(owner).partition('-')[0]}." if owner else ""
    stem = stem_of(target)
    partial = target.with_name(f".{stem}.{whose}{sha256[:12]}.part")
    _clean_fetched(target, stem, whose, partial)
    hashed = hashlib.sha256()
    have = 0
    if partial.exists():
        with partial.open("rb") as file:
            while block := file.read(1 << 20):
                hashed.update(block)
                have += len(block)
    told = time.monotonic()
    try:
        with partial.open("ab") as file:
            async for block in cluster.shell.get(remote, have):
                file.write(block)
                hashed.update(block)
                have += len(block)
                if time.monotonic() - told > _FETCH_LOG_SECONDS:
                    told = time.monotonic()
                    log.info(
                        "%s: %.0f of %.0f MB fetched (%d %%)",
                        remote,
                        have / 1e6,
                        size / 1e6,
                        100 * have // max(size, 1),
                    )
    except OSError as error:
        raise InvalidSetting("fetch", f"{target} cannot be written: {error.strerror}", retry=True) from error
    if have < size:
        raise ConnectionLost(f"{remote}: {have} of {size} bytes came; the next try goes on from there.")
    if have != size or hashed.hexdigest() != sha256:
        partial.unlink()
        raise RenderingFailed(
            f"{remote}: what came ({have} bytes) is not what is there ({size} bytes); fetched again by a retry."
        )
    partial.replace(target)
    log.info("%s fetched to %s: %.1f MB, its SHA-256 is right", remote, target, size / 1e6)
    return target


def _clean_fetched(target: Path, stem: str, whose: str, partial: Path) -> None:
    """What earlier tries of the same one brought of another movie, and what nobody came back for."""
    other = re.compile(rf"\.({re.escape(stem)}|{re.escape(target.name)})\.([0-9a-f]{{8}}\.)?[0-9a-f]{{12}}\.part")
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            if path == partial or not (match := other.fullmatch(path.name)):
                continue
            if (whose and match[2] == whose) or time.time() - path.stat().st_mtime > _KEPT_SECONDS:
                path.unlink()
