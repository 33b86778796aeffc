"""States of tasks and runs, as a running task or a trigger can ask Airflow for them."""

from __future__ import annotations

from typing import Any

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance


def states_of(ti: Any) -> set[str]:
    """The state that Airflow has of a task instance, as a set of one; empty where the instance was deleted."""
    found = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, map_index=ti.map_index, task_ids=[ti.task_id], run_ids=[ti.run_id]
    )
    return {str(getattr(state, "value", state)) for run in found.values() for state in run.values()}


def states_by_key(ti: Any, task_id: str) -> dict[str, str]:
    """The states of all instances of a task in the run of `ti`, by `<task_id>`, or `<task_id>_<map index>` (3.3.2); a
    state that is none yet is 'None'. Empty where Airflow does not say.
    """
    try:
        found = RuntimeTaskInstance.get_task_states(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id])
    except Exception:  # what has a name is released also where Airflow cannot be asked
        return {}
    return {key: str(getattr(state, "value", state)) for run in found.values() for key, state in run.items()}


# States of a task instance whose next try is on its way, while this process is an earlier try. A cleared instance has
# no state, `None`.
_COMING = {"up_for_retry", "restarting", "scheduled", "queued", "None"}


def next_try_comes(states: set[str]) -> bool:
    """Tell by the states of `states_of` whether Airflow starts the task once more."""
    return bool(states & _COMING)


def run_state(dag_id: str, run_id: str) -> str | None:
    """The state of a DAG run; None where there is no such run any more."""
    if RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=[run_id]) == 0:
        return None
    found = RuntimeTaskInstance.get_dagrun_state(dag_id=dag_id, run_id=run_id)
    return str(getattr(found, "value", found))  # an enumeration whose text is `DagRunState.FAILED` (3.3.2)
