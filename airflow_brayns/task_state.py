"""What Airflow says of tasks and runs, as a running task or a trigger can ask for it."""

from __future__ import annotations

import select
import socket
from typing import Any

from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance


def states_of(ti: Any) -> set[str]:
    """The states that Airflow has of a task instance: one, or none where it was deleted."""
    found = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, map_index=ti.map_index, task_ids=[ti.task_id], run_ids=[ti.run_id]
    )
    return {str(getattr(state, "value", state)) for run in found.values() for state in run.values()}


def states_by_key(ti: Any, task_id: str) -> dict[str, str]:
    """The states of all instances of a task in the run of `ti`, by `<task_id>`, or `<task_id>_<map index>` (3.3.2); a state that
    is none yet is 'None'. Empty where Airflow does not say.
    """
    try:
        found = RuntimeTaskInstance.get_task_states(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id])
    except Exception:  # not being able to ask is no reason not to release what has a name
        return {}
    return {key: str(getattr(state, "value", state)) for run in found.values() for key, state in run.items()}


# Of a task instance that is not this process's try any more, and for which a next one is on its way. A cleared one has none.
_COMING = {"up_for_retry", "restarting", "scheduled", "queued", "None"}


def next_try_comes(states: set[str]) -> bool:
    """Whether the states that `states_of` tells say that Airflow starts the task once more."""
    return bool(states & _COMING)


def run_state(dag_id: str, run_id: str) -> str | None:
    """The state of a DAG run; None where there is no such run any more."""
    if RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=[run_id]) == 0:
        return None
    found = RuntimeTaskInstance.get_dagrun_state(dag_id=dag_id, run_id=run_id)
    return str(getattr(found, "value", found))  # an enumeration whose text is `DagRunState.FAILED` (3.3.2)


def supervisor_has_gone() -> bool:
    """Whether the process that looks after this task has died: its end of the socket between them is closed. Without such a
    socket (`airflow dags test`) nobody can have gone.
    """
    one = getattr(getattr(task_runner, "SUPERVISOR_COMMS", None), "socket", None)
    if not isinstance(one, socket.socket):
        return False
    try:
        # Another thread may have read the answer between the two: then there is nothing to wait for here.
        return bool(select.select([one], [], [], 0)[0]) and not one.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except (OSError, ValueError):  # reset, or closed
        return True
