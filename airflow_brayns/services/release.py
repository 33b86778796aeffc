"""Releases of bookings, and what it means that nothing is found of one: a green task must mean that nothing runs on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_brayns.cluster.answers import Released
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.owner import Owner, deployment_in
from airflow_brayns.errors import AskedForElsewhere, BraynsError, ConnectionLost, InvalidSetting, reason_of

_TOLD_TO_STOP_SECONDS = 4.0  # a task that is told to stop has 5 s
_FAILED_SECONDS = (
    90.0  # a task that failed has time: a slow login node, or a connection that must be made anew, is waited for
)
_AT_ONCE = 4  # releases at the same time, each on a channel of the login connection
# Airflow's states of a task that has submitted nothing and will not; `None` is that of one that was never scheduled.
_NEVER_RAN = frozenset({"None", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True)
class Wanted:
    """A booking that is to be given back.

    :param name: the text that the names of its allocations begin with.
    :param told: the XCom of the task that booked it, with its `cluster`; empty where that task handed on nothing.
    :param state: Airflow's state of that task's instance; empty where Airflow was not asked.
    :param task: words for that task's instance in messages; empty where the allocation itself was given.
    """

    name: str
    told: Mapping[str, Any]
    state: str = ""
    task: str = ""


async def release_each(cluster: Cluster, wanted: Iterable[Wanted]) -> list[tuple[Wanted, int]]:
    """Release bookings, all of them whatever fails among them, and return each with how many incarnations it has.

    :raises BraynsError: the error of the first release that failed.
    """
    limit = asyncio.Semaphore(_AT_ONCE)

    async def release(one: Wanted) -> tuple[Wanted, int]:
        async with limit:
            return one, await cluster.release(one.name) or await _without_folder(cluster, one.name)

    found = []
    for outcome in await asyncio.gather(*map(release, wanted), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        found.append(outcome)
    return found


async def _without_folder(cluster: Cluster, name: str) -> int:
    """End the jobs of a name whose folder somebody took away, and count them: their keepers cannot be told, so they are
    ended by their job's name.

    :raises AskedForElsewhere: one is another Airflow's with the same mark, which has its folder in another place.
    """
    _, jobs = await cluster.survey()
    number = 0
    for job in jobs:
        if re.fullmatch(rf"{re.escape(name)}[0-9a-f]*-[0-9]+", job.name):
            place = deployment_in(job.comment)
            if place and cluster.deployment and place != cluster.deployment:
                raise AskedForElsewhere(name, place)
            number += await cluster.end_job(job)
    return number


async def give_back(cluster: Cluster, owner: Owner, log: Any, *, told_to_stop: bool) -> None:
    """Give back what one try of a task owns. It raises no error, since another one is on its way.

    :param told_to_stop: whether the task is ended within seconds.
    """
    try:
        async with asyncio.timeout(_TOLD_TO_STOP_SECONDS if told_to_stop else _FAILED_SECONDS):
            if number := await cluster.cancel(owner.name, owner.token):
                log.info("%s: %d job(s) given back.", owner.name, number)
    except ConnectionLost as error:
        if error.sent:
            not_given_back(error, log)
        else:  # nobody was asked now, and as a rule nobody was before: the error that is on its way says why
            log.info("Whether there is something to give back cannot be asked; what there is ends by itself.")
    except (BraynsError, TimeoutError) as error:
        not_given_back(error, log)


def not_given_back(error: BaseException, log: Any) -> None:
    """Warn that nodes could not be given back, and that they end by themselves."""
    log.warning(
        "The nodes could not be given back now; the keeper ends them when they stay unused: %s", reason_of(error)
    )


def verdict(one: Wanted, found: int) -> str | InvalidSetting:
    """Judge a release: a sentence for the log, or an error where something of the booking may run on.

    :param one: the booking that was to be given back.
    :param found: how many incarnations of it there were.
    """
    if found:
        cleaned = isinstance(found, Released) and found.completing
        told = (
            " Slurm still cleans its nodes (COMPLETING: the site's epilog); nothing is left to do." if cleaned else ""
        )
        return f"{one.name} has been given back.{told}"
    if one.told:
        return f"{one.name} is gone already: the cluster keeps no record of it any more, and no job has its name."
    if not one.task:
        return InvalidSetting(
            "allocation",
            f"the cluster has no allocation {one.name}, so nothing was released.",
            remedy="look what there is: `airflow brayns services`.",
        )
    if one.state in _NEVER_RAN:
        return f"{one.task} did not run ({one.state}): it allocated nothing, and there is nothing to give back."
    if one.state == "failed":
        return f"{one.task} failed before it submitted anything: there is nothing to give back."
    if one.state == "success":
        remedy = "give this task the cluster_conn_id and state_dir that it allocated with."
        why = (
            f"has succeeded, but the cluster has no record of what it allocated ({one.name}), so nothing was released."
        )
    else:
        state = one.state or "in a state that Airflow does not tell"
        remedy = "put the release behind it."
        why = f"is {state} and has submitted nothing yet, so nothing was released."
    return InvalidSetting("allocated_by", f"{one.task} {why}", remedy=remedy, retry=True)
