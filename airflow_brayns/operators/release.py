"""The tasks and instances that a release is for, as the DAG and Airflow tell them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk.definitions.mappedoperator import MappedOperator

from airflow_brayns.errors import InvalidSetting


def check_allocating(dag: Any, task_id: str, release: str) -> Any:
    """Find the task of a DAG that `allocated_by` names.

    :param release: the id of the task that releases.
    :raises InvalidSetting: there is no such task, or it is one of ours that allocates nothing.
    """
    task = dag.task_dict.get(task_id)
    if task is None:
        near = difflib.get_close_matches(task_id, dag.task_dict, 1) or sorted(set(dag.task_dict) - {release})[:8]
        raise InvalidSetting(
            "allocated_by",
            f"the DAG {dag.dag_id} has no task {task_id!r}, so {release} would release nothing.",
            remedy=f"name the task that allocates: {' or '.join(map(repr, near)) or 'one of this DAG'}.",
        )
    kind = task.operator_class if isinstance(task, MappedOperator) else type(task)
    if getattr(kind, "allocates", True) is False:
        raise InvalidSetting(
            "allocated_by",
            f"{task_id!r} is a {kind.__name__}, which allocates nothing, so {release} would release nothing.",
            remedy="name the task that allocates.",
        )
    return task


def is_mapped(task: Any) -> bool:
    """Tell whether a task has an instance for each map index."""
    return isinstance(task, MappedOperator) or task.get_closest_mapped_task_group() is not None


def instances(states: Mapping[str, str], task_id: str) -> dict[int, str]:
    """The states of a task's instances by map index, from what `airflow_state.states_by_key` tells; the index is -1 for
    a task that was never expanded.
    """
    found = {}
    for key, state in states.items():
        index = key.removeprefix(task_id)
        if re.fullmatch(r"_[0-9]{1,9}", index):
            found[int(index[1:])] = state
        elif not index:
            found[-1] = state
    return found


def is_list(value: Any) -> bool:
    """Tell whether a value is what a mapped task returned, an allocation for each index."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
