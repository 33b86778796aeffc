"""What a movie has used: what adds up, and what is read of a manifest that somebody else has had his hands in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_brayns.movie.manifest import FrameRecord, Manifest
from airflow_brayns.movie.used import Used, UsedRecord, hours_text

SOME = Used(rendering=5400, starting=900, waiting=600, lost=300, frames=40)


def test_the_parts_are_all_of_it() -> None:
    assert (SOME.node_seconds, SOME.node_hours, SOME.efficiency) == (7200, 2.0, 0.75)
    assert SOME + Used(1, 2, 3, 4, 5) == Used(5401, 902, 603, 304, 45)
    assert Used().efficiency is None


def test_people_read_node_hours_and_how_much_of_them_went_into_frames() -> None:
    assert SOME.text() == (
        "2.00 node-hours: 1.50 rendering, 0.25 starting, 0.17 waiting, 0.08 lost to faults; efficiency 75 %"
    )
    assert Used().text() == "no node-hours"


@pytest.mark.parametrize(("hours", "told"), [(0.00123, "0.0012"), (1.234, "1.23"), (123.45, "123.5")])
def test_a_number_has_the_digits_that_its_size_needs(hours: float, told: str) -> None:
    assert hours_text(hours) == told


def test_programs_read_node_hours() -> None:
    assert SOME.plain() == {
        "node_hours": 2.0, "rendering": 1.5, "starting": 0.25, "waiting": 0.166667, "lost": 0.083333, "efficiency": 0.75, "frames": 40,
    }  # fmt: skip
    assert Used().plain()["efficiency"] is None


def record(holder: str, at: float, used: Used, movie: str = "dag/run/task/-1") -> str:
    return UsedRecord(movie, holder, at, used).line()


def test_the_latest_record_of_each_try_counts_and_the_tries_of_a_movie_add_up() -> None:
    lines = [record("a", 1, Used(10)), record("a", 2, Used(30, frames=3)), record("b", 9, Used(5, 1, frames=1))]
    found = Manifest.read([*lines, record("x", 3, Used(1000), "another")])
    assert found.damaged == 0
    assert found.used_last() == Used(35, 1, frames=4)
    assert Manifest.read([]).used_last() is None


def frame(number: int, holder: str, seconds: float = 2.0) -> str:
    return FrameRecord(number, "key", f"{number:05d}.png", "sha", 10, 20, seconds, holder=holder).line()


def test_frames_of_a_killed_try_count_as_far_as_they_are_whole() -> None:
    """It tells once a minute what it has used, and frames come every second."""
    killed = UsedRecord("a", "killed", 10, Used(rendering=4, starting=1, frames=2), ("7/n1",))
    found = Manifest.read(
        [
            frame(0, "killed"),
            frame(1, "killed"),
            killed.line(),
            frame(2, "killed"),
            frame(3, "killed"),
            frame(4, "other"),
        ]
    )
    [record] = found.used.values()
    assert record.used == Used(rendering=8, starting=1, frames=4) and record.late == 4
    assert found.used_last() == record.used


def test_a_try_that_has_ended_has_told_all_of_it() -> None:
    """In which frames were begun while others were rendered, as the second one of a service is."""
    ended = UsedRecord("a", "ended", 10, Used(rendering=3, frames=2))
    [record] = Manifest.read([frame(0, "ended"), frame(1, "ended"), ended.line()]).used.values()
    assert record == ended


def test_frames_of_a_version_that_does_not_tell_whose_they_are_add_nothing() -> None:
    killed = UsedRecord("a", "killed", 10, Used(rendering=4, frames=2), ("7/n1",))
    [record] = Manifest.read([killed.line(), frame(2, "")]).used.values()
    assert record == killed


def test_what_was_used_outlives_a_header_that_is_lost() -> None:
    assert Manifest.read([record("a", 1, Used(10))]).usable().used["a"].used == Used(10)


@pytest.mark.parametrize("value", [None, "1", -1, True, float("inf"), float("nan"), [1], 1e16])
@pytest.mark.parametrize("field", ["rendering", "lost", "frames"])
def test_a_record_that_is_none_is_damage(field: str, value: Any) -> None:
    told = json.loads(record("a", 1, SOME))
    told["used"][field] = value
    found = Manifest.read([json.dumps(told)])
    assert (found.used, found.damaged) == ({}, 1)
