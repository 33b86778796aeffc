"""The tests' own Airflow: a part of it that dies is told of, and what is said of a run that does not end is true at the end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.airflow import Airflow, children, is_alive

# As `airflow standalone` does: starts its parts, and looks at none of them any more.
PARENT = "import subprocess, time; [subprocess.Popen(['sleep', s]) for s in ('0.5', '60')]; time.sleep(60)"


@pytest.fixture
def standalone() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", PARENT])
    yield process
    for pid in children(process.pid):
        subprocess.run(["kill", "-KILL", str(pid)], check=False)
    process.kill()
    process.wait(60)


def test_a_part_that_died_unseen_is_told_of_with_its_last_words(
    tmp_path: Path, standalone: subprocess.Popen[bytes]
) -> None:
    airflow = Airflow(tmp_path, tmp_path, {})
    airflow._process = standalone
    deadline = time.monotonic() + 20
    while len(parts := children(standalone.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    airflow._parts = dict(zip(sorted(parts), ("scheduler", "triggerer"), strict=True))
    (tmp_path / "standalone.log").write_text("scheduler  | database is locked\ntriggerer  | all is well\n")
    with pytest.raises(AssertionError, match="scheduler has died:\nscheduler  \\| database is locked$"):
        airflow.until(lambda: False, 20, "the run has ended")
    assert not is_alive(min(parts))
    assert is_alive(max(parts))


def test_what_is_said_of_a_run_is_looked_up_when_the_time_is_over(tmp_path: Path) -> None:
    """It was looked up when the wait began: each run that came too late had tasks without a state."""
    states = ["none"]

    def holds() -> bool:
        states[0] = "up_for_retry"
        return False

    with pytest.raises(AssertionError, match=r"not within 0\.2 s: brayns is up_for_retry"):
        Airflow(tmp_path, tmp_path, {}).until(holds, 0.2, lambda: f"brayns is {states[0]}")
