"""What `make demo` shows, with an Airflow that is silent for long and then says much."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.cluster import REPO
from tests.support.terminal import Shown, on_terminal

pytestmark = pytest.mark.slow

AIRFLOW = r"""#!/bin/sh
said() { printf '2026-11-26T08:19:45.281609Z [%-9s] %s [%s] loc=x.py:1\n' "$1" "$2" "$3"; }
step() { said info "[DAG TEST] starting task_id=$1 map_index=-1" airflow.sdk.definitions.dag; }
ours=airflow.task.operators.airflow_brayns.operators.frames.RenderFramesOperator
[ "$1" = dags ] || exit 0
step check
sleep 4.5
for n in $(seq 300); do said info "noise $n" airflow.models; done
step render
for n in $(seq 60); do said info "$n of 60 frames; slot1 1, slot2 2" $ours; done
sleep 1.5
%s
said warning 'one frame was rendered twice' $ours
said info '60 frames rendered, 0 were there' $ours
step brayns_release
"""
MADE = "mkdir -p out; for file in movie.mp4 movie.poster.jpg; do echo >out/$file; done"


def demo(folder: Path, work: str, *, terminal: bool = True) -> Shown:
    (folder / "bin").mkdir()
    (folder / "bin" / "airflow").write_text(AIRFLOW.replace("%s\nsaid w", f"{work}\nsaid w"))
    (folder / "bin" / "airflow").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}", "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-m", "tests.demo"]
    words = command if terminal else ["sh", "-c", 'exec "$@" </dev/null 2>&1 | cat', "sh", *command]
    return on_terminal(words, env=environment, cwd=folder, seconds=120)


def test_something_is_shown_every_three_seconds_and_little_in_all(tmp_path: Path) -> None:
    """It was silent for 51 s, and then printed 227 lines of which one mattered."""
    shown = demo(tmp_path, MADE)
    assert shown.code == 0, shown.text
    assert shown.gap - shown.late <= 3, shown
    assert len(shown.lines) <= 40 and len(shown.text.splitlines()) <= 40
    [render] = [line for line in shown.lines if line.startswith("  render ")]
    assert render.endswith("60 frames rendered, 0 were there"), "the last word on it stays"
    assert "60 of 60 frames; slot1 1, slot2 2" in shown.text, "and how far it was, meanwhile"
    assert "  ! one frame was rendered twice" in shown.lines
    assert "noise" not in shown.text
    assert (tmp_path / "build" / "demo.log").read_text().count("noise") == 300


def test_at_the_end_it_says_what_was_made_how_long_it_took_how_to_look_at_it_and_what_next(tmp_path: Path) -> None:
    lines = demo(tmp_path, MADE).lines
    end = "\n".join(lines[next(n for n, line in enumerate(lines) if line.startswith("Made in ")) :])
    for part in (
        "out/movie.mp4 ",
        "out/movie.poster.jpg",
        "xdg-open out/movie.mp4",
        f"{tmp_path.as_uri()}/out/movie.mp4",
        "README.md",
    ):
        assert part in end
    assert lines[-1] == "out/movie.mp4", "scripts take the last line"


def test_without_a_movie_it_fails_and_shows_the_logs_end(tmp_path: Path) -> None:
    shown = demo(tmp_path, "said error 'the disk is full' $ours")
    assert shown.code == 1
    assert "No movie was made" in shown.text and "build/demo.log ends with:" in shown.text
    assert len(shown.lines) <= 40


def test_in_a_file_each_step_has_one_line(tmp_path: Path) -> None:
    shown = demo(tmp_path, MADE, terminal=False)
    assert "\x1b" not in shown.text
    assert sum(line.startswith("  render ") for line in shown.lines) == 1


def test_setting_up_shows_what_it_does_too(tmp_path: Path) -> None:
    """On a fresh machine `make demo` installs first, for minutes."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    for name in ("python", "uv"):
        (tmp_path / "venv" / "bin" / name).write_text("#!/bin/sh\nsleep 3.5\n")
        (tmp_path / "venv" / "bin" / name).chmod(0o755)
    command = ["sh", str(REPO / "tests" / "setup.sh"), str(tmp_path / "venv")]
    shown = on_terminal(command, env={**os.environ, "PYTHON": "true"}, cwd=tmp_path, seconds=120)
    assert shown.code == 0 and (tmp_path / "venv" / ".ready").exists()
    assert shown.gap - shown.late <= 3, shown
    assert "Installing Airflow and what else requirements.txt pins ... 2 s" in shown.text
    assert len(shown.lines) <= 1


def test_setting_up_that_fails_says_so(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").write_text("#!/bin/sh\necho no route to the index\nexit 3\n")
    (tmp_path / "venv" / "bin" / "python").chmod(0o755)
    command = ["sh", str(REPO / "tests" / "setup.sh"), str(tmp_path / "venv")]
    shown = on_terminal(command, env={**os.environ, "PYTHON": "true"}, cwd=tmp_path, seconds=120)
    assert shown.code == 3 and "no route to the index" in shown.text
    assert not (tmp_path / "venv" / ".ready").exists()
