"""The one stream of usable services: what happens to each, in order, and that nothing of it outlives its block."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from airflow_brayns.brayns import readiness
from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import NotYet, Usable
from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import AllocationLost, ConnectionLost, NotReadyInTime, ServiceFailed
from airflow_brayns.services import probes, stream, watch
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from airflow_brayns.services.stream import Event, Failed, Looked, Lost, Proved, ServiceStream, usable
from tests.support.shell import FakeShell, look, service

NAME = "ab-0123456789ab000"
ALLOCATION = Allocation(NAME, 1, "77", folder=f"/s/{NAME}/1")


class Asked:
    """Takes the place of the probe and of the way to it: answers as a test says, and keeps what is open."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.answers: list[Usable | BaseException] = []
        self._ports = itertools.count(40000)

    @contextlib.asynccontextmanager
    async def way(self, _: Any, __: str, endpoint: Endpoint) -> AsyncIterator[Endpoint]:
        port = next(self._ports)
        self.open.add(port)
        try:
            yield endpoint.at(port)
        finally:
            await asyncio.sleep(0)  # a way takes its time to close
            self.open.discard(port)

    async def probe(self, near: Endpoint, _: Any = (), *, told: str, seconds: float | None) -> Usable:
        assert near.port in self.open
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NotYet):
            raise NotYet(str(answer).format(told=told))
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    monkeypatch.setattr(stream, "near_endpoint", found.way)
    monkeypatch.setattr(stream, "probe", found.probe)
    monkeypatch.setattr(probes, "PAUSE", 0.01)
    monkeypatch.setattr("airflow_brayns.cluster.poller._PAUSE", 0.01)
    return found


def events(
    looks: Callable[[int], str] | str, shell: FakeShell | None = None, **settings: Any
) -> contextlib.AbstractAsyncContextManager[ServiceStream]:
    """The stream of one allocation.

    :param looks: what the look of that number (from 0) finds, or what each does.
    :param shell: one that keeps what it is asked; its answers are these.
    """
    number = itertools.count()

    async def answer(script: str) -> str:
        await asyncio.sleep(0.01)
        if "\npost_mortem ab-" in script or "\nuseless ab-" in script:
            return ""
        return looks if isinstance(looks, str) else looks(next(number))

    read = ClusterSettings.read({"scheduler": "slurm", **settings})
    shell = shell or FakeShell()
    shell.answers = answer
    session = Session(Poller(SlurmCluster(shell), 1), read, logging.getLogger("stream"))
    return usable(session, Booking("ab-0123456789ab", (ALLOCATION,)))


async def first(kind: type[Event], found: ServiceStream) -> Any:
    async with asyncio.timeout(10):
        while not isinstance(event := await anext(found), kind):
            pass
        return event


async def test_a_service_that_answers_is_proved_with_all_that_is_known_of_it(asked: Asked) -> None:
    asked.answers = [NotYet("TCP: {told} does not answer"), Usable("3.10.1", ("X",))]
    async with events(look(services=[service(port=5000)])) as found:
        async with asyncio.timeout(10):
            assert isinstance(await anext(found), Looked)
        proved = (await first(Proved, found)).service
    assert (proved.name, proved.node, proved.job_id) == ("brayns1", "r1i1n0", "77")
    assert (str(proved.endpoint), proved.log) == ("r1i1n0:5000", f"/s/{NAME}/1/services/brayns1/log")
    assert asked.open == set()


async def test_why_a_service_is_not_usable_is_told_once_and_names_its_node(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    """Through a tunnel each look has a local port of its own: hundreds of lines, none of which named the node's port."""
    caplog.set_level(logging.INFO)
    asked.answers = [NotYet("braynsService at {told} cannot be reached")]
    async with events(look(services=[service(port=5000)]), start_timeout=0.3) as found:
        failed = await first(Failed, found)
    assert isinstance(failed.error, NotReadyInTime)
    assert failed.error.field == "start_timeout"
    assert caplog.text.count("is not usable yet: braynsService at r1i1n0:5000 cannot be reached") == 1


async def test_a_way_that_is_refused_for_good_is_not_tried_again(asked: Asked) -> None:
    refused = ConnectionLost("the host key is another")
    refused.retry = False

    @contextlib.asynccontextmanager
    async def no_way(*_: Any) -> AsyncIterator[Endpoint]:
        raise refused
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "near_endpoint", no_way)
        async with events(look(services=[service(port=5000)])) as found:
            assert (await first(Failed, found)).error is refused


def noting(shell: FakeShell) -> list[str]:
    """The calls by which failures were noted."""
    return [line for script in shell.scripts for line in script.splitlines() if line.startswith(f"useless {NAME} ")]


