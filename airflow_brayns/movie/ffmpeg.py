"""ffmpeg, the machine's own or the one that imageio-ffmpeg brings: it is run, and asked what a movie is."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_brayns.errors import RenderingFailed

_STREAM = re.compile(r"Stream #0:[0-9]{1,4}[^\n]{0,200}?: Video: (\w{1,40})[^\n]{0,500}?, ([0-9]{2,5})x([0-9]{2,5})")
_LONGEST_LINE = 1000  # characters of a line that are looked at
_DURATION = re.compile(r"Duration: ([0-9]{1,6}):([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]{1,9})?)")


@dataclass(frozen=True)
class Encoded:
    """A movie as ffmpeg read it back.

    :param duration: its length in seconds.
    :param bytes: the size of its file.
    """

    path: Path
    frames: int
    duration: float
    width: int
    height: int
    codec: str
    bytes: int

    def text(self) -> str:
        """One line for the log that describes the movie."""
        return (
            f"{self.path}: {self.frames} frames, {self.duration:.2f} s, {self.width}x{self.height}, {self.codec}, "
            f"{self.bytes / 1e6:.1f} MB"
        )


def ffmpeg() -> str:
    """The path of an ffmpeg that runs on this machine.

    :raises RenderingFailed: there is none.
    """
    if found := shutil.which("ffmpeg"):
        return found
    return static_ffmpeg()


def static_ffmpeg() -> str:
    """The path of an ffmpeg that needs no libraries, and so runs on a cluster's nodes too.

    :raises RenderingFailed: there is none.
    """
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise RenderingFailed(
            f"No ffmpeg: {error}.", remedy="Install ffmpeg on the worker, or the extra `ffmpeg`.", retry=False
        ) from error


@asynccontextmanager
async def _started(arguments: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        ffmpeg(), "-hide_banner", "-nostdin", "-xerror", "-progress", "pipe:1", "-nostats", *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def run_ffmpeg(arguments: Sequence[str], progress: Callable[[int], None]) -> tuple[str, dict[str, str]]:
    """Run ffmpeg, and return its own report: what it said, and the last values of its progress.

    :param progress: a function that is told how many frames are done.
    :raises RenderingFailed: ffmpeg failed, or complained of its input.
    """
    last: dict[str, str] = {}
    async with _started(["-v", "info", *arguments]) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        saying = asyncio.create_task(process.stderr.read())
        async for line in process.stdout:
            key, _, value = line.decode("utf-8", "replace").strip().partition("=")
            last[key] = value
            if key == "frame" and value.isdigit():
                progress(int(value))
        said = (await saying).decode("utf-8", "replace")
        await process.wait()
    if process.returncode != 0:
        why = f"ffmpeg failed with exit code {process.returncode}: {said[-800:]}"
        raise RenderingFailed(
            why,
            remedy="Mend what ffmpeg says: a full disk, a codec that its build has not, a frame that it cannot read.",
            exit_code=process.returncode,
        )
    return said, last


def duration_in(said: str) -> float | None:
    """The seconds of the line `Duration:` in what ffmpeg said; None where there is none."""
    found = _DURATION.search(said)
    return sum(float(part) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True)) if found else None


def stream_in(said: str) -> re.Match[str] | None:
    """Match the line about the first video in what ffmpeg said; its groups are codec, width and height."""
    line = next((line for line in said.splitlines() if "Stream #0:" in line and ": Video: " in line), "")
    return _STREAM.search(line[:_LONGEST_LINE])


def _bytes_of(path: Path) -> int:
    return path.stat().st_size


async def look_into(movie: Path) -> Encoded:
    """Decode a movie to its end, and tell what it is.

    ffmpeg does this, and not ffprobe: imageio-ffmpeg brings no ffprobe, and decoding every frame also proves that they
    can be.

    :raises RenderingFailed: it cannot be decoded.
    """
    said, last = await run_ffmpeg(
        ["-i", str(movie), "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "null", "-"], lambda done: None
    )
    stream = stream_in(said)
    if stream is None:
        raise RenderingFailed(
            f"{movie} has no video stream: {said[-300:]}", remedy="Clear the task; if it stays so, try another codec."
        )
    frames = last.get("frame", "0")
    seconds = duration_in(said)
    return Encoded(
        movie,
        int(frames) if frames.isdecimal() else 0,
        seconds or 0.0,
        int(stream[2]),
        int(stream[3]),
        stream[1],
        await asyncio.to_thread(_bytes_of, movie),
    )
