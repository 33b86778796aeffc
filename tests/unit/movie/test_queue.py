"""Which service gets which frame, whose fault a failure is, and when a frame counts as lost."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.movie.frame_store import Survey
from airflow_brayns.movie.interfaces import RenderService
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.queue import DEADLY, FrameQueue, Pace, rough_first
from airflow_brayns.movie.scene_facts import SceneFacts
from airflow_brayns.movie.script import ScriptSpecification
from tests.support.movie import specification

ONE, TWO, THREE = (RenderService(f"n{number}:5000", f"brayns{number}") for number in (1, 2, 3))


def queue(*frames: int) -> FrameQueue:
    return FrameQueue(deque(frames), len(frames))


def taken(frames: FrameQueue, service: RenderService, others: list[RenderService] | None = None) -> int:
    frame = frames.next_for(service, others or [])
    assert frame is not None
    return frame


def test_frames_go_out_in_their_order_each_once() -> None:
    frames = queue(0, 1, 2)
    assert [frames.next_for(ONE, []) for _ in range(4)] == [0, 1, 2, None]
    assert frames.taken == {0, 1, 2}
    assert not frames.take(0)


def test_all_is_over_when_every_frame_is_done_or_given_up() -> None:
    frames = queue(0, 1)
    frames.finish(taken(frames, ONE))
    assert not frames.over
    frames.take(1)
    frames.blamed[1] = {TWO.endpoint, THREE.endpoint}
    frames.fail(1, ONE, "no", alone=False)
    assert frames.over
    assert (frames.done, frames.taken, frames.given_up) == (1, set(), {1: "no"})


def test_a_frame_that_comes_back_is_the_next() -> None:
    frames = queue(0, 1, 2)
    frames.give_back(taken(frames, ONE))
    assert list(frames.waiting) == [0, 1, 2]
    frames.give_back(2)
    assert list(frames.waiting) == [0, 1, 2], "one that nobody had does not come twice"


def test_a_frame_that_failed_once_goes_first_to_another_and_comes_late_after_that() -> None:
    """The first failure may be the service's; from the second on it may be the frame's, and the others go before it."""
    frames = queue(0, 1, 2)
    assert not frames.fail(taken(frames, ONE), ONE, "x", alone=False)
    assert list(frames.waiting) == [0, 1, 2]
    assert frames.next_for(ONE, [TWO]) == 1
    assert taken(frames, TWO, [ONE]) == 0
    assert frames.fail(0, TWO, "x", alone=False)
    assert list(frames.waiting) == [2, 0]


def test_alone_with_it_the_others_go_first() -> None:
    frames = queue(0, 1)
    assert not frames.fail(taken(frames, ONE), ONE, "x", alone=True)
    assert list(frames.waiting) == [1, 0]


def test_it_goes_back_to_where_it_failed_only_when_it_failed_everywhere() -> None:
    frames = queue(0)
    frames.fail(taken(frames, ONE), ONE, "x", alone=False)
    assert frames.next_for(ONE, [TWO]) is None
    frames.fail(taken(frames, TWO, [ONE]), TWO, "x", alone=False)
    assert frames.next_for(ONE, [TWO]) == 0


def test_the_same_service_twice_is_no_second_witness() -> None:
    frames = queue(0)
    assert not frames.fail(taken(frames, ONE), ONE, "x", alone=True)
    assert not frames.fail(taken(frames, ONE), ONE, "x", alone=True)
    assert not frames.given_up


def test_a_frame_that_failed_on_three_services_is_given_up_with_its_last_reason() -> None:
    frames = queue(0)
    for number, service in enumerate((ONE, TWO, THREE), 1):
        assert not frames.given_up
        frames.fail(taken(frames, service), service, f"reason {number}", alone=False)
    assert frames.given_up == {0: "reason 3"}
    assert DEADLY == 3
    assert not frames.waiting


def test_what_nobody_has_cannot_fail_and_what_was_given_back_can_be_blamed() -> None:
    frames = queue(0, 1)
    assert not frames.fail(0, ONE, "x", alone=False)
    assert not frames.blamed
    assert not frames.blame(0, ONE, "x", alone=False)
    assert frames.blamed == {0: {ONE.endpoint}}
    assert frames.blame(0, TWO, "x", alone=False)
    taken(frames, THREE)
    assert not frames.blame(1, ONE, "x", alone=False), "others are at it"
    assert 1 not in frames.blamed


def test_a_services_pace_is_the_median_of_its_last_twenty() -> None:
    pace = Pace()
    assert pace.typical(ONE) is None
    for seconds in (100.0, 1.0, 2.0):
        pace.add(ONE, seconds)
    assert pace.typical(ONE) == 2.0
    assert pace.typical(TWO) is None
    for _ in range(20):
        pace.add(ONE, 5.0)
    assert len(pace.recent[ONE.endpoint]) == 20
    assert pace.typical(ONE) == 5.0
    assert pace.slowest == 100.0


@pytest.mark.parametrize(("slowest", "limit"), [(0.0, 77.0), (0.1, 20.0), (2.0, 20.0), (2.1, 21.0), (60.0, 600.0)])
def test_a_frame_is_lost_after_ten_times_the_slowest_and_no_less_than_twenty_seconds(
    slowest: float, limit: float
) -> None:
    """The first has the time that it was given."""
    pace = Pace()
    if slowest:
        pace.add(ONE, slowest)
    assert pace.limit(77.0) == limit


def test_the_rate_is_that_of_all_who_are_there_together() -> None:
    pace = Pace()
    pace.add(ONE, 2.0)
    pace.add(TWO, 4.0)
    assert pace.rate([ONE, TWO, THREE]) == 0.75
    assert pace.rate([TWO]) == 0.25
    assert pace.rate([]) == 0
    pace.add(THREE, 0.0)
    assert pace.rate([THREE]) == 10_000


# ---- rough first -------------------------------------------------------------------------------------------------------
def test_the_whole_movie_is_seen_early_and_then_the_rest_comes_in_order() -> None:
    order = rough_first(range(17), range(0, 17, 4))
    assert order == [0, 16, 8, 4, 12, 1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15]


def test_on_a_resume_what_is_there_is_not_shown_again() -> None:
    assert rough_first([3, 4, 16, 5], range(0, 17, 4)) == [16, 4, 3, 5]


@pytest.mark.parametrize("frames", range(5))
def test_short_movies_have_each_frame_once(frames: int) -> None:
    assert sorted(rough_first(range(frames), range(frames))) == list(range(frames))


def plan(**changes: Any) -> Plan:
    facts = SceneFacts.from_plain({"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 99, "dt": 0.1})
    return Plan(specification(Path("/a.obj"), **{"frames": 99, **changes}), facts, "scene")


def test_sixteen_frames_that_are_spread_over_the_movie_come_first() -> None:
    asked = FrameQueue.of(plan(), Survey(done={0}, missing=list(range(1, 99))))
    assert (asked.total, asked.done, len(asked.waiting)) == (99, 1, 98)
    assert list(asked.waiting)[:3] == [98, 46, 20], "0 is there already"
    assert list(asked.waiting)[15:] == sorted(list(asked.waiting)[15:])


def test_the_steps_of_a_simulation_stay_one_after_another() -> None:
    found = plan(frames=None, simulation={"start": 0, "end": 9})
    left = list(found.frames)
    assert list(FrameQueue.of(found, Survey(missing=left)).waiting) == left


def test_a_movie_of_python_stays_in_order() -> None:
    source = {"file": "/growth.py", "arguments": {}, "digests": {}}
    found = replace(plan(), specification=ScriptSpecification.check({"frames": 40, "script": source}))
    assert list(FrameQueue.of(found, Survey(missing=list(range(40)))).waiting) == list(range(40))


def test_the_tiles_of_a_frame_stay_in_order() -> None:
    tiled = plan(frames=1, tiles=[8, 8], resolution=[1024, 1024])
    asked = FrameQueue.of(tiled, Survey(missing=list(tiled.pictures)))
    assert (asked.total, list(asked.waiting)) == (64, list(tiled.pictures))
