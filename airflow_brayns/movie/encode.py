"""Encoding of frames to a movie: which frames, how they are encoded, and whether the movie is as long and large as they
make it.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_brayns.errors import RenderingFailed
from airflow_brayns.movie.codecs import Encoding as Encoding  # a name of 0.2.0
from airflow_brayns.movie.ffmpeg import Encoded, look_into, run_ffmpeg
from airflow_brayns.movie.frame_store import listed
from airflow_brayns.movie.images import contact_sheet, spread
from airflow_brayns.movie.join import join_tiles, look_at, make_small
from airflow_brayns.movie.overlays import Drawing
from airflow_brayns.movie.parts import Parts, beside, mark_of
from airflow_brayns.movie.tiles import Tiling

_NUMBERED = re.compile(r"(\d{5,})\.(png|jpg)")
_PICTURES = ("png", "mjpeg")  # they have no length
_LARGEST_SHOWN = 4096  # pixels a side of the pictures beside a movie whose frames are joined of tiles
_CLOCK = 0.01  # seconds: so finely ffmpeg tells how long a movie is


def sequence(folder: Path) -> list[Path]:
    """The frames of a folder in order, from the first number there is.

    :raises RenderingFailed: there are none, some are missing (the message lists them), or there are two formats.
    """
    found = [(int(match[1]), path) for path in folder.glob("*.*") if (match := _NUMBERED.fullmatch(path.name))]
    numbers = dict(sorted(found))
    if not numbers:
        raise RenderingFailed(
            f"there are none in {folder}.",
            remedy="render them first, or correct frames_dir.",
            retry=False,
            field="frames",
        )
    if len({path.suffix for path in numbers.values()}) > 1 or len({len(path.stem) for path in numbers.values()}) > 1:
        raise RenderingFailed(
            f"{folder} holds frames of two formats or two movies.",
            remedy="give each movie a folder of its own.",
            retry=False,
            field="frames",
        )
    gaps = sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers))
    if gaps:
        raise RenderingFailed(
            f"{len(gaps)} are missing in {folder}: {listed(gaps)}.",
            remedy="render the missing ones, then encode.",
            retry=False,
            field="frames",
        )
    return list(numbers.values())


def check_sequence(folder: Path, frames: int | None, first: int | None = None) -> list[Path]:
    """The frames of a folder, as `sequence` gives them, checked for their number and beginning.

    :raises RenderingFailed: it is shorter, longer, or begins elsewhere.
    """
    found = sequence(folder)
    if frames is not None and len(found) != frames:
        raise RenderingFailed(
            f"{folder} holds {len(found)}, but the movie has {frames}.",
            remedy="clear the task that renders.",
            retry=False,
            field="frames",
        )
    if first is not None and int(found[0].stem) != first:
        raise RenderingFailed(
            f"{folder} begins with {found[0].name}, not with frame {first}.",
            remedy="clear the task that renders.",
            retry=False,
            field="frames",
        )
    return found


def _size_of(frame: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(frame) as image:
            return image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise RenderingFailed(
            f"{frame} is no whole image: {error}", remedy="clear the task that renders.", retry=False, field="frames"
        ) from None


@dataclass(frozen=True)
class FrameFiles:
    """The files that are encoded, in order, and what they were when they were looked at.

    :param seen: inode, size and time of each file; None for one that is not there.
    :param drawing: what is drawn over them; None for nothing.
    """

    paths: tuple[Path, ...]
    seen: tuple[tuple[int, int, int] | None, ...]
    drawing: Drawing | None = None

    @classmethod
    def look(cls, paths: Sequence[Path], drawing: Drawing | None = None) -> FrameFiles:
        """Look at files as they are now."""
        return cls(tuple(paths), tuple(_identity(path) for path in paths), drawing)

    def check_unchanged(self) -> None:
        """Check that the files are still those that were looked at.

        :raises RenderingFailed: some have changed since; the error names these frames.
        """
        changed = [path for path, seen in zip(self.paths, self.seen, strict=True) if _identity(path) != seen]
        if changed:
            raise RenderingFailed(
                f"{len(changed)} in {changed[0].parent} changed while they were encoded: {listed(sorted({_number(path) for path in changed}))}.",
                remedy="see what else writes there; a retry looks at all of them again.",
                field="frames",
            )


def _number(path: Path) -> int:
    """The number of the frame that a file is of, whole or a tile."""
    return int(path.stem.partition("-")[0])


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
    tiling: Tiling | None = None,
) -> Encoded:
    """Encode the frames of a folder, and check the movie that was made.

    :param output: the movie's path; the file appears only when it is whole, together with the pictures beside it. Of
        two writers to the same output at once, the movie of the one that is finished last stays, whole.
    :param encoding: None for H.264 with 25 frames a second, which any player takes.
    :param files: the frames, looked at before they were found right; None for those that lie in
        the folder.
    :param frames: how many frames there must be; None for as many as there are.
    :param first: the number of the first frame; None for whatever it is.
    :param metadata: values that are written into the file as JSON, as its comment.
    :param progress: a function that is told how many frames are encoded, of how many.
    :param poster: whether to make the frame in the middle a picture beside the movie, see `parts.beside`.
    :param sheet: whether to put frames on one sheet beside it.
    :param owner: who encodes: what an earlier try of the same one left is taken away at once.
    :param tiling: how the frames are divided into tiles, which `files` are then, all of each frame; None for whole frames.
    :raises InvalidSetting: the output's ending does not suit the codec.
    :raises RenderingFailed: gaps, odd sides, ffmpeg failed (with its last lines), a frame changed meanwhile, or the movie is not
        what it should be.
    """
    encoding = encoding or Encoding()
    encoding.check_output(output)
    if files is None:
        files = FrameFiles.look(await asyncio.to_thread(check_sequence, folder, frames, first))
    size = (tiling.width, tiling.height) if tiling else await asyncio.to_thread(_size_of, files.paths[0])
    if any(encoding.problems(size, joined=tiling is not None)):
        raise RenderingFailed(
            f"the frames are {size[0]}x{size[1]}; video codecs take even sides only.",
            remedy="render them anew with even sides.",
            retry=False,
            field="resolution",
        )
    await asyncio.to_thread(lambda: output.parent.mkdir(parents=True, exist_ok=True))
    parts = Parts(output, mark_of(owner))
    partial = parts.part(output)
    async with parts.held(), _whole(files, tiling, encoding, partial, metadata or {}) as (whole, shown):
        if partial in whole.paths:  # a picture that was joined is done
            made = await look_at(partial)
        else:
            await _encode_to(partial, whole, encoding, described(output.stem, metadata or {}), progress)
            made = await look_into(partial)
        check_made(made, encoding.length(len(whole.paths)), encoding.fps, size)
        for wanted, make, final in zip((poster, sheet), (make_poster, make_sheet), beside(output), strict=True):
            if wanted:
                await asyncio.to_thread(make, shown, output, parts.part(Path(final)), drawing=whole.drawing)
        await asyncio.to_thread(files.check_unchanged)
        await asyncio.to_thread(parts.publish)
    return replace(made, path=output)


@asynccontextmanager
async def _whole(
    files: FrameFiles, tiling: Tiling | None, encoding: Encoding, target: Path, metadata: Mapping[str, Any]
) -> AsyncIterator[tuple[FrameFiles, Sequence[Path]]]:
    """The files of whole frames, joined of their tiles where there are some, and those that pictures beside the movie
    are made of. What was joined is gone when the block ends.

    :param target: where the frame goes that is a picture already.
    """
    if tiling is None:
        yield files, files.paths
        return
    with tempfile.TemporaryDirectory() as scratch:
        each, frames, shown = tiling.number, list[Path](), list[Path]()
        about = {"comment": json.dumps(metadata, separators=(",", ":"))} if metadata and encoding.still else {}
        for first in range(0, len(files.paths), each):
            tiles = files.paths[first : first + each]
            name = f"{_number(tiles[0]):05d}"
            frames.append(target if encoding.still else Path(scratch) / f"{name}.png")
            layers = files.drawing.layers if files.drawing is not None else ()
            over = [(one.picture(one.shown[first // each]), *one.box[:2]) for one in layers]
            await join_tiles(tiles, tiling, frames[-1], alpha=encoding.alpha, about=about, over=over)
            shown.append(await make_small(frames[-1], Path(scratch) / f"{name}.jpg", _LARGEST_SHOWN))
        yield FrameFiles.look(frames), shown


async def _encode_to(
    target: Path, files: FrameFiles, encoding: Encoding, described_as: str, progress: Callable[[int, int], None]
) -> None:
    number, drawing, inputs, drawn = encoding.length(len(files.paths)), files.drawing, list[str](), ""
    with tempfile.TemporaryDirectory() as scratch:
        if drawing is not None:
            await asyncio.to_thread(drawing.write, Path(scratch))
            inputs, drawn = drawing.inputs(encoding.rate, Path(scratch)), drawing.graph()
        described_in = Path(scratch) / "described.txt"
        described_in.write_text(described_as)
        first = _consecutive(files.paths, Path(scratch))[0]
        # ffmpeg takes the whole path for a pattern, the folder's name too. The numbers are consecutive, so it reads these
        # files and no others.
        pattern = f"{str(first.parent).replace('%', '%%')}/%0{len(first.stem)}d{first.suffix}"
        await run_ffmpeg(
            [
                *("-framerate", encoding.rate, "-start_number", str(int(first.stem)), "-i", pattern),
                *("-f", "ffmetadata", "-i", str(described_in), *inputs, "-map_metadata", "1"),
                *("-frames:v", str(number), *encoding.arguments(drawn), "-y", str(target)),
            ],
            lambda done: progress(done, number),
        )


def _consecutive(paths: Sequence[Path], scratch: Path) -> Sequence[Path]:
    """The files under names whose numbers are consecutive, as ffmpeg reads them: of every so many-th frame, links."""
    numbers = [int(path.stem) for path in paths]
    if numbers == [*range(numbers[0], numbers[0] + len(numbers))]:
        return paths
    links = [scratch / f"{index:0{len(path.stem)}d}{path.suffix}" for index, path in enumerate(paths)]
    for link, path in zip(links, paths, strict=True):
        link.symlink_to(path.absolute())
    return links


def check_made(made: Encoded, frames: int, fps: float, size: tuple[int, int]) -> None:
    """Check that a movie has each frame, for as long as it should be seen, whole.

    :raises RenderingFailed: it does not.
    """
    if made.frames != frames or (made.width, made.height) != size:
        raise RenderingFailed(
            f"The movie is not what it should be: {made.text()} instead of {frames} frames, {size[0]}x{size[1]}.",
            remedy="Clear the task; if it stays so, try another codec, and look at the frames.",
        )
    if made.codec in _PICTURES:
        return
    expected = frames / fps
    if abs(made.duration - expected) > max(1.5 / fps + 0.02 * expected, _CLOCK):
        raise RenderingFailed(
            f"The movie is not what it should be: {made.duration:.2f} s instead of {expected:.2f} s.",
            remedy="Clear the task; if it stays so, try another codec or fps.",
        )


def described(title: str, metadata: Mapping[str, Any]) -> str:
    """The text of ffmpeg's metadata file, in which values may be any text of any length."""

    def escaped(text: str) -> str:
        return re.sub(r"([=;#\\\n])", r"\\\1", text)

    lines = [f"title={escaped(title)}"]
    if metadata:
        lines.append(f"comment={escaped(json.dumps(metadata, separators=(',', ':')))}")
    return ";FFMETADATA1\n" + "\n".join(lines) + "\n"


