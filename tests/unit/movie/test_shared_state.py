"""What the workers of a movie share: who takes how many frames, when none, and what is said at the end."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import pytest
from PIL import Image

from airflow_brayns.errors import NothingSeen, RenderingFailed
from airflow_brayns.movie.frame_store import Made
from airflow_brayns.movie.interfaces import RenderService
from airflow_brayns.movie.ledger import Ledger
from airflow_brayns.movie.shared_state import SharedState
from tests.support.clock import jumping_clock
from tests.support.movie import KeptFrames, Remembers, sharing

__all__ = ["jumping_clock"]
ONE, TWO, THREE = (RenderService(f"n{number}:5000", f"brayns{number}", f"n{number}") for number in (1, 2, 3))


def image(*colors: str) -> bytes:
    picture = Image.new("RGB", (96, 64), colors[0])
    for at, color in enumerate(colors):
        picture.putpixel((at, 0), tuple(Image.new("RGB", (1, 1), color).getpixel((0, 0))))  # type: ignore[arg-type]
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def paced(shared: SharedState, *paces: tuple[RenderService, float]) -> None:
    for service, seconds in paces:
        shared.pace.add(service, seconds)


# ---- who takes what ----------------------------------------------------------------------------------------------------
def test_a_service_whose_pace_is_not_known_gets_one_frame_at_a_time() -> None:
    shared = sharing(10, ONE)
    assert shared.ahead(ONE) == 1
    assert shared.take(ONE, 0) == 0
    assert shared.take(ONE, 1) is None


@pytest.mark.parametrize(("seconds", "ahead"), [(0.1, 2), (1.99, 2), (2.0, 1), (60.0, 1)])
def test_a_quick_one_has_its_next_frame_waiting(seconds: float, ahead: int) -> None:
    """What a frame takes to come and go counts only where frames are quick."""
    shared = sharing(10, ONE)
    paced(shared, (ONE, seconds))
    assert shared.ahead(ONE) == ahead


def test_towards_the_end_nobody_keeps_a_second_frame_from_the_others() -> None:
    shared = sharing(4, ONE, TWO)
    paced(shared, (ONE, 1.0), (TWO, 1.0))
    assert shared.take(ONE, 0) == 0
    assert shared.take(ONE, 1) == 1
    assert shared.take(ONE, 1) is None, "as many are left as there are services"


def test_the_slow_one_is_not_the_last() -> None:
    """The others are done with all that is left before it is with one."""
    shared = sharing(4, ONE, TWO, THREE)
    paced(shared, (ONE, 10.0), (TWO, 1.0), (THREE, 1.0))
    assert shared.take(ONE, 0) is None
    assert shared.take(TWO, 0) == 0
    shared = sharing(40, ONE, TWO, THREE)
    paced(shared, (ONE, 10.0), (TWO, 1.0), (THREE, 1.0))
    assert shared.take(ONE, 0) == 0
    shared = sharing(4, ONE)
    paced(shared, (ONE, 10.0), (TWO, 1.0))
    assert shared.take(ONE, 0) == 0, "one who has left renders nothing"


def test_nothing_is_taken_where_nothing_waits() -> None:
    assert sharing(3, ONE, done=3).take(ONE, 0) is None


@pytest.mark.parametrize(
    ("seconds", "left", "stops"), [(None, 4.4, True), (None, 4.6, False), (10.0, 17.9, True), (10.0, 18.1, False)]
)
def test_no_frame_is_begun_that_the_allocations_end_would_cut_off(
    seconds: float | None, left: float, stops: bool
) -> None:
    """Half as much again as a frame takes, and three seconds."""
    ends_at = time.time() + left
    service = RenderService("n1:5000", "brayns1", ends_at=lambda: ends_at)
    shared = sharing(10, ONE)
    if seconds:
        paced(shared, (service, seconds))
    assert shared.would_not_finish(service) is stops
    assert not shared.would_not_finish(ONE)


def test_one_that_is_new_is_thought_as_slow_as_the_slowest() -> None:
    service = RenderService("n9:5000", "brayns9", ends_at=lambda: time.time() + 20)
    shared = sharing(10, ONE)
    assert not shared.would_not_finish(service)
    paced(shared, (TWO, 30.0))
    assert shared.would_not_finish(service)


def test_the_time_out_is_the_given_one_until_a_frame_has_come() -> None:
    shared = sharing(10, ONE)
    assert (shared.limit(), shared.limit_told()) == (300, "frame_timeout, since none has come yet")
    paced(shared, (ONE, 5.0))
    assert (shared.limit(), shared.limit_told()) == (50.0, "the time-out learnt so far")


# ---- frames that come --------------------------------------------------------------------------------------------------
async def test_a_frame_that_comes_is_kept_counted_and_told() -> None:
    shared: Any = sharing(4, ONE, TWO, done=2)
    frame = shared.take(ONE, 0)
    await shared.keep(ONE, frame, image("black", "white"), 2.0, "snapshot")
    assert shared.store.kept == {2: Made(2.0, "n1", "", "brayns1", "", "snapshot", shared.ledger.holder)}
    [step] = shared.told.steps
    assert (step.done, step.total, step.rate, step.left, step.nodes, step.seconds) == (3, 4, 0.5, 2.0, {"n1": 1}, 2.0)
    assert shared.rendered == 1
    assert not shared.told.troubles
    assert not shared.over
    await shared.keep(TWO, shared.take(TWO, 0), b"", 2.0, "snapshot")
    assert shared.over
    assert shared.told.steps[-1].nodes == {"n1": 1, "n2": 1}


async def test_a_frame_that_comes_after_the_lease_was_lost_does_not_count() -> None:
    """Another driver renders with the service: the picture may be of its camera."""
    lost = RenderService("n1:5000", "brayns1", holds=lambda: False)
    shared: Any = sharing(4, lost)
    frame = shared.frames.next_for(lost, [])
    await shared.keep(lost, frame, image("black", "white"), 2.0, "one-pass")
    assert not shared.store.kept
    assert list(shared.frames.waiting) == [0, 1, 2, 3]
    assert shared.rendered == 0


async def test_a_first_frame_of_one_colour_is_told_of_and_only_the_first() -> None:
    shared: Any = sharing(10, ONE)
    for _ in range(2):
        await shared.keep(ONE, shared.take(ONE, 0), image("black"), 1.0, "snapshot")
    [told] = shared.told.troubles
    assert told.startswith("Frame 0 is of one colour: nothing of the scene is seen in it.")
    shared = sharing(10, ONE)
    await shared.keep(ONE, shared.take(ONE, 0), image("black", "white"), 1.0, "snapshot")
    await shared.keep(ONE, shared.take(ONE, 0), image("black"), 1.0, "snapshot")
    assert not shared.told.troubles


async def test_a_frame_that_the_service_wrote_itself_is_told_of_by_whoever_has_it() -> None:
    """Frames that stay on the cluster were never looked at."""
    shared: Any = sharing(10, ONE)
    shared.store.flat = (0,)
    for _ in range(2):
        await shared.keep(ONE, shared.take(ONE, 0), b"", 1.0, "snapshot")
    [told] = shared.told.troubles
    assert told.startswith("Frame 0 is of one colour: ")


async def test_a_movie_may_begin_in_the_dark() -> None:
    """After a first picture of one colour its middle and its end are looked at, before the rest is rendered."""
    shared: Any = sharing(101, ONE)
    await shared.keep(ONE, shared.take(ONE, 0), image("black"), 1.0, "snapshot")
    frames = [shared.take(ONE, 0), shared.take(ONE, 0)]
    assert frames == [100, 51]
    await shared.keep(ONE, 100, image("black"), 1.0, "snapshot")
    await shared.keep(ONE, 51, image("black", "white"), 1.0, "snapshot")
    for frame in range(1, 6):
        await shared.keep(ONE, frame, image("black"), 1.0, "snapshot")


@pytest.mark.parametrize("on_cluster", [False, True])
async def test_pictures_of_one_colour_all_over_a_movie_end_it(on_cluster: bool) -> None:
    shared: Any = sharing(101, ONE)
    shared.store.flat = tuple(range(101)) if on_cluster else ()
    data = b"" if on_cluster else image("black")
    for frame in (0, 100):
        await shared.keep(ONE, frame, data, 1.0, "snapshot")
    with pytest.raises(
        NothingSeen, match=r"^models: look at .*\n +nothing of the scene is seen: frames 0, 51, 100 are of one colour\."
    ) as raised:
        await shared.keep(ONE, 51, data, 1.0, "snapshot")
    assert not raised.value.retry


async def test_dark_pictures_do_not_end_a_movie_of_which_an_earlier_try_has_one() -> None:
    """That one is not looked at again: something may be seen in it."""
    shared: Any = sharing(101, ONE, done=1)
    for frame in (1, 50, 100):
        await shared.keep(ONE, frame, image("black"), 1.0, "snapshot")
    assert shared.rendered == 3


async def test_a_frame_in_tiles_shows_nothing_only_if_no_tile_shows_something() -> None:
    """Three empty tiles are the frame's corners; one of one colour that is not the background's is within something."""
    shared: Any = sharing(1, ONE, resolution=[256, 128], tiles=[4, 2], output="a.png")
    assert shared.frames.total == 8
    for _ in range(7):
        await shared.keep(ONE, shared.take(ONE, 0), image("black"), 1.0, "snapshot")
    assert not shared.told.troubles
    with pytest.raises(NothingSeen, match=r"nothing of the scene is seen: tiles 8 of frames 0 are of one colour\."):
        await shared.keep(ONE, 7, image("black"), 1.0, "snapshot")
    shared = sharing(1, ONE, resolution=[256, 128], tiles=[4, 2], output="a.png")
    for tile in range(8):
        await shared.keep(ONE, shared.take(ONE, 0), image("white" if tile == 5 else "black"), 1.0, "snapshot")


def test_tiles_are_asked_for_one_by_one_and_named_by_their_place() -> None:
    """They are large: of each service one is on its way, and one is written."""
    shared: Any = sharing(2, ONE, TWO, resolution=[256, 128], tiles=[4, 2])
    shared.pace.add(ONE, 0.01)
    assert (shared.ahead(ONE), shared.outstanding) == (1, 1)
    shared.frames.take(14)
    shared.failed(14, ONE, RenderingFailed("black"))
    assert shared.told.troubles == ["The tile of frame 1 in row 2, column 3 failed on brayns1 on n1: black"]
    assert "16 of 16 tiles are missing (16 of frames 0-1)." in str(shared.gaps(shared.missing()))


# ---- frames that fail --------------------------------------------------------------------------------------------------
def test_a_frame_that_fails_is_told_with_its_service_and_at_last_given_up() -> None:
    shared: Any = sharing(4, ONE, TWO, THREE)
    for service, again in ((ONE, False), (TWO, True), (THREE, True)):
        shared.frames.take(0)
        assert shared.failed(0, service, RenderingFailed("black")) is again
    assert shared.told.troubles == [
        "Frame 0 failed on brayns1 on n1: black", "Frame 0 failed on brayns2 on n2: black", "Frame 0 failed on brayns3 on n3: black",
        "Frame 0 failed on 3 different services; the others are rendered without it.",
    ]  # fmt: skip
    assert [str(one) for one in shared.failures] == ["black"] * 3


def test_with_one_service_alone_the_other_frames_go_first() -> None:
    for services, order in (((ONE,), [1, 2, 3, 0]), ((ONE, TWO), [0, 1, 2, 3])):
        shared = sharing(4, *services)
        shared.take(ONE, 0)
        shared.failed(0, ONE, RenderingFailed("x"))
        assert list(shared.frames.waiting) == order


def test_a_frame_that_was_given_back_before_can_be_blamed_too() -> None:
    shared = sharing(4, ONE, TWO)
    shared.failed(0, ONE, RenderingFailed("x"), held=False)
    assert shared.frames.blamed == {0: {ONE.endpoint}}
    shared.failed(1, ONE, RenderingFailed("x"), held=True)
    assert 1 not in shared.frames.blamed, "it was not the service's"


# ---- the end -----------------------------------------------------------------------------------------------------------
def test_how_much_longer_it_takes_is_known_once_there_is_a_pace() -> None:
    shared = sharing(10, ONE, done=2)
    assert shared.seconds_left() is None
    paced(shared, (ONE, 2.0))
    assert shared.seconds_left() == 16.0
    shared.frames.given_up[9] = "x"
    assert shared.seconds_left() == 14.0


def test_missing_frames_are_named_with_why_and_a_retry_goes_on() -> None:
    shared = sharing(6, ONE, done=1)
    shared.take(ONE, 0)
    shared.failures.append(RenderingFailed("it died"))
    error = shared.none_left()
    assert shared.missing() == [1, 2, 3, 4, 5]
    assert str(error) == (
        f"{error.remedy}\n    5 of 6 frames are missing (1-5). No service is left to render them. The last failure: it died"
    )
    assert error.retry


def test_where_only_the_frames_themselves_failed_no_retry_helps() -> None:
    shared = sharing(4, ONE)
    shared.frames.waiting.clear()
    shared.frames.given_up = {3: "too bright", 2: "too dark"}
    error = shared.gaps(shared.missing())
    assert str(error) == (
        "Look at camera and scene in the frames that failed.\n"
        "    2 of 4 frames are missing (2-3). Frames 2-3 failed on 3 different services, so it is the frame. Of frame 2: too dark"
    )
    assert not error.retry


def test_before_there_is_a_plan_the_last_failure_tells_why() -> None:
    shared = SharedState(KeptFrames(), Remembers(), 300, Ledger())  # type: ignore[arg-type]
    assert not shared.planned
    assert not shared.over
    assert str(shared.none_left()) == "Look at the services' own lines above.\n    No service became usable."
    shared.failures += [RenderingFailed("first"), RenderingFailed("last")]
    assert str(shared.none_left()) == "last"


@pytest.mark.usefixtures("jumping_clock")
async def test_a_change_is_awaited_for_a_second_at_most() -> None:
    shared = sharing(4, ONE, TWO)
    began = time.monotonic()
    await shared.change()
    assert 1 <= time.monotonic() - began < 1.1


@pytest.mark.parametrize("what", ["give_back", "failed", "leaves"])
async def test_whatever_gives_others_work_wakes_them(what: str) -> None:
    shared = sharing(4, ONE, TWO)
    frame = shared.take(ONE, 0)
    assert frame is not None
    began = time.monotonic()
    waiting = asyncio.create_task(shared.change())
    await asyncio.sleep(0)
    {"give_back": lambda: shared.give_back(frame), "failed": lambda: shared.failed(frame, ONE, RenderingFailed("x")),
     "leaves": lambda: shared.leaves(ONE)}[what]()  # fmt: skip
    await waiting
    assert time.monotonic() - began < 0.9
    assert (ONE.endpoint in shared.live) is (what != "leaves")


# ---- the budget --------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("jumping_clock")
async def test_no_frame_is_begun_that_the_budget_does_not_do_for_and_what_was_begun_is_awaited() -> None:
    shared = sharing(9, ONE, TWO)
    shared.ledger.budget = 100 / 3600
    shared.pace.add(ONE, 60)
    shared.pace.add(TWO, 30)
    shared.ledger.held(ONE.place)
    shared.ledger.held(TWO.place)
    assert shared.take(ONE, 0) is None, "120 node seconds would pass"
    frame = shared.take(TWO, 0)
    assert frame is not None
    assert shared.take(TWO, 1) is None
    shared.ledger.budget = 50 / 3600
    spent = asyncio.create_task(shared.budget_spent())
    await asyncio.sleep(3)
    assert not spent.done(), "a frame is being rendered"
    shared.frames.finish(frame)
    async with asyncio.timeout(5):
        await spent


def test_a_spent_budget_says_what_is_missing_also_before_there_is_a_plan() -> None:
    """Who clears the task wants to know how much more it takes."""
    shared = sharing(9, ONE, done=4)
    shared.ledger.budget = 0.5
    error = shared.spent(None)
    assert (error.missing, error.field, shared.ledger.ended_by_budget) == (5, "budget", True)
    assert "the 0.5 node-hours are spent: 5 of 9 frames are missing (4-8)" in str(error)
    unplanned = SharedState(shared.store, shared.told, 300, Ledger(budget=0.5))  # type: ignore[attr-defined]
    assert unplanned.spent(([7, 8], shared.plan)).missing == 2, "as the try found them when it began"
    assert unplanned.spent(None).missing is None
