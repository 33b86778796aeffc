"""How far a movie is: in the log at a sane rate, in the task's state store, and as metrics."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from typing import Any

import pytest

from airflow_brayns.movie.interfaces import Progress
from airflow_brayns.movie.used import Used
from airflow_brayns.task import metrics, report
from airflow_brayns.task.report import STATE_KEY, TaskReporter, duration, text_of, value_of
from tests.support.task import Ti

LOG = logging.getLogger("report")


class Stats:
    """Airflow's metrics, as far as they are used."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, float]] = []

    def incr(self, name: str, number: int) -> None:
        self.told.append(("incr", name, number))

    def timing(self, name: str, milliseconds: float) -> None:
        self.told.append(("timing", name, milliseconds))

    def gauge(self, name: str, value: float) -> None:
        self.told.append(("gauge", name, value))


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> Stats:
    one = Stats()
    monkeypatch.setattr(metrics, "stats", one)
    return one


class Clock:
    """`time.monotonic` as the test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(time, "monotonic", one)
    return one


class Store:
    def __init__(self) -> None:
        self.values: list[dict[str, Any]] = []
        self.fails = False

    def set(self, key: str, value: dict[str, Any]) -> None:
        assert key == STATE_KEY == "brayns_progress"
        if self.fails:
            raise OSError("no API server")
        self.values.append(value)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(report, "tell", lambda do: do())
    monkeypatch.setattr(report, "at_end", lambda do: None)
    return Store()


def at(done: int, total: int = 100, **more: Any) -> Progress:
    return Progress(
        **{"done": done, "total": total, "rate": 2.0, "left": 50.4, "nodes": {"n1": done}, "seconds": 0.5, **more}
    )


# ---- metrics -----------------------------------------------------------------------------------------------------------
def test_each_frame_counts_and_tells_its_time_in_milliseconds(stats: Stats) -> None:
    told = TaskReporter(LOG)
    told.progress(at(1))
    told.progress(at(2, seconds=1.5))
    assert stats.told == [
        ("incr", "brayns.frames", 1), ("timing", "brayns.frame_time", 500.0), ("incr", "brayns.frames", 1), ("timing", "brayns.frame_time", 1500.0),
    ]  # fmt: skip


def test_waits_are_told_in_milliseconds_each_under_its_name(stats: Stats) -> None:
    metrics.record({"brayns.queue_wait": 2.0, "brayns.start_wait": 0.25})
    metrics.count("brayns.reaped", 3)
    assert stats.told == [
        ("timing", "brayns.queue_wait", 2000.0), ("timing", "brayns.start_wait", 250.0), ("incr", "brayns.reaped", 3),
    ]  # fmt: skip


# ---- the log -----------------------------------------------------------------------------------------------------------
def logged(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [int(message.split()[0]) for message in caplog.messages]


def test_the_log_tells_each_twentieth_but_no_more_than_once_a_second(
    stats: Stats, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    told = TaskReporter(LOG)
    with caplog.at_level(logging.INFO, "report"):
        for done in range(1, 101):
            clock.now += 0.4
            told.progress(at(done))
    found = logged(caplog)
    assert found[0] == 1
    assert found[-1] == 100, "the last frame is always told"
    assert found[1:-1] == list(range(5, 100, 5))


def test_the_log_tells_something_every_half_minute(
    stats: Stats, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    told = TaskReporter(LOG)
    with caplog.at_level(logging.INFO, "report"):
        for done in range(1, 8):
            clock.now += 10
            told.progress(at(done, 10_000))
    assert logged(caplog) == [1, 4, 7]


def test_many_frames_at_once_are_one_line(stats: Stats, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    told = TaskReporter(LOG)
    with caplog.at_level(logging.INFO, "report"):
        for done in range(1, 100):
            told.progress(at(done))
    assert logged(caplog) == [1]


def test_what_goes_wrong_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    told = TaskReporter(LOG)
    with caplog.at_level(logging.INFO, "report"):
        told.note("all is well")
        told.trouble("brayns1 is set aside")
    assert [(one.levelname, one.message) for one in caplog.records] == [
        ("INFO", "all is well"),
        ("WARNING", "brayns1 is set aside"),
    ]


# ---- the state store ---------------------------------------------------------------------------------------------------
def test_pages_read_how_far_it_is_every_few_seconds_and_the_end_at_once(
    stats: Stats, clock: Clock, store: Store
) -> None:
    told = TaskReporter(LOG, {"task_state_store": store})  # type: ignore[arg-type]
    for done in range(1, 9):
        told.progress(at(done, 9))
        clock.now += 1
    told.progress(at(9, 9))
    assert [value["done"] for value in store.values] == [1, 6, 9]


def test_a_store_that_fails_is_told_of_once_and_tried_again(
    stats: Stats, clock: Clock, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    told = TaskReporter(LOG, {"task_state_store": store})  # type: ignore[arg-type]
    store.fails = True
    with caplog.at_level(logging.WARNING, "report"):
        for done in range(1, 4):
            told.progress(at(done))
            clock.now += 10
    assert [one.message for one in caplog.records if one.levelno == logging.WARNING] == [
        "The progress could not be stored; it is tried again: no API server"
    ]
    store.fails = False
    told.progress(at(4))
    assert [value["done"] for value in store.values] == [4]


def test_what_pages_read() -> None:
    value = value_of(at(3, rate=1.23456, left=None))
    assert abs((datetime.fromisoformat(value.pop("at")) - datetime.now().astimezone()).total_seconds()) < 5
    assert value == {"done": 3, "total": 100, "frames_per_second": 1.235, "seconds_left": None, "nodes": {"n1": 3}}
    assert value_of(at(3))["seconds_left"] == 50
    assert value_of(at(3, noun="tiles"))["noun"] == "tiles"
    assert text_of(at(3, noun="tiles")).startswith("3 of 100 tiles (3 %)")


# ---- words -------------------------------------------------------------------------------------------------------------
def test_a_line_says_how_far_how_fast_how_long_still_and_who() -> None:
    assert text_of(at(33, nodes={"b": 3, "a": 30})) == "33 of 100 frames (33 %), 2.00 a second, 50 s left; a 30, b 3"
    many = {f"n{number:02d}": 1 for number in range(14)}
    assert text_of(at(1, left=None, nodes=many)).endswith("n10 1, n11 1 and 2 more")
    assert text_of(at(0, 0, nodes={})).startswith("0 of 0 frames (0 %)")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.9, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (200, "3 min 20 s"), (3600, "1 h 00 min"), (3900, "1 h 05 min")]
)  # fmt: skip
def test_how_long_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# ---- what was used -----------------------------------------------------------------------------------------------------
THIS, ALL = Used(3600, 900, 600, 300, 40), Used(7200, 900, 600, 300, 80)


@pytest.mark.usefixtures("store")
def test_what_was_used_is_in_the_log_in_xcom_and_in_the_metrics(stats: Stats, caplog: pytest.LogCaptureFixture) -> None:
    """XCom has all tries; metrics this one, since each try counts."""
    ti = Ti()
    with caplog.at_level(logging.INFO, "report"):
        TaskReporter(LOG, {"ti": ti}).used(THIS, ALL)  # type: ignore[arg-type,typeddict-item]
    assert caplog.messages == [f"Rendering used {THIS.text()}.", f"With the tries before it used {ALL.text()}."]
    assert ti.xcom == {"brayns_used": ALL.plain()}
    assert stats.told == [
        ("incr", "brayns.node_seconds_rendering", 3600), ("incr", "brayns.node_seconds_starting", 900),
        ("incr", "brayns.node_seconds_waiting", 600), ("incr", "brayns.node_seconds_lost", 300),
        ("gauge", "brayns.efficiency", pytest.approx(2 / 3)),
    ]  # fmt: skip


def test_the_only_try_tells_it_once(stats: Stats, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "report"):
        told = TaskReporter(LOG)
        told.used(THIS, THIS)
    assert caplog.messages == [f"Rendering used {THIS.text()}."]
    assert told.told_used == THIS.plain(), "the triggerer has no XCom: its event tells it"


@pytest.mark.usefixtures("store", "stats")
def test_a_movie_is_not_lost_where_xcom_takes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    ti = Ti()
    ti.xcom_push = fails  # type: ignore[method-assign]
    TaskReporter(LOG, {"ti": ti}).used(THIS, THIS)  # type: ignore[arg-type,typeddict-item]
    assert caplog.messages[-1:] == ["What was used could not be put into XCom: no API server"]


def fails(key: str, value: Any) -> None:
    raise OSError("no API server")