@pytest.mark.parametrize(
    ("found", "answer", "noted"),
    [
        ([service(port=5000)], NotYet("TCP: {told} does not answer"), ["ready 'it listened, and was not usable within 0 s: TCP: r1i1n0:5000 does not answer'"]),
        ([service()], None, ["start 'it did not listen within 0 s'"]),
        ([service(port=5000)], ServiceFailed("it runs without x\nlast lines", field="plugins", retry=False), ["start 'it runs without x last lines'"]),
        ([service(port=5000)], ServiceFailed("another certificate", field="tls"), []),
        ([service(port=5000, exited="1 it ended")], None, []),
        ([service(exited="0 stopped")], None, []),
    ],
    ids=["not usable", "silent", "without a plugin", "another certificate", "its keeper notes that it ended", "stopped"],
)  # fmt: skip
async def test_a_failure_that_may_be_the_nodes_is_noted_before_it_is_told(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, found: list[str], answer: BaseException | None, noted: list[str]
) -> None:
    """Whoever is told ends the wait, and with it whatever is still to be noted."""
    monkeypatch.setattr(watch, "_STOPPED_LIMIT", 0.2)
    asked.answers = [answer] if answer else []
    shell = FakeShell()
    async with events(look(services=found), shell=shell, start_timeout=0.3) as stream_:
        failed = await first(Failed, stream_)
        told = noting(shell)
    assert told == [f"useless {NAME} 1 {failed.service.name} {one}" for one in noted]


async def test_one_whose_last_probe_has_no_end_is_told_with_the_reason_of_the_one_before(asked: Asked) -> None:
    asked.answers = [NotYet("TCP: {told} does not answer")]
    shell = FakeShell()

    def seen(number: int) -> str:
        if number:
            asked.answers.clear()  # whoever asks now waits
        return look(services=[service(port=5000)])

    async with events(seen, shell=shell, start_timeout=1) as found:
        failed = await first(Failed, found)
    assert "1 s after the job started (TCP: r1i1n0:5000 does not answer)" in str(failed.error)
    assert noting(shell)[0].endswith("not usable within 1 s: TCP: r1i1n0:5000 does not answer'")


async def test_what_fails_at_the_same_time_is_noted_at_once(asked: Asked) -> None:
    services = [service(f"brayns{number}", f"n{number}") for number in range(1, 6)]
    shell = FakeShell()
    async with events(look(services=services), shell=shell, start_timeout=0.3) as found:
        for _ in services:
            await first(Failed, found)
    assert len(noting(shell)) == 5
    assert sum("\nuseless ab-" in script for script in shell.scripts) == 1


