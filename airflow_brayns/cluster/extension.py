"""More time for an allocation: what is left of its own may do, or the scheduler raises its limit; or it refuses to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from airflow_brayns.cluster.answers import check_folder, check_ours, decode, whole
from airflow_brayns.cluster.cluster import COMMAND_SECONDS, Cluster
from airflow_brayns.cluster.shell import quote
from airflow_brayns.cluster.submission import NAME, check
from airflow_brayns.errors import ConnectionLost
from airflow_brayns.errors.plain import one_line

_RAISE_SECONDS = 60.0  # for the scheduler's answer, beside what every command may take


class Granted(StrEnum):
    """What came of asking for more time."""

    ROOM = "room"
    """The job's own limit leaves as much."""
    RAISED = "raised"
    """The scheduler has raised the job's limit."""
    REFUSED = "refused"
    """It has not: as a rule only an operator of Slurm may."""
    WAITS = "waits"
    """The newest job waits for its nodes, with all of its time before it."""


@dataclass(frozen=True)
class Extension:
    """What came of asking for more time, for the newest incarnation of an allocation.

    :param job_id: the newest incarnation's.
    :param submitted: its submit time; empty on the local cluster.
    :param why: what the scheduler said when it refused; else empty.
    """

    granted: Granted
    incarnation: int
    job_id: str
    submitted: str = ""
    why: str = ""


async def ask_for_time(cluster: Cluster, name: str, seconds: int, until: str) -> Extension:
    """See to it that so many seconds are left to the newest incarnation of an allocation. Asked for twice, it is done once: what counts is
    what is left.

    :param until: the time until which it is to be kept, in ISO 8601; whoever keeps it reads that (`AllocationStatus.until`).
    :raises AllocationLost: it has ended, or was given back.
    :raises AskedForElsewhere: another Airflow with this one's mark asked for it.
    :raises StateFolderFull: the time could not be written down.
    :raises ConnectionLost: the scheduler does not say whether it has raised the limit; the next call finds out.
    """
    check(NAME, "name", name)
    body = f"extend {name} {int(seconds)} {quote(until)}"
    told = await cluster.ask("extend", body, COMMAND_SECONDS + _RAISE_SECONDS)
    check_folder(told)
    check_ours(name, told)
    values = dict(told)
    if "silent" in values:
        raise ConnectionLost(f"Whether {name} has more time is not known: {decode(values['silent'][0]).strip()}")
    number, job = values.get("newest", ["", ""])
    granted = next((one for one in Granted if one in values), None)
    if granted is None or not (incarnation := whole(number)):
        raise ConnectionLost(f"The command that gives {name} more time was cut off.")
    job_id, _, submitted = job.partition(" ")
    why = one_line(decode(values["refused"][1]), 500) if granted is Granted.REFUSED else ""
    return Extension(granted, incarnation, job_id, submitted, why)
