"""One service's share of a movie: how many frames it has at once, what it is blamed for, and when it takes no more."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_brayns.errors import (
    BraynsError,
    ConnectionLost,
    RenderingFailed,
    ScriptFailed,
    ServiceFailed,
    StorageFailed,
    Superseded,
)
from airflow_brayns.movie.interfaces import RenderService
from airflow_brayns.movie.shared_state import SharedState
from airflow_brayns.movie.worker import Aside, RenderWorker
from tests.support.clock import jumping_clock
from tests.support.movie import sharing

__all__ = ["jumping_clock"]
pytestmark = pytest.mark.usefixtures("jumping_clock")

ONE, TWO = (RenderService(f"n{number}:5000", f"brayns{number}", f"n{number}") for number in (1, 2))


class Client:
    """A connection that can be closed."""

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Call:
    """Renders one frame a second, one after the other, or does what the test says at its n-th request."""

    name = "snapshot"

    def __init__(self, **at: Callable[[], Any]) -> None:
        self.at = {int(name[1:]): do for name, do in at.items()}
        self.asked: list[int] = []
        self.paths: list[str] = []
        self.running = self.most = 0
        self.seconds = 1.0
        self._thread = asyncio.Lock()

    def since(self, began: float) -> float:
        return began

    async def render(self, client: Client, plan: Any, frame: int, file_path: str = "") -> bytes:
        self.asked.append(frame)
        self.paths.append(file_path)
        number = len(self.asked)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            async with self._thread:
                await asyncio.sleep(self.seconds)
                if number in self.at:
                    result = self.at[number]()
                    return await result if asyncio.iscoroutine(result) else result
                return b""
        finally:
            self.running -= 1


def fail(error: BaseException) -> Callable[[], Any]:
    def do() -> Any:
        raise error

    return do


async def hang() -> bytes:
    await asyncio.sleep(10**7)
    return b""


@pytest.fixture
def regained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What comes of connecting anew, one after the other: a client, or an error after a time."""
    outcomes: list[Any] = []

    async def regain(service: RenderService, restore: Any, *, timed_out: bool) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, tuple):
            await asyncio.sleep(outcome[0])
            outcome = outcome[1]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr("airflow_brayns.movie.worker.regain", regain)
    return outcomes


async def work(
    shared: SharedState, call: Call, service: RenderService = ONE, client: Client | None = None
) -> Aside | None:
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(10**5):
        worker = RenderWorker(shared, service, client or Client(), call, stack, None)  # type: ignore[arg-type]
        return await worker.work()


async def test_all_frames_are_asked_for_and_kept_and_then_it_is_over() -> None:
    shared: Any = sharing(5, ONE)
    call = Call()
    assert await work(shared, call) is None
    assert call.asked == [0, 1, 2, 3, 4]
    assert call.paths[0] == "/frames/00000.png"
    assert sorted(shared.store.kept) == [0, 1, 2, 3, 4]
    assert shared.over
    assert all(0.9 < made.seconds < 1.6 and made.way == "snapshot" for made in shared.store.kept.values())


@pytest.mark.parametrize(("seconds", "most"), [(0.5, 2), (5.0, 1)])
async def test_a_quick_service_has_the_next_frame_waiting(seconds: float, most: int) -> None:
    shared = sharing(8, ONE)
    call = Call()
    call.seconds = seconds
    await work(shared, call)
    assert call.most == most


async def test_two_that_share_render_each_frame_once() -> None:
    shared: Any = sharing(9, ONE, TWO)
    one, two = Call(), Call()
    await asyncio.gather(work(shared, one), work(shared, two, TWO))
    assert sorted(one.asked + two.asked) == list(range(9))
    assert min(len(one.asked), len(two.asked)) >= 3


async def test_a_frame_that_does_not_come_within_its_time_costs_the_service(regained: list[Any]) -> None:
    regained.append(ServiceFailed("brayns1 on n1 hangs"))
    shared: Any = sharing(3, ONE, TWO)
    client, began = Client(), time.monotonic()
    aside = await work(shared, Call(_1=hang), client=client)
    assert aside == Aside(
        "no answer within 300 s, frame_timeout, since none has come yet. brayns1 on n1 hangs", None, hung=True
    )
    assert 300 <= time.monotonic() - began < 305
    assert client.closed
    assert list(shared.frames.waiting) == [0, 1, 2]
    assert shared.frames.blamed == {0: {ONE.endpoint}}


