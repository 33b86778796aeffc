"""Orphans: allocations that nobody will give back any more, since their DAG run is over or gone, or their keeper or
folder is lost.

Only allocations that this Airflow asked for count: its mark (`installation_id`) is in the folder and in the job's
comment. What another user, another Airflow or somebody by hand has submitted is never touched.

Two Airflows may have one mark: the clone of a database carries it along. To the clone every run that the other one
began since seems deleted. So what was asked for elsewhere (`deployment`, in the folder and the comment) is told of, and
left alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from airflow_brayns.cluster.allocation import AllocationStatus, Job, JobState
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.owner import RunOf, deployment_in, mark, run_of, whose
from airflow_brayns.errors import BraynsError

OVER = ("success", "failed")
SILENT_SECONDS = 600.0  # a keeper shows itself every two seconds; network file systems and clocks may be minutes off


UNTOLD = (
    "Nothing tells this Airflow from a clone of its database, to which every run that began since seems deleted: where there is one, set "
    "[brayns] deployment in both."
)
# A function that tells the state of a DAG run; None where there is no such run any more.
StateOf = Callable[[RunOf], str | None]


@dataclass(frozen=True)
class Leftover:
    """An allocation, or a job without a folder, that should be given back.

    :param why: why it should be, for whoever decides.
    :param run: the task and run that it was asked for; None where that is not known.
    :param status: the allocation's; None for a job without a folder.
    :param job: the scheduler's line of such a job; None for an allocation.
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
        """Slurm's id of the job; on the local cluster the keeper's process id."""
        return self.status.job_id if self.status else self.job.job_id if self.job else ""


@dataclass(frozen=True)
class Here:
    """The facts that tell this Airflow from another one with the same mark.

    :param deployment: this Airflow's, as `airflow_brayns.hooks.installation.deployment` gives it; empty where it is not
        known.
    :param shared: whether others may have the same mark by the way it was made; then an allocation that tells no
        deployment (0.2.0) is not ours either.
    """

    deployment: str
    shared: bool = False

    def foreign(self, deployment: str) -> str:
        """Say why an allocation with this Airflow's mark is another Airflow's; empty where it is this one's.

        :param deployment: the one that the allocation tells; empty where it tells none.
        """
        if deployment == self.deployment or (not deployment and not self.shared):
            return ""
        whose = f"another Airflow, {deployment}," if deployment else "an Airflow of version 0.2.0, maybe another one,"
        return (
            f"{whose} has the same mark and asked for it: left alone. Give a clone an [brayns] installation_id of its own; where this "
            "Airflow had another address then, set [brayns] deployment to that; "
            "`airflow brayns release NAME --any-installation` ends it"
        )


def leftovers(
    found: list[AllocationStatus],
    jobs: list[Job],
    installation: str,
    state_of: StateOf,
    silent_seconds: float = SILENT_SECONDS,
    here: Here | None = None,
) -> list[Leftover]:
    """Pick what should be given back.

    :param found: every allocation that has a folder.
    :param jobs: every job of the scheduler's that bears a name of ours.
    :param state_of: asked for each run once.
    :param installation: this Airflow's `installation_id`.
    :param silent_seconds: how long a keeper may show no sign while its job runs; after that it is lost.
    :param here: what tells this Airflow from another one with its mark; None where only the mark counts.
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
    if status.state is JobState.ENDED:  # its keeper was killed before it could say so: what is left of it is put away
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


def looked_at(allocations: int, jobs: int, left: int) -> str:
    """Say what was looked at, also where there was nothing to do."""
    looked = f"Looked at {allocations} allocations and {jobs} jobs of airflow-brayns"
    return (
        f"{looked}: {left} are nobody's any more, each told above."
        if left
        else f"{looked}: all of them are somebody's."
    )


class Reaped(Enum):
    """What became of a leftover."""

    GIVEN_BACK = "given back"
    TAKEN_OVER = "somebody has taken it over since it was found"
    FOREIGN = "it is another Airflow's"
    FOUND = "nothing was to be done"


async def reap(
    cluster: Cluster, found: Iterable[Leftover], *, really: bool
) -> AsyncIterator[tuple[Leftover, Reaped | BraynsError]]:
    """Give back what is this Airflow's, whatever fails among it; tells of each what became of it, or why it could not be done.

    :param really: otherwise it is only told of.
    """
    for one in found:
        if one.foreign or not really:
            yield one, Reaped.FOREIGN if one.foreign else Reaped.FOUND
            continue
        try:
            yield one, Reaped.GIVEN_BACK if await give_back(cluster, one) else Reaped.TAKEN_OVER
        except BraynsError as error:
            yield one, error


async def give_back(cluster: Cluster, leftover: Leftover) -> bool:
    """Give a leftover back, and tell whether it was: what somebody has taken over since stays, and so does what is
    another Airflow's.

    :raises BraynsError: it could not be given back.
    """
    if leftover.foreign:
        return False
    if leftover.status is not None:
        return await cluster.reap(leftover.status)
    return leftover.job is None or await cluster.end_job(leftover.job)
