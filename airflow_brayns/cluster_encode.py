"""Encoding where the frames are: on a node of the cluster, by the static ffmpeg that was copied there, and fetching what came of it."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
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
from airflow_brayns.movie.plan import Plan
from airflow_brayns.settings import ClusterSettings

_FETCH_LOG_SECONDS = 10.0


@dataclass(frozen=True)
class Sources:
    """Frames on the cluster.

    :param folder: where they are.
    :param plan: whose frames.
    :param ffmpeg: path of an ffmpeg on the nodes.
    """

    folder: str
    plan: Plan
    ffmpeg: str


def encode_script(
    sources: Sources, output: str, encoding: Encoding, metadata: Mapping[str, Any], *, poster: bool, sheet: bool
) -> str:
    """Bash for a node: encode, look into the movie, hash it, give it its name.

    :raises InvalidSetting: `output` is not an absolute path in one line.
    """
    output = check_folder(output, "output_file")
    plan, frames = sources.plan, sources.plan.frames
    suffix = Path(output).suffix
    partial = str(Path(output).with_name(f".{Path(output).stem}.part{suffix}"))
    folder = sources.folder.replace("%", "%%")  # to ffmpeg the whole path is a pattern, the folder's name too
    pattern = f"{folder}/%0{plan.digits}d.{plan.specification.format}"
    base = str(Path(output).with_suffix(""))
    words = [
        *("-framerate", f"{encoding.fps:g}", "-start_number", str(frames[0]), "-i", pattern),
        *("-f", "ffmetadata", "-i", "/dev/fd/3", "-map", "0:v", "-map_metadata", "1"),
        *("-frames:v", str(len(frames)), *encoding.arguments(), "-y", partial),
    ]
    step = max(1, len(frames) // 16)
    pictures = []
    if poster:
        middle = f"{sources.folder}/{plan.file(frames[len(frames) // 2])}"
        pictures.append(
            f"encoder -v error -y -i {quote(middle)} -update 1 -q:v 2 {quote(base + '.poster.jpg')} </dev/null"
        )
    if sheet:
        tiles = f"select='not(mod(n,{step}))',scale=400:-2,tile=4x4"
        pictures.append(
            f"encoder -v error -y -i {quote(partial)} -vf {quote(tiles)} -frames:v 1 -update 1 -q:v 3 {quote(base + '.sheet.jpg')} </dev/null"
        )
    lines = [
        "set -euo pipefail",
        f'encoder() {{ {quote(sources.ffmpeg)} -hide_banner -nostdin -xerror "$@"; }}',
        f"mkdir -p {quote(str(Path(output).parent))}",
        f'share() {{ awk -F= -v total={len(frames)} \'$1 == "frame" {{ s = int(10 * $2 / total); '
        'if (s > t) { t = s; print $2 " of " total " frames encoded"; fflush() } }\'; }',
        f"encoder -v error -stats_period 2 -progress pipe:1 -nostats {' '.join(quote(word) for word in words)} "
        "3<<'END_OF_METADATA' </dev/null | share",
        described(Path(output).stem, metadata).rstrip("\n"),
        "END_OF_METADATA",
        *pictures,
        f"encoder -v info -nostats -progress pipe:1 -i {quote(partial)} -map 0:v:0 -fps_mode passthrough -f null - 2>&1 </dev/null "
        "| grep -E '^frame=|Duration:|Stream #0:[0-9]+.*Video:' | tail -n 6",
        f"printf 'sha256 %s %s\\n' \"$(sha256sum <{quote(partial)} | cut -d' ' -f1)\" \"$(wc -c <{quote(partial)} | tr -d ' ')\"",
        f"mv -f {quote(partial)} {quote(output)}",
        "echo movie made",
    ]
    return "\n".join(lines)


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


async def fetch(cluster: Cluster, remote: str, target: Path, sha256: str, size: int, log: Any) -> Path:
    """Bring a file from the cluster: goes on where an earlier try was cut off, and counts only when it is whole.

    :param target: on the worker.
    :raises ConnectionLost: the connection broke; what came is kept for the next try.
    :raises RenderingFailed: what came is not what is there.
    """
    partial = target.with_name(f".{target.name}.{sha256[:12]}.part")
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
