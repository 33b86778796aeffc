"""Which allocations a release is for, and what it means that nothing is found of one: green must mean that nothing runs on."""

from __future__ import annotations

import asyncio
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow.sdk.definitions.mappedoperator import MappedOperator

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.errors import InvalidSetting

_AT_ONCE = 4  # of one login connection's channels
# States in which a task has submitted nothing and will not: Airflow's words, None for one that was never scheduled.
_NEVER_RAN = frozenset({"None", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True)
class Wanted:
    """A booking that is to be given back.

    :param name: of it.
    :param told: what the task that allocated it handed on, with its `cluster`; empty where it handed on nothing.
    :param state: of that task's instance, as Airflow's word; empty where nobody was asked.
    :param task: of that task's instance, for messages; empty where the allocation itself was given.
    """

    name: str
    told: Mapping[str, Any]
    state: str = ""
    task: str = ""


def check_allocating(dag: Any, task_id: str, release: str) -> Any:
    """The task of a DAG that `allocated_by` names.

    :param release: id of the task that releases.
    :raises InvalidSetting: there is none, or it is one of ours that allocates nothing.
    """
    task = dag.task_dict.get(task_id)
    if task is None:
        near = difflib.get_close_matches(task_id, dag.task_dict, 1) or sorted(set(dag.task_dict) - {release})[:8]
        raise InvalidSetting(
            "allocated_by",
            f"the DAG {dag.dag_id} has no task {task_id!r}, so {release} would release nothing. "
            f"Did you mean {' or '.join(map(repr, near)) or 'another DAG'}?",
        )
    kind = task.operator_class if isinstance(task, MappedOperator) else type(task)
    if getattr(kind, "allocates", True) is False:
        raise InvalidSetting(
            "allocated_by",
            f"{task_id!r} is a {kind.__name__}, which allocates nothing, so {release} would release nothing.",
        )
    return task


def is_mapped(task: Any) -> bool:
    """Whether a task has an instance for each map index."""
    return isinstance(task, MappedOperator) or task.get_closest_mapped_task_group() is not None


def instances(states: Mapping[str, str], task_id: str) -> dict[int, str]:
    """State by map index, of what `task_state.states_by_key` tells of one task; -1 for one that was never expanded."""
    found = {}
    for key, state in states.items():
        index = key.removeprefix(task_id)
        if re.fullmatch(r"_[0-9]{1,9}", index):
            found[int(index[1:])] = state
        elif not index:
            found[-1] = state
    return found


async def release_each(cluster: Cluster, wanted: Iterable[Wanted]) -> list[tuple[Wanted, int]]:
    """Release all, whatever fails among them; with how many incarnations there are of each.

    :raises BraynsError: the first that failed.
    """
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(each: Wanted) -> int:
        async with limit:
            found = await cluster.release(each.name)
            return found or await _without_folder(cluster, each.name)

    each = list(wanted)
    found = await asyncio.gather(*(one(each_one) for each_one in each), return_exceptions=True)
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return list(zip(each, (int(str(result)) for result in found), strict=True))


async def _without_folder(cluster: Cluster, name: str) -> int:
    """Jobs of that name whose folder somebody took away: they know no release, so they are ended by their own name."""
    _, jobs = await cluster.survey()
    number = 0
    for job in jobs:
        if re.fullmatch(rf"{re.escape(name)}[0-9a-f]*-[0-9]+", job.name):
            number += await cluster.end_job(job)
    return number


def verdict(one: Wanted, found: int) -> tuple[bool, bool, str]:
    """What is to be said of a booking of which so many incarnations were found: whether it is right, whether a retry can help,
    and the words.
    """
    if found:
        return True, False, f"{one.name} has been given back."
    if one.told:
        return (
            True,
            False,
            f"{one.name} is gone already: the cluster keeps no record of it any more, and no job has its name.",
        )
    if not one.task:
        return False, False, (
            f"allocation: the cluster has no allocation {one.name}, so nothing was released. `airflow brayns services` lists what "
            "there is."
        )  # fmt: skip
    if one.state in _NEVER_RAN:
        return (
            True,
            False,
            f"{one.task} did not run ({one.state}): it allocated nothing, and there is nothing to give back.",
        )
    if one.state == "failed":
        return True, False, f"{one.task} failed before it submitted anything: there is nothing to give back."
    if one.state == "success":
        return False, True, (
            f"allocated_by: {one.task} has succeeded, but the cluster has no record of what it allocated ({one.name}), so nothing "
            "was released. Look whether this task's cluster_conn_id and state_dir are those that it allocated with."
        )  # fmt: skip
    return False, True, (
        f"allocated_by: {one.task} is {one.state or 'in a state that Airflow does not tell'} and has submitted nothing yet, so "
        "nothing was released. Put the release behind it."
    )  # fmt: skip


def is_list(value: Any) -> bool:
    """Whether it is what a mapped task returned: an allocation for each index."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
