"""What a cluster says of an allocation, and how its answer is read."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from airflow_brayns.errors import ConnectionLost
from airflow_brayns.plain import one_line, visible

_TIME_LEFT = re.compile(r"(?:(?:([0-9]{1,9})-)?([0-9]{1,9}):)?([0-9]{1,9}):([0-9]{1,9})")
_NUMBER, _STATE = re.compile(r"[0-9]{1,15}"), re.compile(r"[A-Z_]{1,40}")
_NAME, _SERVICE = re.compile(r"ab-[0-9a-f]{1,40}"), re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_JOB = re.compile(r"[0-9][0-9_+,%\[\]-]{0,99}")  # `12`, `12_3`, `12_[4-9%2]`, `12+1`
_NODE = re.compile(r"[A-Za-z0-9._-]{1,253}")
_LONGEST_REASON = 1000  # characters of why something ended
# Reasons that no waiting mends. Some impossible requests are not refused but pend for ever (Slurm 22.05 and 24.11, run).
HOPELESS_REASONS = frozenset(
    {
        "PartitionTimeLimit", "PartitionNodeLimit", "PartitionDown", "PartitionInactive", "AccountNotAllowed",
        "QOSNotAllowed", "InvalidAccount", "InvalidQOS", "BadConstraints", "AssocMaxWallDurationPerJobLimit",
        "QOSMaxWallDurationPerJobLimit", "launch failed requeued held", "AssocMaxNodePerJobLimit", "QOSMaxNodePerJobLimit", "PartitionConfig",
    }
)  # fmt: skip


def whole(text: str) -> int | None:
    """A number as the scripts write it. `isdigit` and `int` take digits of all the world's scripts, and `int` fails on long ones."""
    return int(text) if _NUMBER.fullmatch(text) else None


class JobState(Enum):
    """Where a job is, in the four steps that matter here."""

    PENDING = "pending"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, word: str) -> JobState:
        """The step that a word of squeue's means."""
        if word in ("PENDING", "CONFIGURING") or word.startswith("REQUEUE"):
            return cls.PENDING
        if word in ("RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"):
            return cls.RUNNING
        if word in ("COMPLETING", "STAGE_OUT"):
            return cls.ENDING
        return cls.ENDED if word else cls.UNKNOWN


@dataclass(frozen=True)
class Job:
    """A line of squeue's (or of the local cluster's likeness of it)."""

    job_id: str
    word: str
    reason: str
    nodes: str
    name: str
    submitted: str
    start: str
    seconds_left: int | None
    comment: str = ""

    @property
    def state(self) -> JobState:
        return JobState.of(self.word)

    @classmethod
    def read(cls, line: str) -> Job | None:
        """Read `%i|%T|%r|%N|%k|%j|%V|%S|%L`; None for a line that is not of that form."""
        parts = line.split("|")
        if len(parts) < 9:
            return None
        # The comment may hold a bar: count the fields behind it from the end.
        job_id, word, reason, nodes = parts[:4]
        name, submitted, start, left = parts[-4:]
        if not _JOB.fullmatch(job_id) or not _STATE.fullmatch(word):
            return None
        comment = "|".join(parts[4:-4])
        return cls(job_id, word, reason, nodes, name, submitted, start, _seconds_left(left), comment)


def _seconds_left(text: str) -> int | None:
    match = _TIME_LEFT.fullmatch(text.strip())
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


