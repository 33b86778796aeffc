"""The one stream of usable services: what happens to each, in order, and that nothing of it outlives its block."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

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

    async def probe(self, near: Endpoint, _: Any = (), *, told: str) -> Usable:
        assert near.port in self.open
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise type(answer)(str(answer).format(told=told))
        return answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    monkeypatch.setattr(stream, "near_endpoint", found.way)
    monkeypatch.setattr(stream, "probe", found.probe)
    monkeypatch.setattr(probes, "PAUSE", 0.01)
    monkeypatch.setattr("airflow_brayns.cluster.poller._PAUSE", 0.01)
    return found


def events(looks: Callable[[int], str] | str, **settings: Any) -> contextlib.AbstractAsyncContextManager[ServiceStream]:
    """The stream of one allocation.

    :param looks: what the look of that number (from 0) finds, or what each does.
    """
    number = itertools.count()

    async def answer(script: str) -> str:
        await asyncio.sleep(0.01)
        if "\npost_mortem ab-" in script:
            return ""
        return looks if isinstance(looks, str) else looks(next(number))

    read = ClusterSettings.read({"scheduler": "slurm", **settings})
    session = Session(Poller(SlurmCluster(FakeShell(answer)), 1), read, logging.getLogger("stream"))
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
