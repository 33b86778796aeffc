"""How a wait stands is stored once per change, and a wait goes on whatever becomes of that."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job, ServiceStatus
from airflow_brayns.hooks.supervisor import settle
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.waiting import Waiting
from airflow_brayns.task.wait_report import InTrigger, WaitReport, in_task
from tests.support.task import Ti

LOG = logging.getLogger(__name__)


def status(word: str, reason: str = "None", start: str = "N/A", **more: Any) -> AllocationStatus:
    job = Job("77", word, reason, "", "ab", "", start, None)
    return AllocationStatus("ab-0123456789ab000", 1, job=job, job_id="77", **more)


def test_a_change_is_stored_once_and_nothing_else() -> None:
    stored: list[Any] = []
    report = WaitReport(stored.append)
    looks = [status("PENDING", "Priority"), status("PENDING", "Priority"),
             status("PENDING", "Resources", "2026-11-26T12:00:00"), status("RUNNING", nodes=("n1",)),
             status("RUNNING", nodes=("n1",), services=(ServiceStatus("brayns1", "n1"),)),
             status("RUNNING", nodes=("n1",), services=(ServiceStatus("brayns1", "n1", 5000),))]  # fmt: skip
    for one in looks:
        report(one)
    assert stored == [
        {"77": {"state": "pending", "reason": "Priority"}},
        {"77": {"state": "pending", "reason": "Resources", "start": "2026-11-26T12:00:00"}},
        {"77": {"state": "running", "nodes": ["n1"], "services": 0, "listening": 0}},
        {"77": {"state": "running", "nodes": ["n1"], "services": 1, "listening": 0}},
        {"77": {"state": "running", "nodes": ["n1"], "services": 1, "listening": 1}},
    ]


def test_a_task_stores_it_in_its_xcom_and_an_airflow_that_does_not_answer_is_no_error() -> None:
    ti = Ti()
    in_task(ti, LOG)({"77": {"state": "pending"}})
    assert settle(10)
    assert ti.xcom["brayns_wait"] == {"77": {"state": "pending"}}

    def fails(key: str, value: Any) -> None:
        raise OSError("no answer")

    ti.xcom_push = fails  # type: ignore[method-assign]
    in_task(ti, LOG)({})
    assert settle(10)


class Comms:
    """The triggerer's way to Airflow, which answers when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.told: list[Any] = []
        self.answers = asyncio.Event()
        self._error = error

    async def asend(self, message: Any) -> None:
        self.told.append((message.key, message.value, message.task_id, message.map_index))
        await self.answers.wait()
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("error", [None, OSError("no answer")])
async def test_a_trigger_waits_for_no_answer_and_of_many_changes_the_last_one_is_stored(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    comms = Comms(error)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    store = InTrigger(Ti(), LOG)
    for number in range(5):
        store({"number": number})
        await asyncio.sleep(0)
    assert [value for _, value, _, _ in comms.told] == [{"number": 0}]
    comms.answers.set()
    for _ in range(20):
        await asyncio.sleep(0)
    if error is None:
        assert comms.told[1:] == [("brayns_wait", {"number": 4}, "task", -1)]
    store({"number": 5})  # also after an error
    await asyncio.sleep(0)
    assert comms.told[-1][1] == {"number": 5}


async def test_a_trigger_without_a_task_stores_nothing() -> None:
    InTrigger(None, LOG)({"number": 1})
    await asyncio.sleep(0)


async def test_each_look_of_a_wait_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a wait for nodes as of one for services."""
    from contextlib import asynccontextmanager

    from airflow_brayns.services import waiting
    from airflow_brayns.services.stream import Looked, ServiceStream

    one = Allocation("ab-0123456789ab000", 1, "77")
    looks = [status("PENDING", "Priority"), status("RUNNING", nodes=("n1",))]

    @asynccontextmanager
    async def usable(*arguments: Any, **named: Any) -> Any:
        stream = ServiceStream()
        for look in looks:
            stream.tell(Looked(one, look))
        yield stream

    monkeypatch.setattr(waiting, "usable", usable)
    seen: list[Any] = []
    wait = Waiting(None, Booking("ab-0123456789ab", (one,)), since=datetime.now(UTC), tell=seen.append)  # type: ignore[arg-type]
    assert await wait.nodes() == [looks[1]]
    assert seen == looks
