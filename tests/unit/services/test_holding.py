"""What ends a session that is held; whole sessions are held in `sensors/test_session.py`."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import pytest

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job, ServiceStatus
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.errors import ServiceFailed
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.holding import _Hold, hold
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from tests.support.clock import jumping_clock
from tests.support.shell import answering, look, service

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
