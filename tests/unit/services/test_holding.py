"""What ends a session that is held; whole sessions are held in `sensors/test_session.py`."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import Usable
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job, ServiceStatus
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import AllocationLost, ConnectionLost, ServiceFailed
from airflow_brayns.services.booking import Booking, Service
from airflow_brayns.services.holding import Held, _Hold, hold
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from tests.support.clock import jumping_clock
from tests.support.shell import FakeShell, answering, look, service

__all__ = ["jumping_clock"]

RUNS = Job("7", "RUNNING", "None", "n1", "ab-1-1", "", "", None)
STOPPED = ServiceStatus("s1", "n1", exit_code=143, exit_text="stopped")


def stopped_for(seconds: float) -> _Hold:
    """A hold that saw its service stopped so many seconds ago."""
    session = Session(SimpleNamespace(cluster=None), ClusterSettings.read({}), logging.getLogger("x"))  # type: ignore[arg-type]
    hold = _Hold(session, Allocation("ab-1", 1, "7"), None)
    hold._watch._stopped["s1"] = asyncio.get_running_loop().time() - seconds
    return hold


@pytest.mark.parametrize(
    "status",
    [
        AllocationStatus("ab-1", 1, job=RUNS, job_id="7"),
        AllocationStatus("ab-1", 1, job_id="7", answered=False, trouble="Slurm is away"),
    ],
)
async def test_a_stopped_service_ends_its_session_also_while_the_scheduler_does_not_answer(
    status: AllocationStatus,
) -> None:
    with pytest.raises(ServiceFailed, match="s1 on n1 was stopped"):
        stopped_for(16)._check(status, STOPPED)
    stopped_for(1)._check(status, STOPPED)


async def test_a_service_that_is_stopped_since_its_job_ends_is_no_news() -> None:
    stopped_for(16)._check(AllocationStatus("ab-1", 1, job=RUNS, job_id="7", ending="scancel"), STOPPED)
    stopped_for(16)._check(AllocationStatus("ab-1", 1, job_id="7", ended="scancel"), STOPPED)


async def held(names: list[str] | None) -> str:
    """Hold an allocation of two services, of which the first ends, until somebody gives it back."""
    name = "ab-0123456789ab000"
    one = look(name, services=[service("brayns1", exited="1 the service ended"), service("brayns2")])
    looks, released = iter([one, one]), look(name, more="released")
    cluster, _ = answering(lambda _: next(looks, released))
    session = Session(Poller(cluster, 10), ClusterSettings.read({"scheduler": "slurm"}), logging.getLogger("x"))
    booking = Booking(name[:-3], (Allocation(name, 1, "77", folder=f"/s/{name}/1"),))
    return await hold(session, booking, None, names)


@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize("names", [None, ["brayns1"], ["brayns1", "brayns2"]])
async def test_a_service_that_ends_ends_the_session_that_holds_it_for_good(names: list[str] | None) -> None:
    """A retry would hold what is not there any more."""
    with pytest.raises(ServiceFailed, match=r"brayns1 on r1i1n0 has ended: the service ended") as raised:
        await held(names)
    assert not raised.value.retry


@pytest.mark.usefixtures("jumping_clock")
async def test_one_that_the_session_does_not_hold_may_end() -> None:
    assert await held(["brayns2"]) == "Job 77 was given back."


# ---- more time, and what follows on ------------------------------------------------------------------------------------
NAME = "ab-0123456789ab000"


class Told:
    """A cluster whose answers a test changes, and what the hold tells meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = {1: look(services=[service(port=5000)])}
        self.held: list[Held] = []
        self.reaped: list[str] = []
        self.away = False

        async def answer(script: str) -> str:
            asked = script[script.rindex("\n}\n") + 3 :]
            if asked.startswith("reap "):
                self.reaped.append(asked.strip())
                return f"released {NAME} 2 done\n"
            if not asked.startswith("look_for "):
                return ""
            if self.away:
                raise ConnectionLost("the login node is away")
            if asked.split()[2] != "0":
                await asyncio.sleep(0.01)
            numbers = [int(found) for found in re.findall(rf"{NAME} ([0-9]+) ", asked)]
            answers = "".join(self.looks[number] for number in numbers).replace("answered\n", "")
            return f"{answers}answered\n"

        async def prove(session: Any, watch: Any, status: AllocationStatus, one: ServiceStatus, within: Any) -> Service:
            return Service(one.name, one.node, Endpoint("n2", 5000), status.job_id, Usable("3.10.1", ()), "/log", None)

        monkeypatch.setattr("airflow_brayns.services.stream.prove", prove)
        monkeypatch.setattr("airflow_brayns.cluster.poller._PAUSE", 0.01)
        self.poller = Poller(SlurmCluster(FakeShell(answer)), 1)  # type: ignore[arg-type]

    def second(self, word: str = "RUNNING", left: str = "1:00:00", **more: Any) -> None:
        """What a look tells of the incarnation that follows on."""
        seen = look(job_id="78", word=word, left=left, **more)
        self.looks[2] = seen.replace(f"allocation {NAME} 1", f"allocation {NAME} 2").replace(f"{NAME}-1|", f"{NAME}-2|")

    async def hold(self, seconds: float = 3600, within: float | None = 30) -> str:
        session = Session(self.poller, ClusterSettings.read({"scheduler": "slurm"}), logging.getLogger("x"))
        booking = Booking(NAME[:-3], (Allocation(NAME, 1, "77", folder=f"/s/{NAME}/1"),))
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        async with asyncio.timeout(within):
            return await hold(session, booking, until, tell=self.held.append)

    async def awaited(self, what: Callable[[Held], Any]) -> Held:
        async with asyncio.timeout(30):
            while not (self.held and what(self.held[-1])):
                await asyncio.sleep(0.01)
        return self.held[-1]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def extended(seconds: float) -> str:
    until = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    return look(services=[service(port=5000)], more=f"until {until}")


