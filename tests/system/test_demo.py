"""`make demo` on a terminal, for real."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.cluster import REPO
from tests.support.terminal import on_terminal


def test_the_demo_makes_a_movie_and_shows_how_it_gets_on(tmp_path: Path) -> None:
    environment = {
        **os.environ, "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    shown = on_terminal(["sh", "tests/demo.sh"], env=environment, cwd=REPO, seconds=1500)
    assert shown.code == 0, shown.text[-3000:]
    assert shown.gap - shown.late <= 3, shown.gap
    assert len(shown.lines) <= 40
    log = (REPO / "build" / "demo.log").read_text()
    assert "slot1" in log and "slot2" in log, "who renders"
    assert shown.lines[-1] == "out/movie.mp4" and (REPO / "out" / "movie.mp4").stat().st_size > 10_000
