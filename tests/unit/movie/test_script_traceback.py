from __future__ import annotations

from pathlib import Path

import pytest

from airflow_brayns.errors import ScriptFailed
from airflow_brayns.movie.script_traceback import line_of, traceback_of


def failing(tmp_path: Path, text: str) -> Exception:
    file = tmp_path / "growth.py"
    file.write_text(text)
    try:
        exec(compile(text, str(file), "exec"), {})
    except Exception as error:
        return error
    raise AssertionError


def test_it_begins_at_the_users_first_line_and_survives_a_message(tmp_path: Path) -> None:
    error = failing(tmp_path, "import json\ndef frame(text):\n    return json.loads(text)\nframe('{')\n")
    lines = str(ScriptFailed(f"growth.py: {traceback_of(error, str(tmp_path))}")).splitlines()
    assert lines[0].startswith("growth.py: json.decoder.JSONDecodeError: ")
    assert lines[1].strip() == "growth.py line 4, in <module>: frame('{')"
    assert lines[2].strip() == "growth.py line 3, in frame: return json.loads(text)"
    assert "json/__init__.py" not in lines[3] and "__init__.py line " in lines[3], "only names: a page is narrow"
    assert line_of(error, str(tmp_path), tmp_path / "growth.py") == 3


def test_a_recursion_is_short(tmp_path: Path) -> None:
    told = traceback_of(failing(tmp_path, "def frame(): frame()\nframe()\n"), str(tmp_path))
    assert len(told.splitlines()) < 20
    assert " more\n" in told


def test_of_a_long_one_the_first_and_the_last_lines_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    text = "def frame(left):\n    return frame(left - 1) if left else 1 / 0\nframe(28)\n"
    _, *lines = traceback_of(failing(tmp_path, text), str(tmp_path)).splitlines()
    cut = [number for number, line in enumerate(lines) if line.endswith(" more")]
    assert cut == [6]
    assert len(lines) - 7 == 6
    assert lines[6].strip() == f"… {30 - 12} more"
    assert "line 3, in <module>" in lines[0]


def test_lines_of_ours_are_not_in_it_and_an_error_of_ours_is_its_text(tmp_path: Path) -> None:
    text = "from airflow_brayns.movie.script_wanted import wanted_of\ndef frame():\n    wanted_of(3, (96, 64), strict=True)\nframe()\n"
    first, *lines = traceback_of(failing(tmp_path, text), str(tmp_path)).splitlines()
    assert first == "frame returned int; return a brayns.Camera, a brayns.Snapshot or None"
    assert [line.split(",")[0].strip() for line in lines] == ["growth.py line 4", "growth.py line 3"]
    assert "script_wanted.py" not in traceback_of(failing(tmp_path, text), str(tmp_path / "elsewhere"))


@pytest.mark.parametrize(("name", "told"), [("spikes.csv", True), ("none.csv", False), ("/none/spikes.csv", False)])
def test_a_file_beside_that_is_not_found_from_where_the_worker_runs_is_told_of(
    tmp_path: Path, name: str, told: bool
) -> None:
    (tmp_path / "spikes.csv").write_text("")
    first = traceback_of(failing(tmp_path, f"open({name!r})\n"), str(tmp_path)).splitlines()[0]
    assert ("write Path(__file__).parent / 'spikes.csv'" in first) is told
