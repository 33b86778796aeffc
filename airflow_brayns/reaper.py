"""Allocations that nobody will give back any more: whose DAG run is over or gone, whose keeper or folder is lost.

Only what this Airflow asked for: its mark (`installation_id`) is in the folder and in the job's comment. What another user,
another Airflow or somebody by hand has submitted is never touched.

Two Airflows may have one mark: the clone of a database carries it along. To the clone every run that the other one began since
seems deleted. So what was asked for elsewhere (`deployment`, in the folder and the comment) is told of, and left alone.
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
    :param foreign: why it is not this Airflow's to end although the marks agree; empty where it is.
    """

    why: str
    run: RunOf | None
    status: AllocationStatus | None = None
    job: Job | None = None
    foreign: str = ""

    @property
    def name(self) -> str:
        """The allocation's name, or the job's."""
        return self.status.name if self.status else self.job.name if self.job else ""

    @property
    def job_id(self) -> str:
        """Slurm's."""
        return self.status.job_id if self.status else self.job.job_id if self.job else ""


@dataclass(frozen=True)
class Here:
    """What tells this Airflow from another one with the same mark.

    :param deployment: as `airflow_brayns.hooks.installation.deployment`.
    :param shared: whether others may have the mark by its making: then what tells no deployment (0.2.0) is not ours either.
    """

    deployment: str
    shared: bool = False

    def foreign(self, deployment: str) -> str:
        """Why something with this Airflow's mark is another one's; empty where it is not.

        :param deployment: what it tells; empty where it tells none.
        """
        if deployment == self.deployment or (not deployment and not self.shared):
            return ""
        whose = f"another Airflow, {deployment}," if deployment else "an Airflow of version 0.2.0, maybe another one,"
        return (
            f"{whose} has the same mark and asked for it: left alone. Give one of them an [brayns] installation_id of its own; "
            "`airflow brayns release NAME --any-installation` ends it"
        )


def deployment_in(comment: str) -> str:
    """Where a job was asked for, by its comment."""
    return comment.rpartition("#")[2] if "#" in comment else ""


def whose(status: AllocationStatus) -> tuple[str, str]:
    """Mark and deployment of whoever asked for an allocation; empty where it does not tell."""
    try:
        about: Any = json.loads(status.about)
        return str(about.get("installation") or ""), str(about.get("deployment") or "")
    except (ValueError, AttributeError, RecursionError):
        return "", ""


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
    here: Here | None = None,
) -> list[Leftover]:
    """What should be given back.

    :param found: every allocation that has a folder.
    :param jobs: every job of the scheduler's that bears a name of ours.
    :param state_of: asked for each run once.
    :param silent_seconds: a keeper that has not shown itself for so long, while its job runs, is lost.
    :param here: tells what bears the mark, but is another Airflow's; None where only the mark counts.
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
            result.append(Leftover(why, run, status, foreign=here.foreign(whose(status)[1]) if here else ""))
    described = {f"{status.name}-{status.incarnation}" for status in found}
    for job in jobs:
        ours = job.comment.startswith(f"airflow-brayns:{mark(installation)}:")
        if ours and job.name not in described and job.state in (JobState.PENDING, JobState.RUNNING):
            foreign = here.foreign(deployment_in(job.comment)) if here else ""
            result.append(Leftover("its folder has gone, or says that it has ended", None, job=job, foreign=foreign))
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
    cluster: Cluster,
    installation: str,
    state_of: StateOf,
    silent_seconds: float = SILENT_SECONDS,
    here: Here | None = None,
) -> list[Leftover]:
    """What should be given back on a cluster.

    :raises ConnectionLost: the cluster, or its scheduler, does not answer.
    """
    found, jobs = await cluster.survey()
    return leftovers(found, jobs, installation, state_of, silent_seconds, here)


async def give_back(cluster: Cluster, leftover: Leftover) -> bool:
    """Give one back; whether it was: what somebody has taken over since it was found stays, and so does what is foreign.

    :raises BraynsError: it could not be done.
    """
    if leftover.foreign:
        return False
    if leftover.status is not None:
        return await cluster.reap(leftover.status)
    return leftover.job is None or await cluster.end_job(leftover.job)
