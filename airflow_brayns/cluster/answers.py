"""Readers of what the scripts on the cluster answer: line by line; a line that is not of the known form is never
believed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from airflow_brayns.cluster.allocation import AllocationStatus, Job, ServiceStatus
from airflow_brayns.cluster.protocol import ANSWERS, read
from airflow_brayns.cluster.slices import in_slices
from airflow_brayns.errors import (
    AllocationLost,
    AskedForElsewhere,
    ConnectionLost,
    InvalidSetting,
    StateFolderFull,
    StateFolderNotOurs,
)
from airflow_brayns.errors.plain import one_line, visible

_TIME_LEFT = re.compile(r"(?:(?:([0-9]{1,9})-)?([0-9]{1,9}):)?([0-9]{1,9}):([0-9]{1,9})")
_NUMBER, _STATE = re.compile(r"[0-9]{1,15}"), re.compile(r"[A-Z_]{1,40}")
_NAME, _SERVICE = re.compile(r"ab-[0-9a-f]{1,40}"), re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_JOB = re.compile(r"[0-9][0-9_+,%\[\]-]{0,99}")  # a job id of squeue's: `12`, `12_3`, `12_[4-9%2]`, `12+1`
_NODE = re.compile(r"[A-Za-z0-9._-]{1,253}")
_LONGEST_REASON = 1000  # characters of a reason for an end that are kept


def whole(text: str) -> int | None:
    """Read a number as the scripts write it; None for any other text.

    Neither `isdigit` nor `int` can tell: both take digits of all the world's scripts, and `int` fails on long ones.
    """
    return int(text) if _NUMBER.fullmatch(text) else None


def decode(text: str) -> str:
    """Decode base64 as the scripts write it, with what cannot be seen replaced; empty for what is not base64."""
    try:
        return visible(base64.b64decode(text, validate=True).decode("utf-8", "replace"))
    except (binascii.Error, ValueError):
        return ""


def coded(text: str) -> str:
    """The reverse of `decode`, of any text."""
    return base64.b64encode(text.encode("utf-8", "replace")).decode()


def read_job(line: str) -> Job | None:
    """Read a line of squeue's, `%i|%T|%r|%N|%k|%j|%V|%S|%L`; None for a line that is not of that form."""
    parts = line.split("|")
    if len(parts) < 9:
        return None
    # The comment, in the middle, may hold a bar: the fields behind it are counted from the end.
    job_id, word, reason, nodes = parts[:4]
    name, submitted, start, left = parts[-4:]
    if not _JOB.fullmatch(job_id) or not _STATE.fullmatch(word):
        return None
    comment = "|".join(parts[4:-4])
    return Job(job_id, word, reason, nodes, name, submitted, start, _seconds_left(left), comment)


def _seconds_left(text: str) -> int | None:
    match = _TIME_LEFT.fullmatch(text.strip())
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def is_job_line(job: Job, status: AllocationStatus) -> bool:
    """Tell whether a job is this allocation's, by its name, its id and its submit time."""
    return (
        job.name == f"{status.name}-{status.incarnation}"
        and job.job_id == status.job_id
        and (not status.submitted or _is_same_time(job.submitted, status.submitted))
    )


def _is_same_time(one: str, other: str) -> bool:
    """Tell whether two times may be the same, each in its machine's own zone: zones are quarters of an hour apart, and within 26 hours."""
    if one == other or not ("T" in one and "T" in other):  # the local cluster's are numbers
        return one == other
    try:
        apart = abs((datetime.fromisoformat(one) - datetime.fromisoformat(other)).total_seconds())
    except (TypeError, ValueError):
        return False
    return apart <= 26 * 3600 and not apart % 900


