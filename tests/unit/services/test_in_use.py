"""A service that somebody works with: it is proved, counts as used, and when the connection breaks its end is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.finding import Fate
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import BraynsError, ConnectionLost, ServiceFailed
from airflow_brayns.services.in_use import InUse, what_became
from tests.support.clock import jumping_clock
from tests.support.shell import FakeShell, coded, look, service

__all__ = ["jumping_clock"]
pytestmark = pytest.mark.usefixtures("jumping_clock")

NAME, ENDPOINT = "ab-0123456789ab000", "r1i1n0:5000"
ALLOCATION = Allocation(NAME, 1, "77")
LIVES = [service("brayns1", port=5000)]


def examined(
    socket: str = "ours", services: list[str] = LIVES, *, idle: int = 400, asked: str = "0", tail: str = "", **more: Any
) -> str:
    told = f"examined {NAME} 1 brayns1\nidle {idle}\nasked {asked}\ntail {coded(tail)}\n"
    return told + (f"socket {socket}\n" if socket else "") + look(NAME, services=services, **more)


ENDED = examined("", [service("brayns1", exited="139 the service ended with exit code 139")], tail="farewell")


class Place:
    """A cluster that has one service of ours, or none.

    :param finds: what each examination finds, one after the other; the last from then on.
    :param renews: the same of renewals.
    """

    def __init__(self, *finds: Any, renews: tuple[Any, ...] = ("used\n",)) -> None:
        self.finds, self.renews = list(finds), list(renews)
        self.shell = FakeShell(self._answer)
        self.cluster = SlurmCluster(self.shell, state_dir="/s")
        self.renewed: list[float] = []

    def _answer(self, script: str) -> Any:
        call = script.rstrip().rsplit("\n", 1)[1]
        if call.startswith("listening_at "):
            return (
                ""
                if not self.finds
                else self.finds[0]
                if isinstance(self.finds[0], BaseException)
                else f"at {NAME} 1 brayns1 lives r1i1n0\n"
            )
        if call.startswith("renew "):
            self.renewed.append(time.monotonic())
            return self.renews.pop(0) if len(self.renews) > 1 else self.renews[0]
        return self.finds.pop(0) if len(self.finds) > 1 else self.finds[0]

    async def used(self) -> InUse:
        """It, looked at."""
        one = InUse(self.cluster, ENDPOINT, logging.getLogger("use"))
        await one.look()
        return one


def until_seconds(limit: float) -> Callable[[], bool]:
    began = time.monotonic()
    return lambda: time.monotonic() - began > limit


# ---- the first look ----------------------------------------------------------------------------------------------------
async def test_a_service_of_ours_is_found_and_proved() -> None:
    found = (await Place(examined()).used()).found
    assert found is not None
    assert found.fate is Fate.OURS


async def test_an_endpoint_of_nobody_of_ours_is_left_as_it_is() -> None:
    assert (await Place().used()).found is None


@pytest.mark.parametrize(
    ("seen", "why"),
    [(examined("strange joe"), "port 5000 is not its own any more"), (ENDED, "(?s)killed by signal 11.*farewell")],
)
async def test_whoever_listens_in_the_place_of_ours_is_refused(seen: str, why: str) -> None:
    with pytest.raises(ServiceFailed, match=why) as raised:
        await Place(seen).used()
    assert not raised.value.retry
    assert "Clear the task that started it" in str(raised.value)


async def test_an_ended_one_at_a_port_that_was_asked_for_says_nothing_of_who_is_there_today() -> None:
    ended = examined("", [service("brayns1", exited="1 x")], asked="5000")
    assert (await Place(ended).used()).found is None


async def test_a_cluster_that_cannot_be_asked_keeps_nobody_from_working(caplog: pytest.LogCaptureFixture) -> None:
    async def silent(_: str) -> str:
        await asyncio.sleep(10**5)
        return ""

    for place, why in ((Place(ConnectionLost("cut")), "cut"), (Place(), "no answer in time")):
        if why != "cut":
            place.shell.answers = silent
        caplog.clear()
        began = time.monotonic()
        assert (await place.used()).found is None
        assert time.monotonic() - began < 21
        assert caplog.messages == [
            f"The cluster could not be told that {ENDPOINT} is in use, so `idle_limit` may end it; asking again: {why}"
        ]


# ---- while it is used --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("idle", "seconds"), [(400, 60), (40, 10), (240, 60), (1, 0.5)])
async def test_it_is_renewed_four_times_in_an_idle_limit_and_at_least_once_a_minute(idle: int, seconds: float) -> None:
    place = Place(examined(idle=idle))
    one = await place.used()
    began = time.monotonic()
    await one.keep(until_seconds(3.5 * seconds))
    assert [round(at - began, 1) for at in place.renewed] == [seconds, 2 * seconds, 3 * seconds, 4 * seconds]


async def test_what_has_ended_is_not_renewed_any_more() -> None:
    place = Place(examined(), renews=("used\n", "\n"))
    await (await place.used()).keep(lambda: False)
    assert len(place.renewed) == 2


async def test_whom_nobody_wants_keeps_nothing() -> None:
    place = Place(examined())
    await (await place.used()).keep(lambda: True)
    assert place.renewed == []


async def test_what_is_none_of_ours_is_not_asked_for_again() -> None:
    place = Place()
    one = await place.used()
    before = place.shell.commands
    await one.keep(lambda: False)
    assert place.shell.commands == before


async def test_what_could_not_be_found_is_looked_for_until_it_can(caplog: pytest.LogCaptureFixture) -> None:
    place = Place(ConnectionLost("cut"))
    one = await place.used()
    keeping = asyncio.create_task(one.keep(lambda: False))
    await asyncio.sleep(200)
    assert len(caplog.messages) == 1, "told once, however often"
    place.finds = [examined()]
    await asyncio.sleep(200)
    assert one.found is not None
    assert place.renewed
    keeping.cancel()


@pytest.mark.parametrize(("seen", "refused"), [(examined("strange joe"), True), (examined(), False), (ENDED, False)])
async def test_a_stranger_who_is_found_out_only_later_is_told_of_and_what_came_from_there_counts_for_nothing(
    caplog: pytest.LogCaptureFixture, seen: str, refused: bool
) -> None:
    """The login node was away when the work began: it went on with the stranger, and green."""
    place = Place(ConnectionLost("cut"))
    one = await place.used()
    one.check()
    keeping = asyncio.create_task(one.keep(lambda: False))
    await asyncio.sleep(100)
    place.finds = [seen]
    await asyncio.sleep(200)
    keeping.cancel()
    with pytest.raises(ServiceFailed, match="port 5000 is not its own any more") if refused else nullcontext():
        one.check()
    assert ("Somebody else listens at" in caplog.text) is refused


# ---- when the connection breaks ----------------------------------------------------------------------------------------
BROKE = ConnectionResetError(104, "Connection reset by peer")


async def explained(place: Place, error: BaseException | None = None) -> BraynsError | None:
    return await (await place.used()).explain(error or ConnectionLost("it broke"))


async def test_of_one_that_ended_it_is_told_how_with_what_the_client_said() -> None:
    """A wrapper says it within a second or so; that is waited for."""
    gone = examined("gone")
    said = await explained(Place(examined(), gone, gone, ENDED))
    assert isinstance(said, ServiceFailed)
    assert not said.retry
    assert "killed by signal 11" in str(said)
    assert "farewell" in str(said)
    assert f"The client at {ENDPOINT} said: ConnectionLost: it broke." in str(said)


async def test_of_one_that_still_runs_it_is_told_that_it_was_the_way() -> None:
    said = await explained(Place(examined(tail="all is well")))
    assert isinstance(said, ConnectionLost)
    assert said.retry
    assert "and the service still runs: it was the way there" in str(said)
    assert "all is well" in str(said)


async def test_of_one_whose_cluster_does_not_answer_it_is_told_that_it_is_not_known() -> None:
    said = await explained(Place(examined(), ConnectionLost("cut")))
    assert isinstance(said, ConnectionLost)
    assert "The cluster could not be asked what became of it: cut" in str(said)


async def test_of_one_that_is_none_of_ours_that_is_told() -> None:
    said = await explained(Place())
    assert isinstance(said, ConnectionLost)
    assert "It runs in no allocation of ours" in str(said)


async def test_an_error_of_something_else_is_left_alone() -> None:
    assert await explained(Place(examined()), ValueError("a bug")) is None


async def test_an_error_that_does_not_say_whose_gets_a_note_where_the_service_lives() -> None:
    assert await explained(Place(examined()), BROKE) is None
    assert BROKE.__notes__ == ["braynsService brayns1 on r1i1n0 at r1i1n0:5000 still runs."]


async def test_a_time_out_of_the_callers_own_is_theirs_where_the_service_lives() -> None:
    assert await explained(Place(examined()), TimeoutError()) is None
    assert isinstance(await explained(Place(examined(), ENDED), TimeoutError()), ServiceFailed)


async def test_what_became_of_one_is_awaited_for_some_seconds_only() -> None:
    place = Place(examined("gone"))
    began = time.monotonic()
    found = await what_became(place.cluster, ALLOCATION, "brayns1")
    assert found is not None
    assert found.fate is Fate.ENDED
    assert 5 < time.monotonic() - began < 6
    assert await what_became(Place("").cluster, ALLOCATION, "brayns1") is None
