"""What Airflow says of tasks and runs, as a running task or a trigger can ask for it."""

from __future__ import annotations

from typing import Any

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance


def states_of(ti: Any) -> set[str]:
    """The states that Airflow has of a task instance: one, or none where it was deleted."""
    found = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, map_index=ti.map_index, task_ids=[ti.task_id], run_ids=[ti.run_id]
    )
    return {str(state) for run in found.values() for state in run.values()}


def run_state(dag_id: str, run_id: str) -> str | None:
    """The state of a DAG run; None where there is no such run any more."""
    if RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=[run_id]) == 0:
        return None
    return str(RuntimeTaskInstance.get_dagrun_state(dag_id=dag_id, run_id=run_id))
