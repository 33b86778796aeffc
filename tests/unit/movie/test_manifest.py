"""A manifest that somebody else has had his hands in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.manifest import Manifest

RECORD = {"frame": 3, "key": "k", "file": "00003.png", "sha256": "0" * 64, "size": 10, "mtime": 1}
HEADER = {"manifest": 1, "scene": "s", "facts": {"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0.0}, "way": "snapshot", "version": "3",
          "specification": {}, "measured": {"snapshot": 1}}  # fmt: skip


def test_a_good_line_is_read() -> None:
    found = Manifest.read([json.dumps(HEADER), json.dumps(RECORD)])
    assert (found.damaged, found.frames[3].size) == (0, 10)
    assert found.header is not None and found.header.measured == {"snapshot": 1.0}


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"frame": 1e999}', "null", '"manifest"', "7", '["manifest"]', '{"manifest": 1}', "9" * 5000]
    + [json.dumps({**RECORD, key: value}) for key in ("frame", "size", "mtime") for value in (float("inf"), "3", -1, 10**30, True, None, 1.5)]
    + [json.dumps({**HEADER, "facts": value}) for value in (None, [], {}, {**HEADER["facts"], "low": [0, 0]}, {**HEADER["facts"], "dt": float("nan")})]
    + [json.dumps({**HEADER, "measured": value}) for value in (None, [], {"snapshot": "x"}, {"snapshot": [1]})],
)  # fmt: skip
def test_a_line_that_is_none_is_damage(line: Any) -> None:
    """An infinite size was an OverflowError and a nested line a RecursionError: the movie could not be gone on with."""
    found = Manifest.read([line, json.dumps({**RECORD, "frame": 4})])
    assert (found.header, list(found.frames), found.damaged) == (None, [4], 1)


@pytest.mark.parametrize("format_", [True, None, "1", 0, -1, 1.0])
def test_a_format_that_is_none_is_damage(format_: Any) -> None:
    found = Manifest.read([json.dumps({**HEADER, "manifest": format_})])
    assert (found.header, found.damaged) == (None, 1)


@pytest.mark.parametrize("before", [[], [json.dumps(HEADER), json.dumps(RECORD)]])
def test_a_format_of_a_newer_version_is_not_read_as_ours(before: list[str]) -> None:
    """Format 2 was read as 1, and gone on with."""
    with pytest.raises(
        InvalidSetting, match=r"^frames_dir: upgrade, .*\n +a newer airflow-brayns wrote its manifest .format 2"
    ) as raised:
        Manifest.read([*before, json.dumps({"manifest": 2, "movie": {}}), json.dumps({"frames": [1, 2]})])
    assert len(str(raised.value)) < 120