async def test_a_session_whose_folder_tells_of_more_time_is_held_so_long(told: Told) -> None:
    """Also by another try of the task, which knows only the first end, and that is over."""
    told.looks[1] = extended(1.5)
    began = asyncio.get_running_loop().time()
    assert (await told.hold(seconds=-60)).startswith("The time is over")
    assert asyncio.get_running_loop().time() - began > 1


async def test_time_is_never_taken_away(told: Told) -> None:
    told.looks[1] = extended(-60)
    holding = asyncio.create_task(told.hold(seconds=2))
    held = await told.awaited(lambda held: held.until)
    assert held.until is not None and held.until > datetime.now(UTC)
    assert (await holding).startswith("The time is over")


async def test_what_is_written_there_by_anybody_else_is_no_time(told: Told) -> None:
    told.looks[1] = look(services=[service(port=5000)], more="until tomorrow; rm -rf /")
    assert (await told.hold(seconds=0.2)).startswith("The time is over")


async def test_what_follows_on_is_waited_for_proved_and_goes_on_when_the_first_one_ends(told: Told) -> None:
    told.looks[1] = look(services=[service(port=5000)], more="next 2")
    told.second("PENDING", reason="Priority", nodes=(), heartbeat="")
    holding = asyncio.create_task(told.hold(seconds=1))
    waits = await told.awaited(lambda held: held.following)
    assert (waits.until, waits.services, waits.following[0].job_id) == (None, (), "78"), "it has its time before it"
    told.second(services=[service(port=5000)], heartbeat="2")
    ready = await told.awaited(lambda held: held.services)
    assert ready.until is not None and 3400 < (ready.until - datetime.now(UTC)).total_seconds() < 3500, (
        "two minutes less"
    )
    told.looks[1] = look(word="TIMEOUT", ended="told to end: the time limit is near", more="next 2")
    await asyncio.sleep(0.2)
    assert not holding.done()
    told.second(left="0:30", services=[service(port=5000)], heartbeat="3")
    assert (await holding).startswith("The time is over")


async def test_one_that_is_lost_while_the_first_lives_leaves_that_its_time(told: Told) -> None:
    told.looks[1] = look(services=[service(port=5000)], more="next 2")
    told.second("CANCELLED", ended="somebody cancelled the job", nodes=())
    assert (await told.hold(seconds=2)).startswith("The time is over")
    assert told.held[-1].following == ()


async def test_the_last_of_them_that_ends_ends_the_session(told: Told) -> None:
    told.looks[1] = look(services=[service(port=5000)], more="next 2")
    told.second(services=[service(port=5000)])
    holding = asyncio.create_task(told.hold())
    await told.awaited(lambda held: held.services)
    told.looks[1] = look(word="TIMEOUT", ended="the time limit is near", more="next 2")
    told.second("FAILED", ended="its node was lost", nodes=())
    with pytest.raises(AllocationLost, match="its node was lost"):
        await holding


async def test_given_back_is_given_back_with_all_that_follows_on(told: Told) -> None:
    told.looks[1] = look(services=[service(port=5000)], more="next 2")
    told.looks[1] = look(services=[service(port=5000)], more="next 2\nreleased")
    assert await told.hold() == "Job 77 was given back."


