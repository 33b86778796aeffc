"""Tiles: the parts that a frame is rendered in where it is too large for one service, and where each lies in it.

All tiles of a frame have one size. Where the frame cannot be divided evenly, those of the last column and row reach back
into their neighbours, and what both have is taken from the neighbour: each pixel of the frame is kept once.

braynsService takes a picture's shape from the size of what it renders (3.10.1: there is no other parameter), so a tile of
another shape than its frame's would show another part of the scene. `Tiling` therefore sets region and projection
together; regions stay between 0 and 1, beyond which none was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import atan, degrees, radians, tan
from typing import Any

SMALLEST_SIDE, LARGEST_SIDE = (
    64,
    16384,
)  # pixels of what a service renders; a smaller one kills braynsService (3.10.1, run)
MOST_PIXELS = 178_000_000  # of a frame that is no tile: Pillow takes a larger picture for an attack
# Of a tile: its bytes must go into one message of 512 MiB (`brayns.client.LARGEST_MESSAGE`) where PNG cannot make them less.
_MOST_TILE_PIXELS = 120_000_000
MOST_TILES = 64  # on each axis
LARGEST_JOINED = 1_000_000  # pixels a side of a frame in tiles: what libpng reads unless it is told otherwise


@dataclass(frozen=True)
class Tile:
    """One tile of a frame.

    :param column, row: where it is, from 0, from the left and from the top.
    :param left, top: the first pixel of the frame that is kept of it, from the left and from the top.
    :param width, height: the pixels that are kept of it.
    :param skip_left, skip_top: the pixels at its left and top that its neighbours have too, and that are dropped.
    """

    column: int
    row: int
    left: int
    top: int
    width: int
    height: int
    skip_left: int = 0
    skip_top: int = 0

    def __str__(self) -> str:
        return f"row {self.row + 1}, column {self.column + 1}"


@dataclass(frozen=True)
class Tiling:
    """How a frame is divided.

    :param columns, rows: how many tiles stand side by side, and how many above each other.
    :param width, height: the frame's size in pixels.
    """

    columns: int
    rows: int
    width: int
    height: int

    @property
    def number(self) -> int:
        """How many tiles a frame has."""
        return self.columns * self.rows

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what a service renders for a tile."""
        return -(-self.width // self.columns), -(-self.height // self.rows)

    def tile(self, number: int) -> Tile:
        """The tile of a number: from the left to the right, row by row from the top."""
        row, column = divmod(number, self.columns)
        wide, high = self.size
        left, right = (one * self.width // self.columns for one in (column, column + 1))
        top, bottom = (one * self.height // self.rows for one in (row, row + 1))
        skip_left, skip_top = max(0, left + wide - self.width), max(0, top + high - self.height)
        return Tile(column, row, left, top, right - left, bottom - top, skip_left, skip_top)

    def tiles(self) -> Iterator[Tile]:
        """Yield all tiles, in order."""
        return map(self.tile, range(self.number))

    @cached_property
    def _shape(self) -> tuple[float, float]:
        """How much of the picture's plane the frame takes, on each axis, where that plane has a tile's shape. One of them
        is 1; both are where the shapes are the same.
        """
        wide, high = self.size
        across, down = self.width * high, wide * self.height
        return (1.0, down / across) if across >= down else (across / down, 1.0)

    def region(self, tile: Tile) -> dict[str, list[float]]:
        """The region of a tile as `set-camera-region` takes it: x to the right and y upwards from 0 to 1 (3.10.1,
        recorded).
        """
        across, upward = self._shape
        wide, high = self.size
        x, y = tile.left - tile.skip_left, tile.top - tile.skip_top

        def place(share: float, taken: float) -> float:
            return share if taken == 1 else 0.5 + (share - 0.5) * taken

        start = [place(x / self.width, across), place(1 - y / self.height, upward)]
        end = [place((x + wide) / self.width, across), place(1 - (y + high) / self.height, upward)]
        return {"image_start": start, "image_end": end}

    def projection(self, name: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The frame's projection, so much wider that the frame lies within a plane of a tile's shape.

        :param name: of the projection: `perspective` or `orthographic`.
        """
        found, taken = dict(parameters), self._shape[1]
        if taken != 1 and "fovy" in found:
            found["fovy"] = degrees(2 * atan(tan(radians(found["fovy"]) / 2) / taken))
        if taken != 1 and "height" in found:
            found["height"] = found["height"] / taken
        return name, found


def size_problems(size: tuple[int, int], tiles: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """Why frames of a size cannot be rendered, whole or in tiles: which field is wrong, and what would be right.

    :param tiles: columns and rows; None for whole frames.
    """
    shown = f"{size[0]}x{size[1]}"
    if tiles is None:
        advice = "make it smaller, or give `tiles`"
        if max(size) > LARGEST_SIDE:
            yield "resolution", f"{advice}: at most {LARGEST_SIDE} pixels a side are rendered at once, not {shown}"
        if size[0] * size[1] > MOST_PIXELS:
            yield "resolution", f"{advice}: at most {MOST_PIXELS:,} pixels are rendered at once, not {shown}"
        return
    wide, high = Tiling(*tiles, *size).size
    told = f"{tiles[0]} x {tiles[1]} of {shown} are {wide}x{high} pixels each"
    if min(wide, high) < SMALLEST_SIDE:
        yield "tiles", f"take fewer: {told}, and braynsService needs {SMALLEST_SIDE}x{SMALLEST_SIDE}"
    if max(wide, high) > LARGEST_SIDE or wide * high > _MOST_TILE_PIXELS:
        yield "tiles", f"take more: {told}; at most {LARGEST_SIDE} a side and {_MOST_TILE_PIXELS:,} in all"
