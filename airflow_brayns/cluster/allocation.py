"""An allocation, and what a cluster says of it, of its job and its services."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

# What Slurm's limits of one job, of one job on a node, and of the least that a QOS takes count (job_state_reason.c of Slurm 20.11 and later).
_COUNTED = ("Cpu", "Mem", "Memory", "Node", "GRES", "License", "BB", "Energy", "Billing", "Unknown")
_LIMITS = {f"Max{what}{per}" for what in _COUNTED for per in ("PerJob", "PerNode", "MinutesPerJob")}
# Slurm's reasons for a pending job that no waiting mends. Some impossible requests are not refused but pend for ever
# (22.05 and 24.11, run).
HOPELESS_REASONS = frozenset(
    {
        "PartitionTimeLimit", "PartitionNodeLimit", "PartitionDown", "PartitionInactive", "AccountNotAllowed",
        "QOSNotAllowed", "InvalidAccount", "InvalidQOS", "BadConstraints", "AssocMaxWallDurationPerJobLimit",
        "QOSMaxWallDurationPerJobLimit", "launch failed requeued held", "AssocMaxNodePerJobLimit", "QOSMaxNodePerJobLimit", "PartitionConfig",
        "AssocMaxCpuPerJobLimit", "QOSMaxCpuPerJobLimit", "AssocMaxCpuMinutesPerJobLimit", "QOSMaxCpuMinutesPerJobLimit",
        "QOSMinCpuNotSatisfied", "MaxMemPerLimit", "DependencyNeverSatisfied", "ReservationDeleted",
        *(f"{whose}{limit}" for whose in ("Assoc", "QOS") for limit in _LIMITS), *(f"QOSMin{what}" for what in _COUNTED),
    }
)  # fmt: skip
# Those of them that say nothing of another partition: with several, Slurm shows the reason of the one it looked at last.
HOPELESS_ANYWHERE = frozenset(
    {"InvalidAccount", "InvalidQOS", "launch failed requeued held", "DependencyNeverSatisfied", "ReservationDeleted"}
)
# Those that count what the nodes have that Slurm has just looked at: with `exclusive` that is all of them, and others may have less
# (acct_policy.c, read).
HOPELESS_UNLESS_EXCLUSIVE = frozenset(
    f"{whose}{limit}{word}"
    for whose in ("Assoc", "QOS")
    for limit in _LIMITS
    if "Node" not in limit.removesuffix("PerNode")
    for word in ("", "Limit")  # as Slurm writes those of processors
)


class JobState(Enum):
    """The steps of a job that matter here, and `UNKNOWN` where the scheduler does not tell."""

    PENDING = "pending"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, word: str) -> JobState:
        """The step that a state of squeue's, such as `COMPLETING`, means."""
        if word in ("PENDING", "CONFIGURING") or word.startswith("REQUEUE"):
            return cls.PENDING
        if word in ("RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"):
            return cls.RUNNING
        if word in ("COMPLETING", "STAGE_OUT"):
            return cls.ENDING
        return cls.ENDED if word else cls.UNKNOWN


@dataclass(frozen=True)
class Job:
    """A job as a line of squeue tells of it; the local cluster's scripts print the same kind of line."""

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


