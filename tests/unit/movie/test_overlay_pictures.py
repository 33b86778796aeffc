from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.overlay_pictures import Pen, logo

WHITE, BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)


def opaque(picture: Image.Image) -> tuple[int, int, int, int]:
    """The box of what is drawn."""
    box = picture.getchannel("A").getbbox()
    assert box is not None
    return box


@pytest.mark.parametrize(
    "text", ["5 µm", "Größe, naïveté", "ΔV ≤ −70 mV", "x²", "100 %", "$(rm) %{pts} \\n 'quoted': [a]"]
)
def test_the_font_has_what_figures_need_and_takes_every_text_as_it_is(text: str) -> None:
    pen = Pen(40, WHITE)
    assert pen.missing(text) == ""
    picture = pen.text(text, pen.text_size(text))
    assert picture.size == pen.text_size(text)
    left, _, right, _ = opaque(picture)
    assert left <= 4 and right >= picture.width - 8


def test_what_the_font_has_not_is_told() -> None:
    assert Pen(40, WHITE).missing("a語b語字") == "語字"


@pytest.mark.parametrize(("color", "outline"), [(WHITE, 0), (BLACK, 255)])
def test_a_text_has_an_outline_that_stands_out(color: tuple[float, float, float], outline: int) -> None:
    pen = Pen(40, color)
    pixels = set(pen.text("I", pen.text_size("I")).get_flattened_data())
    assert {(outline,) * 3 + (255,), (round(255 * color[0]),) * 3 + (255,)} <= pixels
    # no edge is dark that lies between white and what is transparent
    assert outline == 0 or all(red >= 200 for red, _, _, alpha in pixels if 0 < alpha < 255)


def test_a_text_that_is_too_small_to_read_is_drawn_larger() -> None:
    assert Pen(1, WHITE).size == 9


def test_a_scale_bar_is_as_long_as_it_says() -> None:
    pen = Pen(30, WHITE)
    size = pen.bar_size(237, "100 µm")
    picture = pen.bar(237, "100 µm", size)
    assert picture.size == size
    row = [picture.getpixel((x, size[1] - 5)) for x in range(size[0])]
    assert row.count((255, 255, 255, 255)) == 237


def test_the_length_stands_over_the_middle_of_its_bar() -> None:
    pen = Pen(30, WHITE)
    size = pen.bar_size(237, "100 µm")
    left, _, right, _ = opaque(pen.bar(237, "100 µm", size).crop((0, 0, size[0], size[1] // 2)))
    assert abs((left + right) / 2 - (size[0] - 237 / 2)) < 5


def test_a_bar_that_is_shorter_than_its_text_stands_at_the_right_end() -> None:
    pen = Pen(30, WHITE)
    size = pen.bar_size(10, "100 µm")
    picture = pen.bar(10, "100 µm", size)
    row = [x for x in range(size[0]) if picture.getpixel((x, size[1] - 5)) == (255, 255, 255, 255)]
    assert row == list(range(row[0], row[0] + 10))
    assert row[-1] == size[0] - 3


def test_a_legend_goes_from_the_lowest_value_at_the_bottom_to_the_highest() -> None:
    pen = Pen(20, WHITE)
    picture = pen.legend([(0, 0, 1), (0, 1, 0), (1, 0, 0)], (-80, -10), "mV", 200)
    assert picture.size == pen.legend_size((-80, -10), "mV", 200)
    column = [picture.getpixel((picture.width - 10, y)) for y in range(picture.height)]
    colors = [one for one in column if isinstance(one, tuple) and one[3] == 255 and max(one[:3]) > 100]
    assert colors[-1][:3] == (0, 0, 255)
    assert (255, 0, 0) in [one[:3] for one in colors]
    assert (0, 255, 0) in [(red, green, blue) for red, green, blue, _ in colors] or any(
        green > 250 and red < 60 and blue < 60 for red, green, blue, _ in colors
    )
    # in between as pictures show it: a half of linear light is 188 of 255
    assert any(abs(red - 188) < 4 and abs(green - 188) < 4 and blue == 0 for red, green, blue, _ in colors)


def test_a_logo_keeps_its_shape_and_what_is_transparent(tmp_path: Path) -> None:
    Image.new("RGBA", (400, 100), (255, 0, 0, 128)).save(tmp_path / "logo.png")
    found = logo(str(tmp_path / "logo.png"), (200, 200))
    assert (found.size, found.getpixel((9, 9))) == ((200, 50), (255, 0, 0, 128))


@pytest.mark.parametrize("harm", ["missing", "text", "cut", "folder"])
def test_a_logo_that_cannot_be_read_names_the_field(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "logo.png"
    if harm == "text":
        path.write_text("no picture")
    elif harm == "cut":
        Image.effect_noise((64, 64), 60).save(path)
        path.write_bytes(path.read_bytes()[:500])
    elif harm == "folder":
        path.mkdir()
    with pytest.raises(
        InvalidSetting, match="overlays.logo: give the path of a PNG or JPEG file, or leave it out"
    ) as raised:
        logo(str(path), (200, 200))
    assert str(path) in str(raised.value)
