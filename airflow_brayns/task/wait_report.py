"""How a wait stands, stored in the task's XCom for the page: once per change, and never in the wait's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import SetXCom

from airflow_brayns.cluster.allocation import AllocationStatus, JobState
from airflow_brayns.errors import reason_of
from airflow_brayns.hooks.supervisor import tell
from airflow_brayns.links import keys

Store = Callable[[dict[str, Any]], None]
_at_work: set[asyncio.Future[None]] = set()  # keeps tasks alive, to which the loop itself has weak references only


class WaitReport:
    """A memory of what was stored of a wait's jobs, for `Waiting`.

    :param store: stores a dict, at once or later; it raises no error.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jobs: dict[str, dict[str, Any]] = {}

    def __call__(self, status: AllocationStatus) -> None:
        """Take a look at one allocation."""
        told = facts_of(status)
        if self._jobs.get(status.job_id) != told:
            self._jobs[status.job_id] = told
            self._store(dict(self._jobs))


def facts_of(status: AllocationStatus) -> dict[str, Any]:
    """What a look tells a person: the job's state and, while it pends, Slurm's reason and when Slurm expects it to
    start, by the cluster's clock; else its nodes, and how many of its services listen.
    """
    told: dict[str, Any] = {"state": status.state.value}
    if status.state is JobState.PENDING and status.job is not None:
        start = status.job.start
        return {
            **told,
            "reason": status.job.reason,
            **({"start": start} if start not in ("", "N/A", "Unknown") else {}),
        }
    listening = sum(service.port is not None for service in status.services)
    return {**told, "nodes": list(status.nodes), "services": len(status.services), "listening": listening}


def in_task(ti: Any, log: Any, key: str = keys.WAIT) -> Store:
    """A store for a task that waits in its worker.

    :param key: of XCom.
    """

    def store(value: dict[str, Any]) -> None:
        def push() -> None:
            try:
                ti.xcom_push(key=key, value=value)
            except Exception as error:  # a wait goes on where a page shows less
                log.debug("How the wait stands could not be stored: %s", reason_of(error))

        tell(push)

    return store


class InTrigger:
    """A store for a trigger. The latest value wins: a slow API server is told the last one.

    :param ti: the trigger's task instance; None where it has none, and nothing is stored.
    :param key: of XCom.
    """

    def __init__(self, ti: Any, log: Any, key: str = keys.WAIT) -> None:
        self._ti, self._log, self._key = ti, log, key
        self._value: dict[str, Any] | None = None
        self._working = False

    def __call__(self, value: dict[str, Any]) -> None:
        """See `WaitReport`."""
        self._value = value
        if self._ti is not None and not self._working:
            self._working = True
            work = asyncio.ensure_future(self._work())
            _at_work.add(work)
            work.add_done_callback(_at_work.discard)

    async def _work(self) -> None:
        """Store until nothing is left. The triggerer's questions have ids of their own, so this may be cancelled."""
        ti = self._ti
        place = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
        try:
            while self._value is not None:
                value, self._value = self._value, None
                await task_runner.SUPERVISOR_COMMS.asend(SetXCom(key=self._key, value=value, **place))
        except Exception as error:
            self._log.debug("How the wait stands could not be stored: %s", reason_of(error))
        finally:
            self._working = False