async def test_a_service_that_hung_and_answers_again_goes_on_and_at_the_second_time_is_set_aside(
    regained: list[Any],
) -> None:
    regained += [Client(), Client()]
    shared = sharing(6, ONE, TWO)
    aside = await work(shared, Call(_1=hang, _2=hang))
    assert aside is not None
    assert aside.why.startswith("2 frames in a row failed: no answer within 300 s")
    assert aside.hung


async def test_two_failures_in_a_row_and_no_fewer_set_a_service_aside() -> None:
    shared: Any = sharing(6, ONE)
    call = Call(_1=fail(RenderingFailed("black")), _3=fail(RenderingFailed("white")), _4=fail(RenderingFailed("grey")))
    call.seconds = 5.0  # one at a time
    assert await work(shared, call) == Aside("2 frames in a row failed: grey")
    assert len(shared.store.kept) == 1
    assert [str(one) for one in shared.failures] == ["black", "white", "grey"]


async def test_a_frame_that_failed_on_others_too_is_told_as_its_own_fault() -> None:
    shared: Any = sharing(2, ONE, TWO)
    shared.frames.blamed = {0: {TWO.endpoint}, 1: {TWO.endpoint}}
    aside = await work(shared, Call(_1=fail(RenderingFailed("black")), _2=fail(RenderingFailed("black"))))
    assert aside == Aside("frame 1 failed here as on others: black", 1)


async def test_a_broken_connection_that_is_made_anew_costs_nothing(regained: list[Any]) -> None:
    again = Client()
    regained.append(again)
    shared: Any = sharing(3, ONE, TWO)
    first = Client()
    assert await work(shared, Call(_2=fail(ConnectionLost("reset by peer"))), client=first) is None
    assert first.closed
    assert again.closed, "the stack closes it at the end"
    assert not shared.frames.blamed
    assert sorted(shared.store.kept) == [0, 1, 2]
    assert "The connection to brayns1 on n1 broke, and was made anew: reset by peer" in shared.told.notes


async def test_a_frame_that_loses_connection_after_connection_is_blamed(regained: list[Any]) -> None:
    """Five times it may be the network's fault."""
    regained += [Client() for _ in range(12)]
    shared: Any = sharing(3, ONE)
    losing = {f"_{number}": fail(ConnectionLost("reset")) for number in range(1, 8)}
    await work(shared, Call(**losing))
    assert shared.frames.blamed[0] == {ONE.endpoint}
    assert sum("made anew" in note for note in shared.told.notes) == 5 + 1


async def test_while_it_is_not_known_whether_it_lives_the_others_get_its_frame(regained: list[Any]) -> None:
    regained.append((60.0, Client()))
    shared: Any = sharing(3, ONE, TWO)
    working = asyncio.create_task(work(shared, Call(_1=fail(ConnectionLost("reset")))))
    await asyncio.sleep(1 + 5)
    assert 0 not in shared.frames.waiting, "six seconds it keeps its frame"
    await asyncio.sleep(2)
    assert 0 in shared.frames.waiting
    assert await working is None
    assert sorted(shared.store.kept) == [0, 1, 2]


async def test_a_service_that_has_ended_with_a_frame_is_told_with_why(regained: list[Any]) -> None:
    regained.append(ServiceFailed("brayns1 was killed by signal 11"))
    shared: Any = sharing(3, ONE, TWO)
    shared.frames.blamed = {0: {TWO.endpoint}}
    aside = await work(shared, Call(_1=fail(ConnectionLost("reset"))))
    assert aside == Aside("frame 0 ended it as it did others: brayns1 was killed by signal 11", 0)
    regained.append(ServiceFailed("brayns1 was killed by signal 11"))
    shared = sharing(3, ONE, TWO)
    assert await work(shared, Call(_1=fail(ConnectionLost("reset")))) == Aside("brayns1 was killed by signal 11")
    assert shared.frames.blamed == {0: {ONE.endpoint}}


async def test_without_its_lease_it_asks_for_nothing_and_goes_on_when_it_has_it_again() -> None:
    held = False
    service = replace(ONE, holds=lambda: held)
    shared: Any = sharing(3, service)
    call = Call()
    working = asyncio.create_task(work(shared, call, service))
    await asyncio.sleep(100)
    assert call.asked == []
    held = True
    assert await working is None
    assert sorted(shared.store.kept) == [0, 1, 2]


