"""Images: whether one is whole, how much two differ, and many on one sheet."""

from __future__ import annotations

import io
import logging
import math
import secrets
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.errors.plain import one_line

if TYPE_CHECKING:
    from PIL.Image import Image

_NEAR = 6  # of 255: so far a picture is from what was reckoned; JPEG is not exact either
_FORMATS = {"png": "PNG", "jpg": "JPEG"}
_LOADERS = {"png": "pngload", "jpg": "jpegload"}  # libvips' names
STREAMED = {"access": "sequential", "fail_on": "warning"}  # how libvips reads: row by row, and nothing that is broken
_ENDS = {"png": b"IEND\xaeB`\x82", "jpg": b"\xff\xd9"}  # an image must end with this; Pillow forgives a missing end


def check_picture(data: bytes, resolution: tuple[int, int], image_format: str) -> None:
    """Check an image by decoding it to its last pixel.

    :param resolution: the width and height that it must have.
    :param image_format: `png` or `jpg`.
    :raises RenderingFailed: the image is cut off, of another size or of another format; the text says which.
    """
    from PIL import Image  # imported on use, since a DAG file that only names operators needs no Pillow

    check_end(data, image_format)
    try:
        with Image.open(io.BytesIO(data), formats=[_FORMATS[image_format]]) as image:
            if image.size != resolution:
                raise RenderingFailed(
                    f"it is {image.size[0]}x{image.size[1]} pixels and not {resolution[0]}x{resolution[1]}"
                )
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RenderingFailed(f"it is no whole {_FORMATS[image_format]} ({len(data)} bytes: {error})") from None


def check_end(data: bytes, image_format: str) -> None:
    """Check that an image ends as its format does.

    :raises RenderingFailed: the image is cut off.
    """
    if not data.endswith(_ENDS[image_format]):
        raise RenderingFailed(f"it is no whole {_FORMATS[image_format]}: its end is missing ({len(data)} bytes)")


@cache
def vips() -> Any:
    """The module pyvips.

    :raises InvalidSetting: it is not installed; the error names the extra that has it.
    """
    logging.getLogger("pyvips").setLevel(logging.WARNING)  # it tells of each thread pool, as information
    try:
        import pyvips
    except (ImportError, OSError) as error:  # OSError: pyvips is there, but libvips is not
        raise InvalidSetting(
            "tiles",
            f"they are joined by libvips, which is not installed on this worker ({error}).",
            remedy="install the extra: pip install 'airflow-brayns[tiles]'; or leave `tiles` out.",
        ) from None
    pyvips.cache_set_max(0)  # it would take a file of the same name for the one that was there before
    return pyvips


def check_tile(data: bytes, size: tuple[int, int], image_format: str) -> None:
    """Check a tile by decoding it to its last pixel, row by row.

    :param size: the width and height that it must have.
    :param image_format: `png` or `jpg`.
    :raises RenderingFailed: it is cut off, of another size or of another format; the text says which.
    """
    check_end(data, image_format)
    try:
        image = vips().Image.new_from_buffer(data, "", **STREAMED)
        if not image.get("vips-loader").startswith(_LOADERS[image_format]):
            raise RenderingFailed(f"it is no {image_format}")
        if (image.width, image.height) != size:
            raise RenderingFailed(f"it is {image.width}x{image.height} pixels and not {size[0]}x{size[1]}")
        image.avg()
    except vips().Error as error:
        raise RenderingFailed(
            f"it is no whole {image_format} ({len(data)} bytes: {one_line(str(error))[:500]})"
        ) from None


def tile_color(data: bytes) -> tuple[int, int, int] | None:
    """The colour that all pixels of a whole tile have; None where there are several."""
    found = vips().Image.new_from_buffer(data, "", access="sequential").stats()
    lows, highs = ([found(end, band + 1)[0] for band in range(min(3, found.height - 1))] for end in (0, 1))
    if lows != highs:
        return None
    red, green, blue = (int(one) for one in (lows * 3)[:3])
    return red, green, blue


