"""Joining of tiles to whole frames, and what else is done to pictures that are too large to be held in memory.

libvips does it (pyvips, the extra `tiles`): it reads and writes pictures as streams of rows, so that a frame of
40,000 x 40,000 pixels takes no more memory than a few rows of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_brayns.errors import RenderingFailed
from airflow_brayns.errors.plain import one_line
from airflow_brayns.movie.ffmpeg import Encoded
from airflow_brayns.movie.images import STREAMED, vips
from airflow_brayns.movie.tiles import Tiling

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Placed = tuple["Picture", int, int]  # a picture, and its place from the left and from the top
_CODECS = {"pngload": "png", "jpegload": "mjpeg"}  # as ffmpeg calls them
_SAVED: Mapping[str, Mapping[str, Any]] = {
    ".png": {"compression": 4},
    ".jpg": {"Q": 95, "subsample_mode": "off"},
}
_LONGEST_EXIF = 60_000  # bytes; a JPEG's Exif holds less than 65,536


async def join_tiles(
    tiles: Sequence[Path],
    tiling: Tiling,
    target: Path,
    *,
    alpha: bool,
    about: Mapping[str, str],
    over: Sequence[Placed] = (),
) -> None:
    """Join a frame's tiles, and write it.

    :param tiles: the files of all tiles of the frame, in order.
    :param target: the frame's path; its ending tells the format.
    :param alpha: whether to keep what is transparent.
    :param about: texts that are written into the file, by keyword.
    :param over: pictures that are drawn over the frame.
    :raises RenderingFailed: a tile cannot be read, or the frame cannot be written.
    """
    image = await asyncio.to_thread(_joined, tiles, tiling, alpha, about, over)
    await _evaluated(image, lambda: image.write_to_file(str(target), **_SAVED[_ending(target)]))


def _joined(
    tiles: Sequence[Path], tiling: Tiling, alpha: bool, about: Mapping[str, str], over: Sequence[Placed]
) -> Any:
    """The frame as an image of libvips, of which nothing is read yet but the tiles' headers."""
    found = []
    try:
        for path, tile in zip(tiles, tiling.tiles(), strict=True):
            image = vips().Image.new_from_file(str(path), **STREAMED)
            found.append(image.crop(tile.skip_left, tile.skip_top, tile.width, tile.height))
    except vips().Error as error:
        raise _unjoined(error) from None
    across = tiling.columns
    rows = [found[first : first + across] for first in range(0, len(found), across)]
    beside = [reduce(lambda one, other: one.join(other, "horizontal"), row) for row in rows]
    frame = reduce(lambda one, other: one.join(other, "vertical"), beside)
    frame = frame if alpha or frame.bands < 4 else frame.extract_band(0, n=3)
    for picture, left, top in over:
        frame = _with(frame, picture, left, top)
    frame = frame.copy()
    for number, (keyword, text) in enumerate(about.items()):
        frame.set_type(vips().GValue.gstr_type, f"png-comment-{number}-{keyword}", text)
    if (text := about.get("comment", "")) and len(text.encode()) <= _LONGEST_EXIF:
        frame.set_type(vips().GValue.gstr_type, "exif-ifd0-ImageDescription", text)
    return frame


def _with(frame: Any, picture: Picture, left: int, top: int) -> Any:
    """A frame with a picture drawn over it; what is transparent in the frame stays so."""
    layer = vips().Image.new_from_memory(picture.convert("RGBA").tobytes(), *picture.size, 4, "uchar")
    drawn = frame.composite2(layer.copy(interpretation="srgb"), "over", x=left, y=top)
    return (drawn if frame.bands == 4 else drawn.extract_band(0, n=3)).cast("uchar")


async def _evaluated(image: Any, work: Any) -> None:
    """Run what evaluates an image in a thread, and end it when the task is told to stop."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        image.set_kill(True)
        await asyncio.gather(running, return_exceptions=True)
        raise
    except vips().Error as error:
        raise _unjoined(error) from None


def _unjoined(error: BaseException) -> RenderingFailed:
    return RenderingFailed(
        f"the tiles cannot be joined: {one_line(str(error))[:500]}.",
        remedy="see that the disk has room; a retry looks at all tiles again.",
        field="frames",
    )


def _ending(path: Path) -> str:
    return path.suffix.lower().replace(".jpeg", ".jpg")


async def look_at(path: Path) -> Encoded:
    """Look into a picture as `ffmpeg.look_into` does into a movie, and decode it to its last pixel.

    :raises RenderingFailed: it is not whole.
    """
    try:
        image = await asyncio.to_thread(lambda: vips().Image.new_from_file(str(path), **STREAMED))
    except vips().Error as error:
        raise _unjoined(error) from None
    await _evaluated(image, image.avg)
    loader, size = image.get("vips-loader"), (await asyncio.to_thread(path.stat)).st_size
    return Encoded(path, 1, 0.0, image.width, image.height, _CODECS.get(loader, loader), size)


async def make_small(path: Path, target: Path, side: int) -> Path:
    """Write a picture of any size as a JPEG of at most so many pixels a side, and return its path."""

    def small() -> None:
        image = vips().Image.thumbnail(str(path), side, height=side, size="down")
        (image.extract_band(0, n=3) if image.bands > 3 else image).write_to_file(str(target), Q=92)

    await asyncio.to_thread(small)
    return target