@dataclass
class _Reader:
    found: dict[tuple[str, int], AllocationStatus] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    answered: bool = False
    trouble: str = ""
    current: tuple[str, int] | None = None
    _by_name: dict[str, list[Job]] | None = None

    def read(self, answer: str) -> None:
        for word, fields in read(ANSWERS["look"], answer):
            self.line(word, fields)

    def line(self, word: str, told: list[str]) -> None:
        match word, [visible(text).replace("\n", " ") for text in told]:
            case "allocation", [name, text]:
                number = whole(text)
                self.current = (name, number) if number is not None and _NAME.fullmatch(name) else None
                if self.current:
                    self.found[self.current] = AllocationStatus(*self.current)
            case "queue", [line]:
                if job := read_job(line):
                    self.jobs.append(job)
            case "answered", []:
                self.answered = True
            case "silent", [why]:
                self.trouble = one_line(decode(why), _LONGEST_REASON)
            case "log", [name, number, service, _, log]:
                self._log(name, number, service, log)
            case "certificate", [name, number, text]:
                if status := self.found.get((name, whole(number) or 0)):
                    self.found[status.name, status.incarnation] = replace(status, certificate=decode(text))
            case _, fields if self.current:
                self.found[self.current] = _with(self.found[self.current], word, "".join(fields))

    def whole(self, status: AllocationStatus) -> AllocationStatus:
        """What was read of an allocation, with what was read behind it."""
        if self._by_name is None:
            self._by_name = _by_name(self.jobs)
        named = self._by_name.get(f"{status.name}-{status.incarnation}", ())
        return replace(
            status,
            services=tuple(service for service in status.services if service.name),
            job=next((job for job in named if is_job_line(job, status)), None),
            answered=self.answered,
            trouble=self.trouble,
        )

    def _log(self, name: str, number: str, service: str, log: str) -> None:
        if status := self.found.get((name, whole(number) or 0)):
            services = tuple(replace(one, log=log) if one.name == service else one for one in status.services)
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
        case "unheard":
            seconds = whole(rest)
            return replace(status, silent=None if seconds is None else float(seconds))
        case "until":
            return replace(status, until=one_line(rest, 40))
        case "next":
            return replace(status, following=whole(rest) or 0)
        case "owner":
            return replace(status, owner=rest)
        case "about":
            return replace(status, about=decode(rest).strip())
        case "service":
            # A service whose name is none of ours is kept until the end: the lines behind it must not become its
            # neighbour's.
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
    """Read every job that the answer of a look tells of.

    :raises ConnectionLost: the scheduler did not answer.
    """
    reader = _Reader()
    reader.read(answer)
    if not reader.answered:
        raise ConnectionLost(f"The scheduler does not answer: {reader.trouble.strip() or 'the command was cut off'}")
    return reader.jobs


def _by_name(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.name, []).append(job)
    return found


def read_status(answer: str) -> dict[tuple[str, int], AllocationStatus]:
    """Read the answer of a look, by name and incarnation; unknown lines are passed over, never believed."""
    reader = _Reader()
    reader.read(answer)
    return {key: reader.whole(status) for key, status in reader.found.items()}


async def read_statuses(answer: str) -> dict[tuple[str, int], AllocationStatus]:
    """`read_status` of an answer that tells of thousands: everybody else of the loop has a turn meanwhile."""
    reader = _Reader()
    async for word, fields in in_slices(read(ANSWERS["look"], answer)):
        reader.line(word, fields)
    return {key: reader.whole(status) async for key, status in in_slices(reader.found.items())}


def check_ours(name: str, told: Sequence[tuple[str, list[str]]]) -> None:
    """Raise an error where an answer says that an allocation is another Airflow's, whose mark is the same, or nobody's
    any more.

    :raises AskedForElsewhere: the allocation is another Airflow's; the error names both.
    :raises AllocationLost: the allocation was given back, or has ended.
    """
    for word, fields in told:
        if word == "foreign":
            raise AskedForElsewhere(name, fields[0])
        if word == "over":
            why = f"{name} has ended, or was given back meanwhile: there is nothing left to give more time to."
            raise AllocationLost(why, remedy="Start a new session.", retry=False)


def check_folder(told: Sequence[tuple[str, list[str]]]) -> None:
    """Raise an error where an answer says that the state folder does not allow what was to be done.

    :raises StateFolderFull: something could not be written there.
    :raises StateFolderNotOurs: others could change what is run from there.
    """
    for word, fields in told:
        if word == "full":
            raise StateFolderFull(fields[0])
        match word, fields:
            case "untrusted", [("owner" | "writable" | "link" | "mode") as reason, part, who]:
                raise StateFolderNotOurs(reason, decode(part), decode(who))


class Released(int):
    """How many incarnations of a name there are, all of which are given back.

    :param completing: how many of them Slurm still cleans the nodes of (COMPLETING): a site's epilog is at work.
    """

    completing: int

    def __new__(cls, number: int, completing: int = 0) -> Released:
        released = super().__new__(cls, number)
        released.completing = completing
        return released


def check_wanted(name: str, service: str, told: Iterable[tuple[str, list[str]]], wanted: str) -> None:
    """Check that of a service which is there already the same was wanted.

    :param wanted: its digest; empty where nobody knows it, as of a service that a former version has started.
    :raises InvalidSetting: something else was.
    """
    there = dict(told).get("wanted", [""])[0]
    if wanted and there and there != wanted:
        raise InvalidSetting(
            "service",
            f"{service} runs in {name} already, and was started with something else.",
            remedy="stop that one first (StopBraynsServiceOperator), or choose another name.",
        )


def check_released(name: str, told: Sequence[tuple[str, list[str]]]) -> None:
    for word, fields in told:
        if word == "silent":
            raise ConnectionLost(
                f"Slurm did not answer while {name} was given back ({decode(fields[0]).strip()}). The keeper was told and ends by itself.",
                remedy="Nothing, where the task has retries: the next try looks again.",
            )
        if word == "released" and fields[2].startswith("still "):
            raise AllocationLost(
                f"{name} was told to end, but Slurm says it is {fields[2].removeprefix('still ')}.",
                remedy="`scancel` it by hand.",
            )