def make_poster(
    frames: Path | Sequence[Path], output: Path, target: Path | None = None, *, drawing: Drawing | None = None
) -> Path:
    """Write the frame in the middle as a JPEG beside the movie, and return its path.

    :param frames: the frames' files in order, or a folder of them.
    :param output: the movie.
    :param target: the path to write to; None for the picture's name beside the movie.
    :param drawing: what is drawn over the frames; None for nothing.
    """
    from PIL import Image

    found = sequence(frames) if isinstance(frames, Path) else frames
    target, middle = target or Path(beside(output)[0]), len(found) // 2
    with Image.open(found[middle]) as image:
        (drawing.on(image, middle) if drawing else image).convert("RGB").save(target, quality=92)
    return target


def make_sheet(
    frames: Path | Sequence[Path],
    output: Path,
    target: Path | None = None,
    *,
    number: int = 16,
    drawing: Drawing | None = None,
) -> Path:
    """Write frames from the first to the last on one sheet beside the movie, and return its path.

    :param frames: the frames' files in order, or a folder of them.
    :param output: the movie.
    :param target: the path to write to; None for the picture's name beside the movie.
    :param number: how many frames, evenly spread.
    :param drawing: what is drawn over the frames; None for nothing.
    """
    found = sequence(frames) if isinstance(frames, Path) else frames
    chosen = spread(range(len(found)), number)
    return contact_sheet(
        [(str(int(found[index].stem)), found[index]) for index in chosen],
        target or Path(beside(output)[1]),
        over=(drawing.over(index) for index in chosen) if drawing else (),
    )
