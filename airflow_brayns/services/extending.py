"""More time for a booking: each of its jobs keeps on, or another one with the same services is queued that follows on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.extension import Extension, Granted, ask_for_time
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import AllocationLost
from airflow_brayns.services.booking import Booking, book_on
from airflow_brayns.services.session import Session

# A job is told to end some time before its limit: Slurm does so 60 s before, and up to 60 s earlier (sbatch's manual).
SPARE_SECONDS = {"slurm": 120, "local": 5}


@dataclass(frozen=True)
class Extended:
    """What came of asking for more time, for one allocation of a booking.

    :param job_id: the job that has the time now; where it was refused, of the one that follows on.
    :param why: what the scheduler said when it refused.
    """

    granted: Granted
    job_id: str
    why: str = ""


async def extend(session: Session, booking: Booking, owner: Owner, seconds: float, until: datetime) -> list[Extended]:
    """Give each allocation of a booking so many seconds from now on. Asked for twice, it is done once.

    :param owner: who asks; what follows on is given back by the booking's name, whoever asked for it.
    :param until: the same as a time, which whoever holds the booking goes by.
    :raises AllocationLost: an allocation has ended, or was given back, or none of its services is alive.
    :raises SubmissionRefused: the scheduler takes no job that follows on.
    :raises ConnectionLost: it is not known what came of it; the next call finds out.
    """
    return [await _extend(session, one, owner, seconds, until) for one in booking.allocations]


async def _extend(session: Session, one: Allocation, owner: Owner, seconds: float, until: datetime) -> Extended:
    cluster = session.cluster
    wanted = round(seconds) + SPARE_SECONDS[cluster.scheduler]
    found = await ask_for_time(cluster, one.name, wanted, until.isoformat(timespec="seconds"))
    if found.granted is not Granted.REFUSED:
        return Extended(found.granted, found.job_id)
    following = await _follow_on(session, one, found, owner)
    return Extended(Granted.REFUSED, following.job_id, found.why)


async def _follow_on(session: Session, one: Allocation, found: Extension, owner: Owner) -> Allocation:
    """Queue the same again, behind the newest incarnation of an allocation."""
    newest = Allocation(one.name, found.incarnation, found.job_id, found.submitted)
    status = (await session.cluster.look([Waiter(*newest.key)])).get(newest.key)
    living = [service for service in status.services if service.exit_code is None] if status else []
    if status is None or not living:
        why = f"Job {found.job_id} has no service any more that another one could follow on."
        raise AllocationLost(why, remedy="Start a new session.", retry=False)
    command = await session.cluster.command_of(newest, living[0].name)
    return await book_on(
        session.cluster, session.settings, newest, owner, nodes=max(1, len(status.nodes)), command=command
    )
