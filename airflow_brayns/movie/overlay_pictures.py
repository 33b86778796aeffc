"""Pictures of overlays: texts, a scale bar, a legend and a logo, each on a ground that is transparent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.fields import Color, file_problem
from airflow_brayns.movie.images import srgb

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFont import FreeTypeFont

_SMALLEST = 9  # pixels: a smaller text cannot be read
_BRIGHT = 0.4  # a brighter text has a dark outline
_NO_GLYPH = "\uffff"  # is no character, and never will be


def font_file() -> Path:
    """The file of the font: Source Sans, from a package, since the one that Pillow brings has neither µ nor é."""
    found = find_spec("font_source_sans_pro")
    places = found.submodule_search_locations if found else None
    if not places:
        raise InvalidSetting(
            "overlays", "the package font-source-sans-pro is missing.", remedy="install it where this runs, or leave `overlays` out."
        )  # fmt: skip
    return Path(places[0]) / "files" / "SourceSansPro-Regular.ttf"


@cache
def _font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(font_file(), size, layout_engine=ImageFont.Layout.BASIC)


class Pen:
    """What texts and bars are drawn with.

    :param size: the height of a line of text in pixels.
    :param color: the colour of what is drawn; its outline is black or white.
    """

    def __init__(self, size: float, color: Color) -> None:
        self.size = max(_SMALLEST, round(size))
        self.gap = max(2, self.size // 4)
        self._stroke = max(1, self.size // 14)
        red, green, blue, alpha = (round(255 * part) for part in [*color, 1.0][:4])
        self._ink = (red, green, blue, alpha)
        bright = (0.299 * red + 0.587 * green + 0.114 * blue) / 255
        self._outline = (0, 0, 0, alpha) if bright > _BRIGHT else (255, 255, 255, alpha)

    # ---- texts -------------------------------------------------------------------------------------------------
    def missing(self, text: str) -> str:
        """The characters of a text that the font does not have."""
        font = _font(self.size)
        box = bytes(font.getmask(_NO_GLYPH))
        return "".join(one for one in dict.fromkeys(text) if not one.isspace() and bytes(font.getmask(one)) == box)

    def text_size(self, text: str) -> tuple[int, int]:
        """The width and height of a text's picture, in pixels; the height is any text's."""
        font = _font(self.size)
        return math.ceil(font.getlength(text)) + 2 * self._stroke, sum(font.getmetrics()) + 2 * self._stroke

    def _ground(self, size: tuple[int, int]) -> Picture:
        from PIL import Image

        # of the outline's colour, of which edges that are half there would keep a share of black
        return Image.new("RGBA", size, (*self._outline[:3], 0))

    def _write(self, picture: Picture, text: str, at: tuple[int, int]) -> None:
        from PIL import ImageDraw

        ImageDraw.Draw(picture).text(
            (at[0] + self._stroke, at[1] + self._stroke), text, fill=self._ink, font=_font(self.size),
            stroke_width=self._stroke, stroke_fill=self._outline,
        )  # fmt: skip

    def text(self, text: str, size: tuple[int, int], *, middle: bool = False) -> Picture:
        """A text's picture.

        :param size: its width and height.
        :param middle: whether the text stands in the middle of the width, and not at its left.
        """
        picture = self._ground(size)
        self._write(picture, text, ((size[0] - self.text_size(text)[0]) // 2 if middle else 0, 0))
        return picture

    def _box(self, picture: Picture, left: int, top: int, right: int, bottom: int) -> None:
        """A filled box with an outline around it; all four are its own outermost pixels."""
        from PIL import ImageDraw

        around = self._stroke
        draw = ImageDraw.Draw(picture)
        draw.rectangle((left - around, top - around, right + around, bottom + around), fill=self._outline)
        draw.rectangle((left, top, right, bottom), fill=self._ink)

    # ---- scale bar ---------------------------------------------------------------------------------------------
    def bar_size(self, length: int, text: str) -> tuple[int, int]:
        """The width and height of a scale bar's picture.

        :param length: of the bar, in pixels.
        """
        width, height = self.text_size(text)
        return max(width, length + 2 * self._stroke), height + self.gap + max(2, self.size // 6) + 2 * self._stroke

    def bar(self, length: int, text: str, size: tuple[int, int]) -> Picture:
        """A scale bar's picture: the bar at its right end, and its length in words above the bar's middle.

        :param size: the picture's width and height.
        """
        picture, thick = self._ground(size), max(2, self.size // 6)
        right, bottom = size[0] - self._stroke - 1, size[1] - self._stroke - 1
        self._box(picture, right - length + 1, bottom - thick + 1, right, bottom)
        width, _ = self.text_size(text)
        middle = right - length // 2
        self._write(picture, text, (max(0, min(middle - width // 2, size[0] - width)), 0))
        return picture

    # ---- legend ------------------------------------------------------------------------------------------------
    def _legend_texts(self, low: float, high: float) -> tuple[str, str]:
        return f"{high:g}".replace("-", "\u2212"), f"{low:g}".replace("-", "\u2212")

    def legend_size(self, values: tuple[float, float], label: str, height: int) -> tuple[int, int]:
        """The width and height of a legend's picture.

        :param values: the range's ends.
        :param height: of the colours, in pixels.
        """
        wide = max(self.text_size(text)[0] for text in self._legend_texts(*values))
        line = self.text_size("0")[1]
        above = line + self.gap if label else 0
        return (
            max(wide + self.gap + self.size + 2 * self._stroke, self.text_size(label)[0] if label else 0),
            above + max(height, 2 * line) + 2 * self._stroke,
        )

    def legend(self, colors: Sequence[Color], values: tuple[float, float], label: str, height: int) -> Picture:
        """A legend's picture: the colours from the lowest value, at the bottom, to the highest.

        :param colors: evenly spread over the range, as a renderer takes them: what is shown is what is seen in a picture.
        """
        from PIL import ImageDraw

        size = self.legend_size(values, label, height)
        picture, line = self._ground(size), self.text_size("0")[1]
        right, top = size[0] - self._stroke - 1, (line + self.gap if label else 0) + self._stroke
        bottom, left = size[1] - self._stroke - 1, right - self.size + 1
        if label:
            self._write(picture, label, (size[0] - self.text_size(label)[0], 0))
        self._box(picture, left, top, right, bottom)
        draw = ImageDraw.Draw(picture)
        for row in range(top, bottom + 1):
            share = (bottom - row) / max(1, bottom - top)
            draw.line((left, row, right, row), fill=_color_at(colors, share))
        for text, at in zip(
            self._legend_texts(*values), (top - self._stroke, bottom + self._stroke + 1 - line), strict=True
        ):
            self._write(picture, text, (left - self._stroke - self.gap - self.text_size(text)[0], at))
        return picture


def _color_at(colors: Sequence[Color], share: float) -> tuple[int, int, int, int]:
    place = share * (len(colors) - 1)
    first = min(int(place), len(colors) - 2)
    between = place - first
    red, green, blue = (
        round(255 * srgb(one * (1 - between) + other * between))
        for one, other in zip(colors[first][:3], colors[first + 1][:3], strict=True)
    )
    return red, green, blue, 255


def logo(path: str, size: tuple[int, int]) -> Picture:
    """A logo's picture, as large as it can be within a width and height.

    :raises InvalidSetting: it cannot be read; the error names the field.
    """
    from PIL import Image, ImageOps

    try:
        if told := file_problem(Path(path)):
            raise ValueError(told)
        with Image.open(path, formats=["PNG", "JPEG"]) as found:
            return ImageOps.contain(found.convert("RGBA"), size)
    except FileNotFoundError:
        told = f"there is no {path} where this runs."
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        told = f"{path} is no picture that can be read: {error}."
    raise InvalidSetting("overlays.logo", told, remedy="give the path of a PNG or JPEG file, or leave it out.")
