"""Findings on what has become of a service, by what its folder, the scheduler and its own node say of it."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from enum import Enum

from airflow_brayns.cluster import protocol
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, JobState, ServiceStatus, is_idle_end
from airflow_brayns.cluster.answers import decode, read_status, whole
from airflow_brayns.cluster.protocol import ANSWERS
from airflow_brayns.errors.plain import visible

_DEFAULT_IDLE = 1800


class Fate(Enum):
    """What has become of a service: whether it is still there, and ours.

    `OURS`: its process lives and holds its port's socket, alone. `ENDED`: it has ended, or its allocation has.
    `STRANGE`: its process lives, and the port is not its own. `UNPROVEN`: nothing says that it has ended, and its node
    could not be asked. `UNKNOWN`: the scheduler did not answer either.
    """

    OURS = "ours"
    ENDED = "ended"
    STRANGE = "strange"
    UNPROVEN = "unproven"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """A service of ours, as it was found.

    :param tail: the last lines of its log; empty where it logged nothing.
    :param idle_limit: seconds after which its keeper ends an allocation that nobody uses.
    :param asked_port: the port that was asked for: `0`, a number, or a range.
    :param socket: whose its port is, by its node's kernel: `ours`, `gone` (its process is), or `strange`; empty where
        the node was not asked, or did not answer.
    :param strangers: accounts whose processes listen on its port.
    """

    allocation: Allocation
    status: AllocationStatus
    service: ServiceStatus
    tail: str = ""
    idle_limit: int = _DEFAULT_IDLE
    asked_port: str = "0"
    socket: str = ""
    strangers: tuple[str, ...] = field(default=())

    @property
    def fate(self) -> Fate:
        """What has become of the service, by all that was asked."""
        if self.service.exit_code is not None or self._allocation_over or self.socket == "gone":
            return Fate.ENDED
        if self.socket:
            return Fate.OURS if self.socket == "ours" else Fate.STRANGE
        return Fate.UNPROVEN if self.status.answered else Fate.UNKNOWN

    @property
    def told(self) -> bool:
        """Whether it is known how the service ended: its wrapper tells a second or so after the process is gone."""
        return self.service.exit_code is not None or self._allocation_over

    @property
    def idle(self) -> bool:
        """Whether the service's allocation was given back since nobody used it."""
        return is_idle_end(self.status.ended or self.status.ending)

    @property
    def _allocation_over(self) -> bool:
        status = self.status
        return status.gone or status.ended is not None or status.state in (JobState.ENDED, JobState.ENDING)

    def __str__(self) -> str:
        return f"{self.service.name} on {self.service.node}"

    def text(self) -> str:
        """Sentences for people that say what became of the service, and the last lines of its log."""
        return f"{self._what()}\n{self.last_lines()}"

    def last_lines(self) -> str:
        """The last lines of the service's log under a heading, for people."""
        return f"Last lines of {self}:\n{self.tail}" if self.tail else "It logged nothing."

    def _what(self) -> str:
        job, service = f"job {self.allocation.job_id}", self.service
        if self.fate is Fate.STRANGE:
            who = f" but a process of user {', '.join(self.strangers)}" if self.strangers else ""
            return f"braynsService {self} ({job}) runs, and the port {service.port} is not its own any more: nobody of it listens there{who}."
        if self.fate is not Fate.ENDED:
            return f"braynsService {self} ({job}) has not ended, as far as the cluster knows."
        if service.exit_code is not None and not service.stopped:
            text = f"braynsService {self} ({job}) {how(service.exit_code)}."
            if service.said:
                text += f" Its node says: {service.said}."
        elif self._allocation_over:
            text = f"braynsService {self} ended with {job}"
            text += f", which is {self.status.job.word}." if self.status.job else "."
        elif service.stopped:
            text = f"braynsService {self} ({job}) was stopped."
        else:
            text = f"braynsService {self} ({job}) has ended."
        why = self.status.ended or self.status.ending
        return f"{text} The keeper says: {why}." if why else text


def how(exit_code: int) -> str:
    """Words for an exit code as a shell gives it, such as `was killed by signal 9 (SIGKILL)`."""
    if 128 < exit_code < 193:
        try:
            return f"was killed by signal {exit_code - 128} ({signal.Signals(exit_code - 128).name})"
        except ValueError:
            return f"was killed by signal {exit_code - 128}"
    return f"ended with exit code {exit_code}"


def read_finding(answer: str) -> Finding | None:
    """Read what `examine` in find.sh prints; None where there is no such service."""
    values = dict(protocol.read(ANSWERS["find"], answer))
    name, number, service_name = values.get("examined", ["", "", ""])
    status = read_status(answer).get((name, whole(number) or 0))
    service = status.service(service_name) if status is not None else None
    if status is None or service is None:
        return None
    word, strangers = values.get("socket", ["", ""])
    return Finding(
        Allocation(name, status.incarnation, status.job_id, status.submitted, decode(values.get("folder", [""])[0])),
        status,
        service,
        decode(values.get("tail", [""])[0]).rstrip(),
        whole(values.get("idle", [""])[0]) or _DEFAULT_IDLE,
        visible(values.get("asked", ["0"])[0])[:20],
        word if word in ("ours", "gone", "strange") else "",
        tuple(visible(one)[:64] for one in strangers.split(" ")[:5] if one),
    )
