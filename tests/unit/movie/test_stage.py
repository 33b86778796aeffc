"""What is told while a scene is loaded: enough to see that it goes on, and no more than a log can bear."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_brayns.movie.interfaces import RenderService
from airflow_brayns.movie.stage import _Loading
from tests.support.movie import Remembers, specification

ONE, TWO = RenderService("n1:5000", "brayns1", "n1"), RenderService("n2:5000", "brayns2", "n2")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_model_that_loads_slowly_is_told_of_each_minute(clock: list[float]) -> None:
    """Between two fifths nothing would be said for as long as it takes, as if it hung."""
    told = Remembers()
    loading = _Loading(specification(Path("/a.obj")), told)
    for second in range(0, 200, 10):
        clock[0] = 1000.0 + second
        loading.tell(ONE, 0, "Parsing", second / 10_000)
    assert [note.partition("…")[2] for note in told.notes] == [
        " 0 % (/a.obj: Parsing)", " 1 % (/a.obj: Parsing)", " 1 % (/a.obj: Parsing)",
    ]  # fmt: skip


def test_one_that_stands_still_is_not_told_of_again(clock: list[float]) -> None:
    told = Remembers()
    loading = _Loading(specification(Path("/a.obj")), told)
    for _ in range(10):
        clock[0] += 60
        loading.tell(ONE, 0, "Parsing", 0.1)
    assert len(told.notes) == 1


def test_of_all_services_the_one_that_is_ahead_is_told_of_at_each_fifth(clock: list[float]) -> None:
    told = Remembers()
    loading = _Loading(specification(Path("/a.obj")), told)
    for percent in range(101):
        loading.tell(ONE, 0, "Loading /a.obj", percent / 100)
        loading.tell(TWO, 0, "Loading /a.obj", percent / 200)
    assert [note.partition("… ")[2].partition(" %")[0] for note in told.notes] == ["0", "20", "40", "60", "80", "100"]
    assert all("brayns1" in note for note in told.notes)