async def test_given_back_since_the_first_one_ended_it_was_given_back(told: Told) -> None:
    told.looks[1] = look(services=[service(port=5000)], more="next 2")
    told.second(services=[service(port=5000)])
    holding = asyncio.create_task(told.hold())
    await told.awaited(lambda held: held.services)
    told.looks[1] = look(word="TIMEOUT", ended="the time limit is near", more="next 2")
    await told.awaited(lambda held: held.ended)
    told.second(services=[service(port=5000)], more="released")
    assert await holding == "Job 78 was given back."


@pytest.mark.parametrize(
    ("job", "ended"), [("", "refused"), ("", "not taken"), ("78", "released")], ids=["refused", "not taken", "alone"]
)
async def test_what_follows_on_and_alone_has_a_release_does_not_end_the_session(
    told: Told, job: str, ended: str
) -> None:
    """What the scheduler does not take is marked so; the teardown then gave the running session back."""
    told.looks[1] = look(services=[service(port=5000)], more="next 2")
    told.second("COMPLETED" if job else "", ended=ended, nodes=(), heartbeat="", more="released")
    told.looks[2] = told.looks[2].replace("job 78 ", "job " + job)
    holding = asyncio.create_task(told.hold(seconds=3))
    await asyncio.sleep(0.5)
    told.looks[1] = look(services=[service(port=5000)], more="next 3")
    told.second(services=[service(port=5000)])
    told.looks[3] = told.looks[2].replace(f"{NAME} 2", f"{NAME} 3").replace(f"{NAME}-2", f"{NAME}-3")
    held = await told.awaited(lambda held: held.services)
    assert [one.incarnation for one in held.following] == [3], "the next try's is held"
    holding.cancel()


async def test_another_try_that_comes_after_the_first_one_has_ended_holds_what_follows_on(told: Told) -> None:
    """A triggerer that was started anew knows only the first one."""
    crashed = service(port=5000, exited="1 the service ended")
    told.looks[1] = look(word="TIMEOUT", services=[crashed], ended="the time limit is near", more="next 2")
    told.second(services=[service(port=5000)])
    holding = asyncio.create_task(told.hold(seconds=-60))
    held = await told.awaited(lambda held: held.services)
    assert held.ended == ("77",) and not holding.done()
    told.second(left="0:30", services=[service(port=5000)], heartbeat="3")
    assert (await holding).startswith("The time is over")


async def test_another_try_waits_for_a_cluster_that_is_away_before_it_says_that_the_time_is_over(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    clock = loop.time
    told.away = True
    holding = asyncio.create_task(told.hold(seconds=-60, within=None))
    await asyncio.sleep(0.1)
    monkeypatch.setattr(loop, "time", lambda: clock() + 65)
    await asyncio.sleep(0.1)
    assert not holding.done()
    told.away, told.looks[1] = False, extended(3600)
    held = await told.awaited(lambda held: held.until)
    assert held.until is not None and held.until > datetime.now(UTC)
    holding.cancel()


async def test_a_job_that_follows_on_is_named_once_it_has_its_id(told: Told) -> None:
    """It is known before it is submitted."""
    told.looks[1] = look(services=[service(port=5000)], more="next 2")
    told.second("", nodes=(), heartbeat="")
    waiting = told.looks[2].replace("job 78 ", "job ")
    told.looks[2] = waiting.replace("2026-11-22T10:00:00", "", 1)
    holding = asyncio.create_task(told.hold())
    await told.awaited(lambda held: held.following)
    told.second(services=[service(port=5000)])
    await told.awaited(lambda held: held.services)
    told.second("FAILED", ended="its node was lost", nodes=())
    assert (await told.awaited(lambda held: held.ended)).ended == ("78",)
    holding.cancel()


async def test_what_follows_on_and_is_not_held_any_more_goes_back(told: Told) -> None:
    told.looks[1] = look(services=[service(port=5000)], more="next 2")
    told.second(services=[service(port=5000), service("brayns2", exited="1 the service ended")], more="owner me")
    holding = asyncio.create_task(told.hold())
    await told.awaited(lambda held: held.ended)
    async with asyncio.timeout(10):
        while not told.reaped:
            await asyncio.sleep(0.01)
    assert told.reaped == [f"reap {NAME} 2 me 8"] and not holding.done()
    holding.cancel()


async def test_given_back_and_ended_between_two_looks_it_was_given_back_all_the_same(told: Told) -> None:
    """It was told of as lost: the look that shows the release shows the end, too."""
    told.looks[1] = look(services=[service(port=5000)], more="next 2")
    told.second(services=[service(port=5000)])
    holding = asyncio.create_task(told.hold())
    await told.awaited(lambda held: held.services)
    told.looks[1] = look(word="COMPLETED", ended="released", more="next 2")  # nothing of its folder is seen in time
    told.second("COMPLETED", ended="released", more="released")
    assert await holding == "Job 78 was given back."