@pytest.mark.parametrize("trouble", ["hangs", "breaks", "no descriptor is left"])
async def test_a_note_that_cannot_be_made_keeps_no_failure_back(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(stream, "_NOTE_SECONDS", 0.1)
    shell = FakeShell()

    async def note(*_: Any) -> None:
        if trouble == "breaks":
            raise ConnectionLost("the link broke")
        if trouble == "no descriptor is left":
            raise OSError(errno.EMFILE, "Too many open files")
        await asyncio.Event().wait()

    monkeypatch.setattr(SlurmCluster, "note", note)
    asked.answers = [NotYet("TCP: {told} does not answer")]
    async with events(look(services=[service(port=5000)]), shell=shell, start_timeout=0.3) as found:
        assert isinstance((await first(Failed, found)).error, NotReadyInTime)


class Crowded:
    """Takes the place of the wait for a place: a service's turn does not come, until it is late."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.turns = 0
        self.most = 1  # of how many turns none comes
        probe_until = stream.probe_until

        async def crowded(*arguments: Any, **named: Any) -> Any:
            self.turns += 1
            if self.turns <= self.most:
                await asyncio.Event().wait()
            return await probe_until(*arguments, **named)

        monkeypatch.setattr(stream, "probe_until", crowded)


async def test_one_whose_turn_has_not_come_is_asked_before_it_is_called_late(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A good service behind hundreds that did not answer failed with NotReadyInTime, and its node was noted."""
    crowd = Crowded(monkeypatch)
    asked.answers = [Usable("3.10.1", ())]
    shell = FakeShell()
    async with events(look(services=[service(port=5000)]), shell=shell, start_timeout=0.3) as found:
        assert isinstance(await first(Proved | Failed, found), Proved)
    assert (crowd.turns, noting(shell)) == (2, [])


async def test_one_that_is_late_and_still_not_usable_is_told_with_why(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    Crowded(monkeypatch)
    monkeypatch.setattr(stream, "_MORE_SECONDS", 0.1)
    asked.answers = [NotYet("TCP: {told} does not answer")]
    shell = FakeShell()
    async with events(look(services=[service(port=5000)]), shell=shell, start_timeout=0.3) as found:
        failed = await first(Failed, found)
    assert "not usable within 0 s: TCP: r1i1n0:5000 does not answer" in str(failed.error)
    assert noting(shell)[0].endswith("TCP: r1i1n0:5000 does not answer'")


async def test_one_whose_turn_never_came_fails_in_bounded_time_and_its_node_is_not_blamed(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd, shell = Crowded(monkeypatch), FakeShell()
    crowd.most = 2
    monkeypatch.setattr(stream, "_ONCE_MORE_SECONDS", 0.2)
    async with events(look(services=[service(port=5000)]), shell=shell, start_timeout=0.3) as found:
        assert isinstance((await first(Failed, found)).error, NotReadyInTime)
    assert (crowd.turns, noting(shell), asked.open) == (2, [], set())


async def test_a_way_that_hangs_is_left_in_time_and_tried_again_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login on a dead node took its twenty seconds of a place."""
    given: list[float] = []

    @contextlib.asynccontextmanager
    async def no_way(*_: Any) -> AsyncIterator[Endpoint]:
        began = asyncio.get_running_loop().time()
        try:
            await asyncio.Event().wait()
            yield Endpoint("n1", 1)
        finally:
            given.append(asyncio.get_running_loop().time() - began)

    monkeypatch.setattr(stream, "near_endpoint", no_way)
    monkeypatch.setattr(probes, "FIRST_SECONDS", 0.1)
    monkeypatch.setattr(readiness, "RUNG_SECONDS", 0.3)
    async with events(look(services=[service(port=5000)]), start_timeout=1.2) as found:
        failed = await first(Failed, found)
    assert "the way to r1i1n0:5000 (route 'direct') was not open in time" in str(failed.error)
    assert given[0] == pytest.approx(0.2, abs=0.1)
    assert given[1] == pytest.approx(0.6, abs=0.2)


async def test_nothing_that_was_asked_outlives_the_block(asked: Asked) -> None:
    """Cancelled and not awaited, a probe left its tunnel behind."""
    async with events(look(services=[service(port=5000), service("brayns2", port=5001)])) as found:
        await first(Looked, found)
        while len(asked.open) < 2:
            await asyncio.sleep(0.01)
    assert asked.open == set()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_error_of_a_block_comes_out_as_itself(asked: Asked) -> None:
    async def block() -> None:
        async with events(look(services=[service(port=5000)])) as found:
            await first(Looked, found)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_service_that_ends_while_it_is_asked_has_failed_and_is_asked_no_more(asked: Asked) -> None:
    looks = [look(services=[service(port=5000)]), look(services=[service(port=5000, exited="1 it ended")])]
    async with events(lambda number: looks[min(number, 1)]) as found:
        failed = await first(Failed, found)
        assert (failed.service.name, failed.error.exit_code) == ("brayns1", 1)
        async with asyncio.timeout(10):
            while asked.open:
                await asyncio.sleep(0.01)
            assert isinstance(await anext(found), Looked), "nothing further is told of it"


async def test_one_that_was_usable_and_has_ended_is_told_of_too(asked: Asked) -> None:
    """What was ready first must still be there when the last one is."""
    asked.answers = [Usable("3.10.1", ())]
    ended = False

    def seen(_: int) -> str:
        return look(services=[service(port=5000, exited="139 it ended" if ended else "")])

    async with events(seen) as found:
        await first(Proved, found)
        ended = True
        assert isinstance((await first(Failed, found)).error, ServiceFailed)


async def test_a_service_that_was_stopped_alone_fails_while_its_job_goes_on(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`scancel JOB.STEP`: the wait went on until start_timeout. Its port may be another's by now, so nobody is asked there."""
    monkeypatch.setattr(watch, "_STOPPED_LIMIT", 0.2)
    asked.answers = [Usable("3.10.1", ())]
    async with events(look(services=[service(port=5000, exited="0 stopped")])) as found:
        failed = await first(Failed | Proved, found)
    assert "brayns1 on r1i1n0 was stopped before it was usable, while job 77 goes on" in str(failed.error)


async def test_what_a_job_stops_as_it_ends_has_the_jobs_reason(asked: Asked) -> None:
    gone = look(services=[service(exited="0 stopped")], word="TIMEOUT", ended="the time limit is near")
    async with events(gone) as found:
        lost = await first(Lost, found)
    assert isinstance(lost.error, AllocationLost)
    assert "the time limit is near" in str(lost.error)


async def test_a_service_that_comes_later_has_its_start_timeout_from_then(asked: Asked) -> None:
    """One that was started anew had what was left of the first one's."""
    began = asyncio.get_running_loop().time()

    def seen(_: int) -> str:
        later = asyncio.get_running_loop().time() - began > 0.4
        return look(services=[service(), *([service("brayns2", "r1i1n1")] if later else [])])

    async with events(seen, start_timeout=0.6) as found:
        assert (await first(Failed, found)).service.name == "brayns1"
        assert (await first(Failed, found)).service.name == "brayns2"
    assert asyncio.get_running_loop().time() - began > 1.0
