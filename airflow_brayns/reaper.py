"""Allocations that nobody will give back any more: whose DAG run is over or gone, whose keeper or folder is lost.

Only what this Airflow asked for: its mark (`installation_id`) is in the folder and in the job's comment. What another user,
another Airflow or somebody by hand has submitted is never touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_brayns.cluster.allocation import AllocationStatus, Job, JobState
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.submission import mark

OVER = ("success", "failed")
SILENT_SECONDS = 600.0  # a keeper shows itself every two seconds; network file systems and clocks may be minutes off


@dataclass(frozen=True)
class RunOf:
    """What an allocation was asked for."""

    dag_id: str
    run_id: str
    task_id: str

    def __str__(self) -> str:
        return f"{self.dag_id} {self.run_id} {self.task_id}"


# The state of a DAG run; None where there is no such run any more.
StateOf = Callable[[RunOf], str | None]


@dataclass(frozen=True)
class Leftover:
    """Something that should be given back.

    :param why: for whoever decides.
    :param status: of an allocation; None for a job without a folder.
    """

    why: str
    run: RunOf | None
    status: AllocationStatus | None = None
    job: Job | None = None

    @property
    def name(self) -> str:
        """The allocation's name, or the job's."""
        return self.status.name if self.status else self.job.name if self.job else ""

    @property
    def job_id(self) -> str:
        """Slurm's."""
        return self.status.job_id if self.status else self.job.job_id if self.job else ""


def run_of(status: AllocationStatus, installation: str) -> RunOf | None:
    """What an allocation of this Airflow was asked for; None for one that is not this Airflow's, or does not tell."""
    try:
        about: Any = json.loads(status.about)
        ours = about["installation"] == installation
        return RunOf(str(about["dag_id"]), str(about["run_id"]), str(about["task_id"])) if ours else None
    except (ValueError, KeyError, TypeError):
        return None


def leftovers(
    found: list[AllocationStatus],
    jobs: list[Job],
    installation: str,
    state_of: StateOf,
    silent_seconds: float = SILENT_SECONDS,
) -> list[Leftover]:
    """What should be given back.

    :param found: every allocation that has a folder.
    :param jobs: every job of the scheduler's that bears a name of ours.
    :param state_of: asked for each run once.
    :param silent_seconds: a keeper that has not shown itself for so long, while its job runs, is lost.
    """
    result, states = [], dict[RunOf, str | None]()
    for status in found:
        run = run_of(status, installation)
        if run is None or status.state is JobState.ENDING or not status.answered:
            continue
        if run not in states:
            states[run] = state_of(run)
        why = _why(status, states[run], silent_seconds)
        if why:
            result.append(Leftover(why, run, status))
    described = {f"{status.name}-{status.incarnation}" for status in found}
    for job in jobs:
        ours = job.comment.startswith(f"airflow-brayns:{mark(installation)}:")
        if ours and job.name not in described and job.state in (JobState.PENDING, JobState.RUNNING):
            result.append(Leftover("its folder has gone, or says that it has ended", None, job=job))
    return result


def _why(status: AllocationStatus, state: str | None, silent_seconds: float) -> str:
    if status.state is JobState.ENDED:  # killed so hard that its keeper could not say so: what it left is put away
        return (
            "" if state is not None and state not in OVER else "its job is over; what is left of its folder is closed"
        )
    if state is None:
        return "its DAG run was deleted"
    if state in OVER:
        return f"its DAG run has ended ({state})"
    running = status.job is not None and status.job.word == "RUNNING"
    if running and status.silent is not None and status.silent > silent_seconds:
        return f"it is orphaned: its keeper has shown no sign for {status.silent:.0f} s"
    return ""


async def find_leftovers(
    cluster: Cluster, installation: str, state_of: StateOf, silent_seconds: float = SILENT_SECONDS
) -> list[Leftover]:
    """What should be given back on a cluster.

    :raises ConnectionLost: the cluster, or its scheduler, does not answer.
    """
    found, jobs = await cluster.survey()
    return leftovers(found, jobs, installation, state_of, silent_seconds)


async def give_back(cluster: Cluster, leftover: Leftover) -> bool:
    """Give one back; whether it was: what somebody has taken over since it was found stays.

    :raises BraynsError: it could not be done.
    """
    if leftover.status is not None:
        return await cluster.reap(leftover.status)
    return leftover.job is None or await cluster.end_job(leftover.job)
