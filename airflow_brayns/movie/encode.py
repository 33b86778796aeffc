"""Frames to a movie with ffmpeg: the machine's own, or the one that imageio-ffmpeg brings. What comes out is looked into."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.parts import Parts, beside, mark_of
from airflow_brayns.movie.picture import contact_sheet, spread
from airflow_brayns.movie.specification import CODECS
from airflow_brayns.movie.store import listed

_NUMBERED = re.compile(r"(\d{5,})\.(png|jpg)")
_STREAM = re.compile(r"Stream #0:[0-9]{1,4}[^\n]{0,200}?: Video: (\w{1,40})[^\n]{0,500}?, ([0-9]{2,5})x([0-9]{2,5})")
_LONGEST_LINE = 1000  # of characters that are looked at
_DURATION = re.compile(r"Duration: ([0-9]{1,6}):([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]{1,9})?)")
_COLOR = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
_SCALE = "scale=out_color_matrix=bt709:out_range=tv"
_BEST = {"h264": 18, "h265": 22, "vp9": 28}


@dataclass(frozen=True)
class Encoding:
    """How frames become a movie.

    :param codec: `h264`, `h265`, `vp9`, `prores` or `gif`.
    :param fps: frames a second.
    :param crf: quality, lower is better; None for a good one. Of h264, h265 and vp9.
    """

    codec: str = "h264"
    fps: float = 25.0
    crf: int | None = None

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise InvalidSetting("codec", f"{self.codec!r} is none of {', '.join(CODECS)}")
        if not 0 < self.fps <= 1000:
            raise InvalidSetting("fps", f"must be more than 0 and at most 1000, not {self.fps:g}")

    def check_output(self, output: Path) -> None:
        """The file's ending must suit the codec.

        :raises InvalidSetting: it does not.
        """
        if output.suffix.lower() not in CODECS[self.codec]:
            raise InvalidSetting(
                "output_file", f"{output.name!r} must end in {' or '.join(CODECS[self.codec])} for {self.codec}"
            )

    def arguments(self) -> list[str]:
        """ffmpeg's options for the output."""
        crf = str(self.crf if self.crf is not None else _BEST.get(self.codec, 0))
        match self.codec:
            case "h264":
                found = ["-c:v", "libx264", "-crf", crf, "-vf", f"{_SCALE},format=yuv420p"]
            case "h265":
                found = ["-c:v", "libx265", "-crf", crf, "-tag:v", "hvc1", "-x265-params", "log-level=error",
                         "-vf", f"{_SCALE},format=yuv420p"]  # fmt: skip
            case "vp9":
                found = [
                    "-c:v",
                    "libvpx-vp9",
                    "-crf",
                    crf,
                    "-b:v",
                    "0",
                    "-row-mt",
                    "1",
                    "-vf",
                    f"{_SCALE},format=yuv420p",
                ]
            case "prores":
                found = ["-c:v", "prores_ks", "-profile:v", "3", "-vf", f"{_SCALE},format=yuv422p10le"]
            case _:
                return ["-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse", "-loop", "0"]
        return [*found, *_COLOR, "-movflags", "+faststart+use_metadata_tags"]


@dataclass(frozen=True)
class Encoded:
    """What ffmpeg read back from a movie.

    :param duration: seconds.
    :param bytes: the file's size.
    """

    path: Path
    frames: int
    duration: float
    width: int
    height: int
    codec: str
    bytes: int

    def text(self) -> str:
        """One line."""
        return (
            f"{self.path}: {self.frames} frames, {self.duration:.2f} s, {self.width}x{self.height}, {self.codec}, "
            f"{self.bytes / 1e6:.1f} MB"
        )


def ffmpeg() -> str:
    """Path of an ffmpeg.

    :raises RenderingFailed: there is none.
    """
    if found := shutil.which("ffmpeg"):
        return found
    return static_ffmpeg()


def static_ffmpeg() -> str:
    """Path of an ffmpeg that needs no libraries, and so runs on a cluster's nodes too.

    :raises RenderingFailed: there is none.
    """
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise RenderingFailed(f"No ffmpeg: {error}. Install ffmpeg on the worker.", retry=False) from error


