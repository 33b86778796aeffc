"""A job that was suspended: the time that it slept is nobody's idleness, and no silence of its keeper. The scripts run really, on
a clock that a test sets.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script
from airflow_brayns.cluster.submission import ServiceCommand, proofs

SERVICE = ServiceCommand("s1", 1, "exec sleep 600", "0", ())
BEGAN = 1_000_000
# Each nap takes the next step of the clock: those of the test first, and then 10 s.
CLOCK = """
now() { cat "$dir.clock"; }
nap() {
    step=$(head -n 1 "$dir.steps")
    sed -i 1d "$dir.steps"
    echo $(($(now) + ${step:-10})) >"$dir.clock.new"
    mv "$dir.clock.new" "$dir.clock"
}
"""


def run(folder: Path, *arguments: str, steps: list[int]) -> float:
    """A keeper or a wrapper to its end; after how many seconds of its clock that came."""
    dir_ = folder / "ab-1" / "1"
    (dir_ / "services" / "s1").mkdir(parents=True, exist_ok=True)
    clock = folder / "ab-1" / "1.clock"
    clock.write_text(f"{BEGAN}\n")
    (folder / "ab-1" / "1.steps").write_text("".join(f"{step}\n" for step in steps))
    settings = KeeperSettings(idle_limit=60, heartbeat_limit=100)
    head, main, tail = keeper_script(
        settings, scheduler="local", nodes=("slot1",), proofs=proofs([SERVICE])
    ).rpartition("\ncase ${2-} in")
    (dir_ / "keeper.sh").write_text(f"{head}\n{CLOCK}{main}{tail}")
    subprocess.run(
        ["sh", dir_ / "keeper.sh", dir_, *arguments], cwd=folder, capture_output=True, timeout=60, check=True
    )
    return float(clock.read_text()) - BEGAN


@pytest.mark.parametrize(("steps", "slept"), [([], 0), ([10, 3600], 3600), ([29], 29)])
def test_time_that_a_job_slept_is_no_idleness(tmp_path: Path, steps: list[int], slept: int) -> None:
    """The keeper ended the allocation as soon as it woke."""
    passed = run(tmp_path, steps=steps)
    assert (tmp_path / "ab-1/1/ended").read_text() == "not used for 60 s (idle_limit)\n"
    if slept < 30:
        assert 60 < passed <= 60 + 29, "a nap that is a little late is no sleep"
    else:
        assert 60 < passed - slept <= 60 + 10 * len(steps) + 10


@pytest.mark.parametrize("steps", [[], [10, 3600]])
def test_time_that_a_wrapper_slept_is_no_silence_of_its_keeper(tmp_path: Path, steps: list[int]) -> None:
    """Both sleep; the wrapper may wake first, and ended a service whose keeper was as well as it."""
    folder = tmp_path / "ab-1" / "1" / "services" / "s1"
    folder.mkdir(parents=True)
    for name, text in (
        ("index", "1\n"),
        ("port", "0\n"),
        ("port.sed", ""),
        ("command", "exec sleep 600\n"),
        ("node", "slot1\n"),
    ):
        (folder / name).write_text(text)
    (tmp_path / "ab-1/1/claim").mkdir()  # its keeper's
    (tmp_path / "ab-1/1/heartbeat").write_text("7\n")
    passed = run(tmp_path, "wrap", "s1", "1", steps=steps)
    assert (folder / "exit").read_text() == "1 no sign of the keeper for 100 s\n"
    slept = sum(step for step in steps if step > 30)
    assert 100 < passed - slept < 100 + 10 * len(steps) + 300