def color_of(data: bytes) -> tuple[int, int, int] | None:
    """The colour that all pixels of a whole image have; None where there are several."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        found = image.convert("RGB").getcolors(1)
    return None if found is None else found[0][1]  # type: ignore[return-value]


def is_empty(color: tuple[int, int, int], background: Sequence[float]) -> bool:
    """Whether a picture of that one colour shows nothing: it is the background, or the dark.

    :param background: of the renderer, linear; pictures are sRGB (3.10.1, recorded).
    """
    empty = [round(255 * srgb(part)) for part in background[:3]]
    return max(color) <= _NEAR or all(abs(one - other) <= _NEAR for one, other in zip(color, empty, strict=True))


def srgb(part: float) -> float:
    """A linear part of a colour, as renderers take it, as it is written into pictures; both from 0 to 1."""
    return 12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055


def difference(one: bytes, other: bytes) -> float:
    """The mean difference of two images of one size, between 0 and 255."""
    from PIL import Image, ImageChops, ImageStat

    with Image.open(io.BytesIO(one)) as first, Image.open(io.BytesIO(other)) as second:
        apart = ImageChops.difference(first.convert("RGB"), second.convert("RGB"))
        return float(sum(ImageStat.Stat(apart).mean) / 3)


SHEET_WIDTH, SHEET_COLUMNS, SHEET_FRAMES = 1600, 4, 16
CELL = SHEET_WIDTH // SHEET_COLUMNS


def contact_sheet(
    frames: Sequence[tuple[str, Path]],
    target: Path,
    *,
    columns: int = SHEET_COLUMNS,
    width: int = SHEET_WIDTH,
    over: Iterable[Image] = (),
) -> Path:
    """Draw small pictures of frames on one sheet, each with its label, and return the sheet's path.

    :param frames: label and file of each frame.
    :param target: the sheet's path, a PNG or JPEG file.
    :param columns: how many pictures stand side by side.
    :param width: the sheet's width in pixels.
    :param over: a picture for each frame that is drawn over it; none for nothing.
    """
    from PIL import Image

    columns = max(1, min(columns, len(frames)))
    cell = width // columns
    thumbnails = []
    for (label, path), drawn in zip_longest(frames, over):
        with Image.open(path) as image:
            small = image.convert("RGBA" if drawn else "RGB")
        if drawn is not None:
            small.alpha_composite(drawn.resize(small.size))
            small = small.convert("RGB")
        thumbnails.append(thumbnail(small, label, cell))
    sheet = lay_out(thumbnails, columns=columns, width=width)
    partial = target.with_name(f".{secrets.token_hex(6)}.part{target.suffix}")
    try:
        sheet.save(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def thumbnail(image: Image, label: str, cell: int = CELL) -> Image:
    """Make an image small, with a label in its corner.

    :param image: it is changed.
    :param cell: the width of its place on a sheet.
    """
    from PIL import ImageDraw

    image.thumbnail((cell - 8, cell * 4))
    ImageDraw.Draw(image).text((6, 4), label, fill="white", stroke_width=2, stroke_fill="black")
    return image


def lay_out(
    thumbnails: Sequence[Image | None],
    *,
    columns: int = SHEET_COLUMNS,
    width: int = SHEET_WIDTH,
    cell: tuple[int, int] = (0, 0),
) -> Image:
    """Put small images on one sheet.

    :param thumbnails: the images in order; None for one that is not there yet, whose place is left free.
    :param cell: width and height of an image that is not there.
    """
    from PIL import Image

    across = width // columns
    height = max(cell[1] if one is None else one.height for one in thumbnails) + 8
    sheet = Image.new("RGB", (width, height * math.ceil(len(thumbnails) / columns)), (24, 26, 30))
    for number, one in enumerate(thumbnails):
        shown = one or Image.new("RGB", cell, (38, 41, 48))
        sheet.paste(shown, (number % columns * across + (across - shown.width) // 2, number // columns * height + 4))
    return sheet


def spread(frames: Sequence[int], number: int) -> list[int]:
    """Pick a number of frames, evenly spread, the first and the last among them."""
    if len(frames) <= number:
        return list(frames)
    return (
        [frames[round(index * (len(frames) - 1) / (number - 1))] for index in range(number)]
        if number > 1
        else [frames[0]]
    )