async def test_before_its_allocation_ends_it_takes_no_further_frame() -> None:
    ends_at = time.time() + 10
    service = replace(ONE, ends_at=lambda: ends_at)
    shared: Any = sharing(100, service)
    call = Call()
    assert await work(shared, call, service) is None
    assert 3 <= len(shared.store.kept) < 10
    assert not shared.frames.taken
    assert not call.running
    assert shared.told.notes == ["brayns1 on n1 takes no more frames: its allocation ends."]


@pytest.mark.parametrize("error", [StorageFailed("no room"), Superseded("taken over")])
async def test_frames_that_cannot_be_written_are_no_services_fault(error: BraynsError) -> None:
    shared: Any = sharing(5, ONE)
    shared.store.fails = error
    with pytest.raises(type(error)):
        await work(shared, Call())
    assert not shared.failures
    assert not shared.store.kept


async def test_pictures_that_are_not_whole_count_as_failures() -> None:
    shared: Any = sharing(8, ONE, TWO)
    shared.store.fails = RenderingFailed("cut off")
    with pytest.raises(RenderingFailed, match="cut off"):
        await work(shared, Call())
    assert len(shared.failures) == 2


async def test_an_error_of_our_own_is_not_taken_for_the_services() -> None:
    shared = sharing(3, ONE)
    with pytest.raises(ZeroDivisionError):
        await work(shared, Call(_1=fail(ZeroDivisionError())))
    assert 0 not in shared.frames.taken


async def test_what_a_movies_python_does_wrong_ends_it_at_once_and_whole_frames_are_kept() -> None:
    shared: Any = sharing(5, ONE, TWO)
    with pytest.raises(ScriptFailed):
        await work(shared, Call(_3=fail(ScriptFailed("growth.py, frame 2: KeyError"))))
    assert sorted(shared.store.kept) == [0, 1]
    assert not shared.frames.blamed, "no service is at fault"


class TakesLeave(Call):
    """A call that has something to say when it is cancelled: the client asks the service to cancel it, too."""

    async def render(self, client: Client, plan: Any, frame: int, file_path: str = "") -> bytes:
        try:
            return await super().render(client, plan, frame, file_path)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            raise


async def test_what_it_asked_for_has_ended_when_it_has() -> None:
    """The connection is closed next, and the loop may be, too."""
    call = TakesLeave(_3=fail(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        await work(sharing(9, ONE), call)
    assert call.most > 1, "one was waiting"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_with_nothing_to_take_it_waits_until_all_is_done() -> None:
    """Another service is at the last frame, and may fail with it."""
    shared: Any = sharing(1, ONE, TWO)
    shared.frames.take(0)
    call = Call()
    working = asyncio.create_task(work(shared, call))
    await asyncio.sleep(30)
    assert not working.done()
    shared.give_back(0)
    assert await working is None
    assert call.asked == [0]


@pytest.mark.parametrize(
    ("error", "hung"), [(ConnectionLost("x", timed_out=True), True), (ConnectionLost("x"), False), (ServiceFailed("x"), False)]
)  # fmt: skip
def test_why_one_never_came_as_far_as_a_frame(error: BraynsError, hung: bool) -> None:
    assert Aside.of(error) == Aside("x", None, hung)


async def test_what_its_node_did_is_told_to_the_ledger() -> None:
    shared = sharing(6, ONE)
    shared.ledger.held(ONE.place)
    shared.ledger.ready(ONE.place)
    await work(shared, Call(_3=fail(RenderingFailed("x"))))
    used = shared.ledger.used
    assert (used.rendering, used.lost, used.frames) == (pytest.approx(6, abs=0.1), pytest.approx(1, abs=0.1), 6)


async def test_what_a_service_was_at_when_the_movie_is_stopped_is_lost() -> None:
    shared, call = sharing(6, ONE), Call()
    shared.ledger.held(ONE.place)
    shared.ledger.ready(ONE.place)
    call.seconds = 100
    working = asyncio.create_task(work(shared, call))
    await asyncio.sleep(150)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    used = shared.ledger.used
    assert (used.rendering, used.lost) == (pytest.approx(100, abs=1), pytest.approx(50, abs=1))


async def test_pictures_that_are_not_whole_are_rendered_in_vain() -> None:
    shared: Any = sharing(6, ONE)
    shared.ledger.held(ONE.place)
    shared.ledger.ready(ONE.place)
    shared.store.fails = RenderingFailed("cut off")
    with contextlib.suppress(RenderingFailed):
        await work(shared, Call())
    assert shared.ledger.used.rendering == pytest.approx(0, abs=0.1)
    assert shared.ledger.used.lost >= 2