@dataclass(frozen=True)
class Allocation:
    """One incarnation of an allocation: its name, number and job.

    :param name: `ab-` and the hash of what it is for; also the folder's name.
    :param incarnation: 1 for the first submission under this name, and so on.
    :param job_id: Slurm's job id; on the local cluster the keeper's process id.
    :param submitted: Slurm's submit time: ids are given out again after a controller's crash.
    :param folder: where it is described on the cluster.
    """

    name: str
    incarnation: int
    job_id: str
    submitted: str = ""
    folder: str = ""
    adopted: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """Name and incarnation."""
        return self.name, self.incarnation

    def to_json(self) -> dict[str, Any]:
        """Plain values for XCom and triggers."""
        return {
            "name": self.name,
            "incarnation": self.incarnation,
            "job_id": self.job_id,
            "submitted": self.submitted,
            "folder": self.folder,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Allocation:
        """The reverse of `to_json`; further keys are passed over."""
        return cls(
            str(value["name"]),
            int(value["incarnation"]),
            str(value["job_id"]),
            str(value.get("submitted", "")),
            str(value.get("folder", "")),
        )


@dataclass(frozen=True)
class ServiceStatus:
    """What the folder tells of one service."""

    name: str
    node: str = ""
    port: int | None = None
    exit_code: int | None = None
    exit_text: str = ""
    log: str = ""


@dataclass(frozen=True)
class AllocationStatus:
    """What one look told of an allocation.

    :param job: the scheduler's line, None where it does not know the job (any more).
    :param answered: whether the scheduler answered at all; if not, `job` says nothing.
    :param ended: why the keeper ended, None while it has not.
    :param silent: seconds since the keeper last showed itself, by the cluster's clock; None before it first did.
    :param certificate: PEM that its services prove themselves with; empty without TLS of its own.
    """

    name: str
    incarnation: int
    job: Job | None = None
    job_id: str = ""
    submitted: str = ""
    answered: bool = True
    trouble: str = ""
    gone: bool = False
    nodes: tuple[str, ...] = ()
    released: bool = False
    ending: str = ""
    ended: str | None = None
    heartbeat: str = ""
    silent: float | None = None
    owner: str = ""
    about: str = ""
    services: tuple[ServiceStatus, ...] = ()
    certificate: str = ""

    @property
    def state(self) -> JobState:
        """The job's step, from the scheduler and, where it has forgotten the job, from the keeper's own word."""
        if self.ended is not None and (self.job is None or self.job.state is JobState.ENDED):
            return JobState.ENDED
        if not self.answered:
            return JobState.UNKNOWN
        if self.job is None:
            return JobState.ENDED if self.job_id else JobState.UNKNOWN
        return self.job.state

    def service(self, name: str) -> ServiceStatus | None:
        """The service of that name."""
        return next((service for service in self.services if service.name == name), None)


def decode(text: str) -> str:
    """Base64 as the scripts write it, as far as it can be seen; what is not base64 is no answer."""
    try:
        return visible(base64.b64decode(text, validate=True).decode("utf-8", "replace"))
    except (binascii.Error, ValueError):
        return ""


def is_job_line(job: Job, status: AllocationStatus) -> bool:
    """Whether a line is this allocation's job: by name, id and submit time."""
    return (
        job.name == f"{status.name}-{status.incarnation}"
        and job.job_id == status.job_id
        and (not status.submitted or job.submitted == status.submitted)
    )


@dataclass
class _Reader:
    found: dict[tuple[str, int], AllocationStatus] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    answered: bool = False
    trouble: str = ""
    current: tuple[str, int] | None = None

    def line(self, line: str) -> None:
        key, _, rest = visible(line).replace("\n", " ").partition(" ")
        if key == "allocation":
            name, _, text = rest.rpartition(" ")
            number = whole(text)
            self.current = (name, number) if number is not None and _NAME.fullmatch(name) else None
            if self.current:
                self.found[self.current] = AllocationStatus(*self.current)
        elif key == "queue":
            if job := Job.read(rest):
                self.jobs.append(job)
        elif key == "answered":
            self.answered = True
        elif key == "silent":
            self.trouble = one_line(decode(rest), _LONGEST_REASON)
        elif key == "log":
            self._log(rest)
        elif key == "certificate":
            self._certificate(rest)
        elif self.current:
            self.found[self.current] = _with(self.found[self.current], key, rest)

    def _certificate(self, rest: str) -> None:
        parts = rest.split(" ")
        status = self.found.get((parts[0], whole(parts[1]) or 0)) if len(parts) == 3 else None
        if status:
            self.found[status.name, status.incarnation] = replace(status, certificate=decode(parts[2]))

    def _log(self, rest: str) -> None:
        parts = rest.split(" ")
        status = self.found.get((parts[0], whole(parts[1]) or 0)) if len(parts) == 5 else None
        if status:
            services = tuple(
                replace(service, log=parts[4]) if service.name == parts[2] else service for service in status.services
            )
            self.found[status.name, status.incarnation] = replace(status, services=services)


def _with(status: AllocationStatus, key: str, rest: str) -> AllocationStatus:
    match key:
        case "job":
            job_id, _, submitted = rest.partition(" ")
            return replace(status, job_id=job_id if whole(job_id) is not None else "", submitted=submitted)
        case "nodes":
            return replace(status, nodes=tuple(node for node in rest.split(" ") if _NODE.fullmatch(node)))
        case "gone":
            return replace(status, gone=True)
        case "released":
            return replace(status, released=True)
        case "ending":
            return replace(status, ending=one_line(decode(rest), _LONGEST_REASON))
        case "ended":
            return replace(status, ended=one_line(decode(rest), _LONGEST_REASON))
        case "heartbeat":
            return replace(status, heartbeat=rest)
        case "silent":
            seconds = whole(rest)
            return replace(status, silent=None if seconds is None else float(seconds))
        case "owner":
            return replace(status, owner=rest)
        case "about":
            return replace(status, about=decode(rest).strip())
        case "service":
            # One whose name is none of ours is left out at the end: the lines behind it must not become its neighbour's.
            name = rest if _SERVICE.fullmatch(rest) else ""
            return replace(status, services=(*status.services, ServiceStatus(name)))
        case "node" | "listening" | "exit" if status.services:
            return replace(status, services=(*status.services[:-1], _service_with(status.services[-1], key, rest)))
    return status


def _service_with(service: ServiceStatus, key: str, rest: str) -> ServiceStatus:
    if key == "node":
        return replace(service, node=rest) if _NODE.fullmatch(rest) else service
    if key == "listening":
        port = whole(rest) or 0
        return replace(service, port=port) if 0 < port < 65536 else service
    code, _, text = decode(rest).partition(" ")
    number = whole(code)
    return replace(
        service,
        exit_code=number if number is not None and number < 256 else 1,
        exit_text=one_line(text, _LONGEST_REASON),
    )


def read_jobs(answer: str) -> list[Job]:
    """Every job that a status command's answer tells of.

    :raises ConnectionLost: the scheduler did not answer.
    """
    reader = _Reader()
    for line in answer.split("\n"):
        reader.line(line)
    if not reader.answered:
        raise ConnectionLost(f"The scheduler does not answer: {reader.trouble.strip() or 'the command was cut off'}")
    return reader.jobs


def read_status(answer: str) -> dict[tuple[str, int], AllocationStatus]:
    """Read a status command's answer; lines it does not know are passed over, never believed."""
    reader = _Reader()
    for line in answer.split(
        "\n"
    ):  # not `splitlines`, which also ends a line within a comment that has a form feed in it
        reader.line(line)
    result = {}
    for key, status in reader.found.items():
        status = replace(status, services=tuple(service for service in status.services if service.name))
        job = next((job for job in reader.jobs if is_job_line(job, status)), None)
        result[key] = replace(status, job=job, answered=reader.answered, trouble=reader.trouble)
    return result