def sequence(folder: Path) -> list[Path]:
    """The frames of a folder in order, from the first number there is.

    :raises RenderingFailed: there are none, some are missing (the message lists them), or there are two formats.
    """
    found = [(int(match[1]), path) for path in folder.glob("*.*") if (match := _NUMBERED.fullmatch(path.name))]
    numbers = dict(sorted(found))
    if not numbers:
        raise RenderingFailed(f"frames: there are none in {folder}.", retry=False)
    if len({path.suffix for path in numbers.values()}) > 1 or len({len(path.stem) for path in numbers.values()}) > 1:
        raise RenderingFailed(f"frames: {folder} holds frames of two formats or two movies.", retry=False)
    gaps = sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers))
    if gaps:
        raise RenderingFailed(
            f"frames: {len(gaps)} are missing in {folder}: {listed(gaps)}. Render them, then encode.", retry=False
        )
    return list(numbers.values())


def check_sequence(folder: Path, frames: int | None, first: int | None = None) -> list[Path]:
    """`sequence`, of a certain length and beginning.

    :raises RenderingFailed: it is shorter, longer, or its sides are odd.
    """
    found = sequence(folder)
    if frames is not None and len(found) != frames:
        raise RenderingFailed(f"frames: {folder} holds {len(found)}, but the movie has {frames}.", retry=False)
    if first is not None and int(found[0].stem) != first:
        raise RenderingFailed(f"frames: {folder} begins with {found[0].name}, not with frame {first}.", retry=False)
    return found


def _size_of(frame: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(frame) as image:
            return image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise RenderingFailed(f"frames: {frame} is no whole image: {error}", retry=False) from None


@dataclass(frozen=True)
class FrameFiles:
    """What is encoded: files, in order, and what they were when they were looked at.

    :param seen: inode, size and time of each; None for one that is not there.
    """

    paths: tuple[Path, ...]
    seen: tuple[tuple[int, int, int] | None, ...]

    @classmethod
    def look(cls, paths: Sequence[Path]) -> FrameFiles:
        """As they are now."""
        return cls(tuple(paths), tuple(_identity(path) for path in paths))

    def check_unchanged(self) -> None:
        """What was encoded is what was looked at.

        :raises RenderingFailed: naming the frames that have changed since.
        """
        changed = [path for path, seen in zip(self.paths, self.seen, strict=True) if _identity(path) != seen]
        if changed:
            raise RenderingFailed(
                f"frames: {len(changed)} in {changed[0].parent} changed while they were encoded: "
                f"{listed([int(path.stem) for path in changed])}. Something else writes there; a retry looks at all of them again."
            )


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


async def encode_movie(
    folder: Path,
    output: Path,
    encoding: Encoding | None = None,
    *,
    files: FrameFiles | None = None,
    frames: int | None = None,
    first: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    poster: bool = False,
    sheet: bool = False,
    owner: str = "",
) -> Encoded:
    """Encode the frames of a folder, and look whether the movie is what it should be.

    :param output: the movie; it appears only when it is whole, together with the pictures beside it. Of two that write to the
        same output at once the one that is finished last stays, whole.
    :param encoding: None for H.264 with 25 frames a second, which any player takes.
    :param files: which frames, of consecutive numbers, looked at before they were found right; None for those that lie in
        the folder.
    :param frames: how many there must be; None for as many as there are.
    :param first: number of the first; None for whatever it is.
    :param metadata: written into the file as JSON, as its comment.
    :param progress: told how many frames are encoded, of how many.
    :param poster: whether to make the frame in the middle a picture beside the movie, see `parts.beside`.
    :param sheet: whether to put frames on one sheet beside it.
    :param owner: who encodes: what an earlier try of the same one left is taken away at once.
    :raises RenderingFailed: gaps, odd sides, ffmpeg failed (with its last lines), a frame changed meanwhile, or the movie is not
        what it should be.
    """
    encoding = encoding or Encoding()
    encoding.check_output(output)
    if files is None:
        files = FrameFiles.look(await asyncio.to_thread(check_sequence, folder, frames, first))
    width, height = await asyncio.to_thread(_size_of, files.paths[0])
    if width % 2 or height % 2:
        raise RenderingFailed(
            f"resolution: the frames are {width}x{height}; video codecs take even sides only. Render them anew.",
            retry=False,
        )
    await asyncio.to_thread(lambda: output.parent.mkdir(parents=True, exist_ok=True))
    parts = Parts(output, mark_of(owner))
    async with parts.held():
        partial = parts.part(output)
        await _encode_to(partial, files, encoding, described(output.stem, metadata or {}), progress)
        made = await look_into(partial)
        _check_made(made, len(files.paths), encoding.fps, (width, height))
        for wanted, make, final in zip((poster, sheet), (make_poster, make_sheet), beside(output), strict=True):
            if wanted:
                await asyncio.to_thread(make, files.paths, output, parts.part(Path(final)))
        await asyncio.to_thread(files.check_unchanged)
        await asyncio.to_thread(parts.publish)
    return replace(made, path=output)


async def _encode_to(
    target: Path, files: FrameFiles, encoding: Encoding, described_as: str, progress: Callable[[int, int], None]
) -> None:
    first, number = files.paths[0], len(files.paths)
    # To ffmpeg the whole path is a pattern, the folder's name too. Numbers are consecutive, so it reads these files and no others.
    pattern = f"{str(first.parent).replace('%', '%%')}/%0{len(first.stem)}d{first.suffix}"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(described_as)
        file.flush()
        await _run(
            [
                *("-framerate", f"{encoding.fps:g}", "-start_number", str(int(first.stem)), "-i", pattern),
                *("-f", "ffmetadata", "-i", file.name, "-map", "0:v", "-map_metadata", "1"),
                *("-frames:v", str(number), *encoding.arguments(), "-y", str(target)),
            ],
            lambda done: progress(done, number),
        )


def _check_made(made: Encoded, frames: int, fps: float, size: tuple[int, int]) -> None:
    expected = frames / fps
    if (made.frames, (made.width, made.height)) != (frames, size) or abs(made.duration - expected) > (
        1.5 / fps + 0.02 * expected
    ):
        raise RenderingFailed(
            f"The movie is not what it should be: {made.frames} frames, {made.duration:.2f} s, {made.width}x{made.height} "
            f"instead of {frames}, {expected:.2f} s, {size[0]}x{size[1]}."
        )


def described(title: str, metadata: Mapping[str, Any]) -> str:
    """ffmpeg's metadata file: any text, at any length."""

    def escaped(text: str) -> str:
        return re.sub(r"([=;#\\\n])", r"\\\1", text)

    lines = [f"title={escaped(title)}"]
    if metadata:
        lines.append(f"comment={escaped(json.dumps(metadata, separators=(',', ':')))}")
    return ";FFMETADATA1\n" + "\n".join(lines) + "\n"


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


async def _run(arguments: Sequence[str], progress: Callable[[int], None]) -> tuple[str, dict[str, str]]:
    """ffmpeg's own report: what it said, and the last values of its progress.

    :raises RenderingFailed: it failed, or complained of its input.
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
        raise RenderingFailed(f"ffmpeg failed with exit code {process.returncode}: {said[-800:]}")
    return said, last


def duration_in(said: str) -> float | None:
    """Seconds of ffmpeg's `Duration:`."""
    found = _DURATION.search(said)
    return sum(float(part) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True)) if found else None


