"""Whether an image is whole, how much two differ, and many on one sheet."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.images import (
    check_picture,
    check_tile,
    color_of,
    contact_sheet,
    difference,
    is_empty,
    spread,
    tile_color,
    vips,
)


def encoded(image: Image.Image, image_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()


def picture(color: str = "red", size: tuple[int, int] = (64, 48)) -> Image.Image:
    image = Image.effect_noise(size, 50).convert("RGB")
    image.paste(color, (0, 0, size[0] // 2, size[1]))
    return image


@pytest.mark.parametrize(("name", "image_format"), [("png", "PNG"), ("jpg", "JPEG")])
def test_a_whole_image_passes_and_a_damaged_one_is_told(name: str, image_format: str) -> None:
    data = encoded(picture(), image_format)
    check_picture(data, (64, 48), name)
    with pytest.raises(RenderingFailed, match=f"no whole {image_format}: its end is missing .{len(data) - 1} bytes"):
        check_picture(data[:-1], (64, 48), name)
    with pytest.raises(RenderingFailed, match="64x48 pixels and not 64x47"):
        check_picture(data, (64, 47), name)


def test_an_image_that_lacks_its_middle_is_told() -> None:
    data = encoded(picture())
    with pytest.raises(RenderingFailed, match="no whole PNG"):
        check_picture(data[: len(data) // 2] + data[-12:], (64, 48), "png")


def test_another_format_is_no_picture() -> None:
    data = encoded(picture(), "JPEG") + b"IEND\xaeB`\x82"
    with pytest.raises(RenderingFailed, match="no whole PNG"):
        check_picture(data, (64, 48), "png")


def test_one_colour_is_no_scene() -> None:
    image = Image.new("RGB", (64, 48), "navy")
    assert color_of(encoded(image)) == (0, 0, 128)
    image.putpixel((63, 47), (1, 2, 3))
    assert color_of(encoded(image)) is None
    transparent = Image.new("RGBA", (8, 8), (1, 2, 3, 255))
    transparent.putpixel((0, 0), (1, 2, 3, 0))
    assert color_of(encoded(transparent)) == (1, 2, 3), "what is not seen is no difference"


def test_how_much_two_images_differ_is_the_mean_of_all_channels() -> None:
    black, red = encoded(Image.new("RGB", (8, 8), "black")), encoded(Image.new("RGB", (8, 8), (255, 0, 0)))
    assert difference(black, black) == 0
    assert difference(black, red) == difference(red, black) == 85


def test_a_sheet_shows_each_frame_in_its_cell(tmp_path: Path) -> None:
    frames = []
    for number, color in enumerate(("red", "lime", "blue", "white", "yellow")):
        Image.new("RGB", (160, 90), color).save(tmp_path / f"{number}.png")
        frames.append((f"frame {number}", tmp_path / f"{number}.png"))
    target = contact_sheet(frames, tmp_path / "sheet.png", columns=2, width=400)
    with Image.open(target) as sheet:
        assert sheet.size[0] == 400
        row = sheet.size[1] // 3
        assert row == 90 + 8, "none is made larger than it is"
        centers = [
            (100, row // 2),
            (300, row // 2),
            (100, row + row // 2),
            (300, row + row // 2),
            (100, 2 * row + row // 2),
        ]
        assert [sheet.getpixel(at) for at in centers] == [
            (255, 0, 0),
            (0, 255, 0),
            (0, 0, 255),
            (255, 255, 255),
            (255, 255, 0),
        ]
        assert sheet.getpixel((300, 2 * row + row // 2)) == (24, 26, 30), "nothing is in the last cell"
        edges = [(100, 3), (100, 4), (100, 93), (100, 94), (19, 50), (20, 80), (179, 80), (180, 50)]
        inside = [sheet.getpixel(at) != (24, 26, 30) for at in edges]
        assert inside == [False, True, True, False, False, True, True, False], "in the middle of its cell"
        assert sheet.crop((0, 0, 90, 24)).getcolors(4) is None, "each has its label"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
        "4.png",
        "sheet.png",
    ]


def test_one_frame_has_the_sheet_to_itself(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "0.png")
    with Image.open(contact_sheet([("x", tmp_path / "0.png")], tmp_path / "sheet.png")) as sheet:
        assert sheet.size == (1600, 796 + 8)


@pytest.mark.parametrize(
    ("frames", "number", "chosen"),
    [
        ([0, 1, 2], 5, [0, 1, 2]), ([0, 1, 2], 3, [0, 1, 2]), ([3, 5, 7, 9, 11], 3, [3, 7, 11]), ([3, 5, 7], 1, [3]), ([0, 1, 2, 3], 2, [0, 3]), ([], 3, []),
    ],
)  # fmt: skip
def test_a_few_of_many_frames_are_spread_evenly(frames: list[int], number: int, chosen: list[int]) -> None:
    assert spread(frames, number) == chosen


@pytest.mark.parametrize(
    ("color", "empty"),
    [((63, 80, 122), True), ((0, 0, 0), True), ((17, 35, 90), False), ((255, 255, 255), False), ((80, 80, 122), False)],
)
def test_a_picture_of_the_background_shows_nothing(color: tuple[int, int, int], empty: bool) -> None:
    """As recorded of 3.10.1: a background of 0.05, 0.08, 0.2 is 63, 80, 122 in the picture."""
    assert is_empty(color, (0.05, 0.08, 0.2, 1.0)) == empty


# ---- tiles
def tile(size: tuple[int, int], kind: str = "PNG", color: tuple[int, ...] | None = (9, 8, 7)) -> bytes:
    rows = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), np.uint8)
    made = Image.fromarray(rows) if color is None else Image.new("RGB" if len(color) == 3 else "RGBA", size, color)
    buffer = io.BytesIO()
    made.save(buffer, kind)
    return buffer.getvalue()


def test_a_tile_is_checked_to_its_last_pixel() -> None:
    whole = tile((96, 64), color=None)
    check_tile(whole, (96, 64), "png")
    check_tile(tile((96, 64), "JPEG", None), (96, 64), "jpg")
    broken = whole[:4000] + bytes(100) + whole[4100:]
    for data, size, kind, says in (
        (whole[:-20], (96, 64), "png", "its end is missing"),
        (broken, (96, 64), "png", "it is no whole png"),
        (whole, (96, 66), "png", "it is 96x64 pixels and not 96x66"),
        (b"no picture" + whole[-8:], (96, 64), "png", "it is no whole png"),
        (tile((96, 64), "JPEG")[:-2] + whole[-8:], (96, 64), "png", "it is no png"),
    ):
        with pytest.raises(RenderingFailed, match=says):
            check_tile(data, size, kind)


def test_the_colour_of_a_tile_of_one_colour() -> None:
    assert tile_color(tile((96, 64))) == (9, 8, 7)
    assert tile_color(tile((96, 64), color=(1, 2, 3, 0))) == (1, 2, 3)
    assert tile_color(tile((96, 64), color=None)) is None


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    vips.cache_clear()
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(
        InvalidSetting, match=r"^tiles: install the extra: pip install 'airflow-brayns\[tiles\]'; or leave"
    ):
        vips()
    monkeypatch.undo()
    assert vips().Image
