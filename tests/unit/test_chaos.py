"""What `make chaos` counts: its checks see what must not be."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from airflow_brayns.movie.ffmpeg import ffmpeg
from tests.support.cluster import TestCluster
from tests.system.chaos.check import endpoint_trouble, movie_trouble
from tests.system.chaos.ledger import Ledger, Listener
from tests.system.chaos.parts import DOUBLED, GAPS, LEFT, Finding, Part, keep, numbers, read, summary
from tests.system.chaos.runs import ChaosRun
from tests.system.faults.watch import Job

FRAMES = 4


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """A whole one."""
    (tmp_path / "frames").mkdir()
    lines = []
    for number in range(FRAMES):
        file = tmp_path / "frames" / f"{number:05d}.png"
        Image.new("RGB", (96, 64), (40 * number, 0, 0)).save(file)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        lines.append(json.dumps({"frame": number, "file": file.name, "sha256": sha256}))
    (tmp_path / "frames" / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    encode(tmp_path, FRAMES)
    return tmp_path


def encode(folder: Path, frames: int) -> None:
    command = [ffmpeg(), "-y", "-i", f"{folder}/frames/%05d.png", "-frames:v", str(frames), f"{folder}/movie.mp4"]
    subprocess.run(command, check=True, capture_output=True)


def test_a_whole_movie_is_no_finding(movie: Path) -> None:
    assert movie_trouble(movie, FRAMES) == ""


def test_gaps_are_found(movie: Path) -> None:
    assert "frames [4]" in movie_trouble(movie, FRAMES + 1)
    encode(movie, FRAMES - 1)
    assert "decodes to [3] frames" in movie_trouble(movie, FRAMES)
    frame = movie / "frames" / "00002.png"
    frame.write_bytes(frame.read_bytes()[:-1])
    assert "frame 2 is not as" in movie_trouble(movie, FRAMES)
    frame.unlink()
    assert "frame 2 is not there" in movie_trouble(movie, FRAMES)
    (movie / "movie.mp4").unlink()
    assert movie_trouble(movie, FRAMES)


def told(**changes: Any) -> dict[str, Any]:
    services = [{"endpoint": "r1i1n0:5000", "job_id": "7"}]
    answer = {"version": {"major": 3}, "plugins": ["one"]}
    return {
        "endpoint": "r1i1n0:5000",
        "services": services,
        "at": 100.0,
        "answered": 101.0,
        "answer": answer,
        **changes,
    }


def listener(run: str, job: str, first: float, last: float) -> Listener:
    return Listener("r1i1n0", 5000, 1, run, job, first, last)


THEIRS = listener("theirs", "8", 90, 110)


@pytest.mark.parametrize(
    ("listeners", "changes", "trouble"),
    [
        ([listener("mine", "7", 90, 110)], {}, ""),
        ([listener("mine", "7", 90, 99)], {"answer": None}, ""),
        ([THEIRS], {}, "belongs to"),
        ([THEIRS], {"answer": None}, "belongs to"),
        ([listener("mine", "7", 80, 85)], {}, "had ended 12 s before"),
        ([listener("mine", "6", 90, 110)], {}, "of job 6"),
        ([], {}, "nobody was ever seen"),
        ([], {"answer": None}, ""),
        ([listener("mine", "7", 90, 110)], {"answer": {"version": {}, "plugins": ["one"]}}, "no version"),
        ([listener("mine", "7", 90, 110)], {"answer": {"version": {"major": 3}, "plugins": []}}, "lacks one"),
    ],
)
def test_whose_an_endpoint_is(listeners: list[Listener], changes: dict[str, Any], trouble: str) -> None:
    ledger = Ledger(TestCluster())
    ledger.listeners, ledger.looks = listeners, [86.0]
    found, taken = endpoint_trouble(ledger, "mine", told(**changes), ["one"], 97.0)
    assert trouble in found and bool(trouble) == bool(found) and not taken


def test_a_service_ended_only_where_it_was_looked_for_and_not_seen() -> None:
    """On a busy machine the processes were not looked at for over a minute, and a service that lived counted as ended."""
    ledger = Ledger(TestCluster())
    ledger.listeners, ledger.looks = [listener("mine", "7", 80, 85)], [80.0, 85.0, 99.0]
    assert endpoint_trouble(ledger, "mine", told(), ["one"], 97.0) == ("", False)


def test_a_port_that_was_ours_when_it_was_handed_on_is_only_told_of() -> None:
    ledger = Ledger(TestCluster())
    ledger.listeners = [listener("mine", "7", 90, 95), THEIRS]
    assert endpoint_trouble(ledger, "mine", told(), ["one"], 97.0) == ("", True)


def test_two_jobs_of_one_allocation_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(TestCluster())
    ledger.jobs = [Job(str(n), "RUNNING", f"ab-0123456789ab{part}-{n}", "", "") for n, part in ((1, "000"), (2, "000"), (3, "001"))]  # fmt: skip
    ledger._note_overlaps()
    [one] = ledger.overlaps
    assert one.ids == ("1", "2")


def test_all_parts_are_summed_up(tmp_path: Path) -> None:
    path = tmp_path / "parts.jsonl"
    for seed in (1, 2):
        part = Part(seed, "today")
        part.ended.update(success=3, failed=1)
        part.findings = [
            Finding(kind, seed, 1.0, "run", "text", ["kill"], "logs") for kind in (GAPS, LEFT, DOUBLED, LEFT)
        ]
        keep(part, path)
    assert numbers(read(path)) == (8, 4, 2, 2)
    assert summary(read(path)).splitlines()[-1] == "8 rows, 4 left behind, 2 doubled, 2 wrong"


@pytest.mark.parametrize(
    ("act", "state", "aside"),
    [
        ("run marked failed", "skipped", True),
        ("run marked failed", "success", False),
        ("movie cleared", "skipped", False),
    ],
)
def test_a_run_that_somebody_marked_before_its_movie_had_begun_promises_none(act: str, state: str, aside: bool) -> None:
    airflow = SimpleNamespace(api=lambda method, path: {"state": state})
    run = ChaosRun(SimpleNamespace(airflow=airflow), "chaos", "chaos_movie", "1.movie", {}, "tests")  # type: ignore[arg-type]
    run.acts.append(f"99.0 s: 1.movie: {act}")
    assert run.is_set_aside() is aside