def stream_in(said: str) -> re.Match[str] | None:
    """Codec, width and height of ffmpeg's line about the first video."""
    line = next((line for line in said.splitlines() if "Stream #0:" in line and ": Video: " in line), "")
    return _STREAM.search(line[:_LONGEST_LINE])


def _bytes_of(path: Path) -> int:
    return path.stat().st_size


async def look_into(movie: Path) -> Encoded:
    """Decode a movie to its end and tell what it is.

    ffmpeg itself and not ffprobe: imageio-ffmpeg brings no ffprobe, and decoding every frame also proves that they can be.

    :raises RenderingFailed: it cannot be decoded.
    """
    said, last = await _run(
        ["-i", str(movie), "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "null", "-"], lambda done: None
    )
    stream = stream_in(said)
    if stream is None:
        raise RenderingFailed(f"{movie} has no video stream: {said[-300:]}")
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


def make_poster(frames: Path | Sequence[Path], output: Path, target: Path | None = None) -> Path:
    """The frame in the middle as a JPEG beside the movie.

    :param frames: files in order, or a folder of them.
    :param target: where it is written; None for its name beside the movie.
    """
    from PIL import Image

    found = sequence(frames) if isinstance(frames, Path) else frames
    target = target or Path(beside(output)[0])
    with Image.open(found[len(found) // 2]) as image:
        image.convert("RGB").save(target, quality=92)
    return target


def make_sheet(frames: Path | Sequence[Path], output: Path, target: Path | None = None, *, number: int = 16) -> Path:
    """Sixteen frames from the first to the last on one sheet beside the movie.

    :param frames: files in order, or a folder of them.
    :param target: where it is written; None for its name beside the movie.
    """
    found = sequence(frames) if isinstance(frames, Path) else frames
    chosen = [found[index] for index in spread(range(len(found)), number)]
    return contact_sheet([(str(int(one.stem)), one) for one in chosen], target or Path(beside(output)[1]))
