"""What others write as YAML and JSON, and what they meant by it."""

from __future__ import annotations

import json

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.yaml_text import Text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("models:\n- path: a.obj\n  color: #ff0000\n", 3),
        ("models:\r\n- path: a.obj\r\n  color:   #f00  \r\nframes: 3\r\n", 3),
        ("\ufeff# \u00e9 \U0001f9e0\nrenderer:\n  background_color: #000\n", 3),
        ("color_ramp:\n  colors:\n  - #f00\n  - #00f\n", 3),
        ("models: [{path: a.obj, color: #ff000080\n}]\n", 1),
        ("color: #ff0000  # red\n", 1),
        ("color: #ff0000,\n", 1),
        ("frames: 1\ncolor:\n  #ff0000\n", 2),
        ("background_color: #fff # white\n", 1),
        ("color_ramp:\n  colors: [#f00, #00f\n  ]\n", 2),
        ("title: #aabbcc\n", 1),
        ("models: [{path: a.obj, color: #ff0000}]\nframes: 3\n", 1),
        ("frames: 3\nrenderer: {background_color: #000, samples_per_pixel: 4}\n", 2),
        ("frames: 3\ncolor_ramp: {colors: [#008, #f00]}\n", 2),
    ],
)
def test_a_colour_without_quotes_is_no_comment(text: str, line: int) -> None:
    """YAML takes it for one, and the movie was green in the usual colours."""
    with pytest.raises(
        InvalidSetting, match=rf"(?s)^m\.yaml line {line}: write the colour in quotes: '#.*is a comment"
    ):
        Text.read(text, "m.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "color: # the usual one\n",
        "title: #add\n",
        "title:\n# abc\nframes: 3\n",
        "color: '#f00' # abc\n",
        "frames: 3 # abc\n",
    ],
)
def test_a_comment_is_one(text: str) -> None:
    assert Text.read(text, "m.yaml").value


@pytest.mark.parametrize("text", ["a: [1\n# color: #fff]\n", "color: # [1]\n] ]\n", "a: [title: #addition]\n"])
def test_what_is_no_yaml_for_another_reason_is_told_as_that(text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"(?s)^m\.yaml line \d: correct the file.*not YAML or JSON"):
        Text.read(text, "m.yaml")


@pytest.mark.parametrize(
    "output", ["\U0001f600.mp4", "a\\\U0001f9e0\U0001f9e0.mp4", "\\ud83d\\ude00.mp4", "\u00e9.mp4"]
)
def test_json_of_any_program_is_read_with_each_of_its_characters(output: str) -> None:
    """Python writes an emoji in two halves, which YAML refuses."""
    assert Text.read(json.dumps({"output": output}), "m.json").value == {"output": output}


def test_half_a_character_is_none_and_what_is_no_json_stays_as_it_is() -> None:
    with pytest.raises(InvalidSetting, match=r"m\.json line 1: .*"):
        Text.read('{"output": "\\ud83d.mp4"}', "m.json")
    assert Text.read("output: '\\ud83d\\ude00.mp4'\n", "m.yaml").value == {"output": "\\ud83d\\ude00.mp4"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nframes: " + "9" * 5000, "line 2: .*too large a number"),
        ("a: 1\nframes: 0x" + "f" * 5000, "line 2: .*too large a number"),
        ("a: 1\nb: !!python/object/apply:os.system ['id']\n", "line 2: .*could not determine a constructor"),
        ("frames = 2\n[[models]]\n", "must be a mapping in YAML or JSON"),
    ],
)
def test_what_cannot_be_read_tells_its_line(text: str, told: str) -> None:
    with pytest.raises(InvalidSetting, match=f"(?s)m.yaml.*{told}"):
        Text.read(text, "m.yaml")
