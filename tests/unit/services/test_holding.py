"""What ends a session that is held; whole sessions are held in `sensors/test_session.py`."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import pytest

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job, ServiceStatus
from airflow_brayns.errors import ServiceFailed
from airflow_brayns.services.holding import _Hold
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings

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
