"""How frames are divided: to the pixel, and each tile's region and projection show what lies there in the whole frame."""

from __future__ import annotations

import math

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.tiles import Tiling

SHAPES = [
    (4, 4, 1024, 1024),
    (4, 4, 1001, 701),
    (3, 2, 500, 1300),
    (1, 1, 97, 65),
    (5, 7, 999, 1234),
    (2, 4, 1920, 1080),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_pixel_is_kept_once(shape: tuple[int, int, int, int]) -> None:
    tiling = Tiling(*shape)
    rows = {tile.row: (tile.top, tile.height) for tile in tiling.tiles()}
    columns = {tile.column: (tile.left, tile.width) for tile in tiling.tiles()}
    for parts, whole in ((rows, tiling.height), (columns, tiling.width)):
        ends = [first + number for first, number in (parts[one] for one in sorted(parts))]
        assert [parts[one][0] for one in sorted(parts)] == [0, *ends[:-1]]
        assert ends[-1] == whole
    for tile in tiling.tiles():
        wide, high = tiling.size
        assert 0 <= tile.skip_left <= wide - tile.width
        assert 0 <= tile.skip_top <= high - tile.height


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["perspective", "orthographic"])
def test_a_tile_shows_what_lies_there_in_the_whole_frame(shape: tuple[int, int, int, int], name: str) -> None:
    """A pixel of a tile looks where the frame's pixel does: x and y in the picture's plane, as a service reckons them."""
    tiling = Tiling(*shape)
    wide, high = tiling.size

    def half(parameters: dict[str, float]) -> float:
        return math.tan(math.radians(parameters["fovy"]) / 2) if name == "perspective" else parameters["height"] / 2

    asked = {"fovy": 50.0} if name == "perspective" else {"height": 20.0}
    told, projected = tiling.projection(name, asked)
    assert told == name
    for tile in tiling.tiles():
        region = tiling.region(tile)
        (left, top), (right, bottom) = region["image_start"], region["image_end"]
        assert all(-1e-12 <= one <= 1 + 1e-12 for one in (left, top, right, bottom)), "beyond it none was recorded"
        for x, y in ((tile.skip_left, tile.skip_top), (tile.skip_left + tile.width, tile.skip_top + tile.height)):
            across = (2 * (left + (right - left) * x / wide) - 1) * wide / high * half(projected)
            upward = (2 * (top + (bottom - top) * y / high) - 1) * half(projected)
            column, row = tile.left - tile.skip_left + x, tile.top - tile.skip_top + y
            assert across == pytest.approx(
                (2 * column / tiling.width - 1) * tiling.width / tiling.height * half(asked), abs=1e-9
            )
            assert upward == pytest.approx((1 - 2 * row / tiling.height) * half(asked), abs=1e-9)


def test_tiles_of_the_frames_shape_leave_the_projection_as_it_is() -> None:
    """To the last digit: as a picture of 40,000 x 40,000 pixels was made on 16 nodes."""
    tiling = Tiling(4, 4, 40_000, 40_000)
    assert tiling.size == (10_000, 10_000)
    assert tiling.projection("perspective", {"fovy": 45.0, "aperture_radius": 1.0})[1] == {
        "fovy": 45.0,
        "aperture_radius": 1.0,
    }
    assert tiling.region(tiling.tile(0)) == {"image_start": [0, 1], "image_end": [0.25, 0.75]}
    assert tiling.region(tiling.tile(15)) == {"image_start": [0.75, 0.25], "image_end": [1, 0]}


HUGE = {
    "models": [{"path": "/a.obj"}],
    "frames": 1,
    "output": "cover.png",
    "resolution": [40_000, 40_000],
    "tiles": [4, 4],
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tiles": [0, 4]}, r"^tiles\.0: .*greater than or equal to 1"),
        ({"tiles": [4, 65]}, r"^tiles\.1: .*less than or equal to 64"),
        ({"tiles": 4}, r"^tiles: "),
        ({"tiles": [4, True]}, r"^tiles: must be a number"),
        ({"tiles": [2, 2]}, r"^tiles: take more: 2 x 2 of 40000x40000 are 20000x20000 pixels each; at most 16384 a side"),
        ({"resolution": [1920, 1080], "tiles": [31, 17]}, r"^tiles: take fewer: 31 x 17 of 1920x1080 are 62x64 pixels each, .*needs 64x64"),
        ({"tiles": None}, r"^resolution: make it smaller, or give `tiles`: at most 16384 pixels a side .*not 40000x40000"),
        ({"tiles": None, "resolution": [14_000, 14_000]}, r"^resolution: make it smaller, or give `tiles`: at most 178,000,000 pixels .*not 14000x14000"),
        ({"output": "cover.mp4"}, r"^resolution: at most 16384 pixels a side for h264, not 40000x40000"),
        ({"output": "cover.mov", "codec": "prores"}, r"^resolution: make it smaller: ffmpeg takes no picture of 40000x40000"),
        ({"output": "cover.gif", "codec": "gif"}, r"^resolution: make it smaller"),
        ({"output": "cover.jpg", "resolution": [70_000, 4000], "tiles": [8, 4]}, r"^resolution: at most 65500 pixels a side for jpg"),
        ({"resolution": [2_000_000, 64], "tiles": [64, 1]}, r"^resolution\.0: .*1000000"),
        ({"version": 1, "tiles": [2, 2]}, r"^tiles: is none of version 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_divided_or_joined_is_refused_at_its_key(changes: dict[str, object], says: str) -> None:
    """Before a node is asked for: the specification is read first."""
    with pytest.raises(InvalidSetting, match=says):
        MovieSpecification.check({**HUGE, **changes})


def test_what_can_be_joined_is_taken() -> None:
    for changes in ({}, {"output": "cover.jpg"}, {"output": "a.mp4", "frames": 50, "resolution": [16_000, 9000]}):
        spec = MovieSpecification.check({**HUGE, **changes})
        assert spec.tiling is not None
        assert spec.tiling.number == 16
        assert MovieSpecification.check(spec.plain()) == spec
    spec.encoding.check_size(spec.resolution, joined=True)