@dataclass(frozen=True)
class Allocation:
    """An allocation, in one of its incarnations: its name, its number and its job.

    :param name: `ab-` and the hash of what it is for; also the folder's name.
    :param incarnation: the number of the submission under this name; the first is 1.
    :param job_id: Slurm's job id; on the local cluster the keeper's process id.
    :param submitted: Slurm's submit time, since job ids are given out again after a controller's crash; empty on the
        local cluster.
    :param folder: the path of its folder on the cluster.
    :param adopted: whether it was found running, and not submitted by this call.
    :param machine: the machine on which it was asked for without SSH; empty with SSH, and where nobody told.
    :param avoided: nodes that it is not to get, since services fail there; of one that this call has submitted.
    """

    name: str
    incarnation: int
    job_id: str
    submitted: str = ""
    folder: str = ""
    adopted: bool = False
    machine: str = ""
    avoided: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        """The name and the incarnation, which together no other allocation of the cluster has."""
        return self.name, self.incarnation

    def log_of(self, service: str) -> str:
        """The path of a service's log on the cluster."""
        return f"{self.folder}/services/{service}/log"

    def to_json(self) -> dict[str, Any]:
        """The allocation as plain JSON values, for XCom and triggers."""
        return {
            "name": self.name,
            "incarnation": self.incarnation,
            "job_id": self.job_id,
            "submitted": self.submitted,
            "folder": self.folder,
            **({"machine": self.machine} if self.machine else {}),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Allocation:
        """Read what `to_json` gave; keys that it does not write are passed over."""
        return cls(
            str(value["name"]),
            int(value["incarnation"]),
            str(value["job_id"]),
            str(value.get("submitted", "")),
            str(value.get("folder", "")),
            machine=str(value.get("machine", "")),
        )


def is_idle_end(why: str | None) -> bool:
    """Tell whether a keeper ended since nobody used the allocation, by the reason that keeper.sh wrote."""
    return "(idle_limit)" in (why or "")


@dataclass(frozen=True)
class ServiceStatus:
    """The state of one service, as its allocation's folder tells it.

    :param port: the port that it listens on; None until it listens.
    :param exit_code: how its process ended; None until it has.
    :param exit_text: what its node's wrapper wrote of the end.
    :param log: the new bytes of its log, in base64.
    """

    name: str
    node: str = ""
    port: int | None = None
    exit_code: int | None = None
    exit_text: str = ""
    log: str = ""

    @property
    def stopped(self) -> bool:
        """Whether the service ended since it was asked to; the end of its job tells why it was asked."""
        return self.exit_text == "stopped"

    @property
    def said(self) -> str:
        """The wrapper's words on the service's end; empty where they only repeat the exit code."""
        return "" if self.exit_text == f"the service ended with exit code {self.exit_code}" else self.exit_text


@dataclass(frozen=True)
class AllocationStatus:
    """The state of an allocation, as one look at it told.

    :param job: the scheduler's line of its job; None where the scheduler does not know the job (any more).
    :param answered: whether the scheduler answered at all; if it did not, `job` says nothing.
    :param trouble: why the scheduler did not answer.
    :param gone: whether its folder is not there, or is another user's.
    :param nodes: names of its nodes in order; empty until the keeper runs.
    :param released: whether somebody has asked for its end.
    :param ending: why its keeper is ending it; empty while the keeper is not.
    :param ended: why its keeper has ended; None while it has not.
    :param silent: seconds since its keeper last showed itself, by the cluster's clock; None before the keeper first
        did.
    :param until: until when it is kept, as whoever gave it more time wrote it, in ISO 8601; empty where nobody has.
    :param following: the number of the incarnation that follows on it; 0 for none.
    :param owner: the token of whoever owns it; empty where nobody does.
    :param about: which run it is for, as `owner.About` writes it.
    :param certificate: the certificate of its services, PEM; empty where it has none of its own.
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
    until: str = ""
    following: int = 0
    owner: str = ""
    about: str = ""
    services: tuple[ServiceStatus, ...] = ()
    certificate: str = ""

    @property
    def state(self) -> JobState:
        """The step of the job, by the scheduler's word and, where that has forgotten the job, by the keeper's."""
        if self.ended is not None and (self.job is None or self.job.state is JobState.ENDED):
            return JobState.ENDED
        if not self.answered:
            return JobState.UNKNOWN
        if self.job is None:
            return JobState.ENDED if self.job_id else JobState.UNKNOWN
        return self.job.state

    @property
    def left_no_trace(self) -> bool:
        """Whether the job ran and failed, and its keeper wrote nothing: where it was, there was no such folder."""
        failed = self.job is not None and self.job.word == "FAILED"
        return failed and self.ended is None and not (self.ending or self.nodes or self.heartbeat)

    def service(self, name: str) -> ServiceStatus | None:
        """The service of a name; None where there is none."""
        return next((service for service in self.services if service.name == name), None)
