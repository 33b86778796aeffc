"""What is counted: jobs by squeue and sacct, processes by the process tables, looked at twice a second from outside."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.support.cluster import NODES, TestCluster

_NAME = re.compile(r"ab-[0-9a-f]{12}")
_ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED")
_OVER = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY")  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A line of squeue."""

    job_id: str
    state: str
    name: str
    reason: str
    nodes: str


@dataclass(frozen=True)
class Process:
    """A process that belongs to a job of ours, on whichever machine."""

    pid: int
    machine: str
    name: str
    command: str


@dataclass
class Seen:
    """What was ever seen of one allocation: all incarnations of a name with its part."""

    ids: set[str] = field(default_factory=set)
    most_alive: int = 0
    dirty: float = 0.0
    left: list[str] = field(default_factory=list)


class Watch:
    """Looks at the queue and at all process tables every half second, for as long as it runs."""

    def __init__(self, cluster: TestCluster) -> None:
        self.cluster = cluster
        self.jobs: list[Job] = []
        self.processes: list[Process] = []
        self.answered = 0.0
        self._seen: dict[str, Seen] = defaultdict(Seen)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._end.wait(0.5):
            try:
                self.look()
            except (OSError, subprocess.SubprocessError):
                continue  # a slurmctld that is stopped: the process tables are looked at all the same

    def look(self) -> None:
        self.processes = processes(self.cluster)
        try:
            self.jobs = queue(self.cluster)
            self.answered = time.time()
        finally:
            now = time.time()
            by_part: dict[str, list[str]] = defaultdict(list)
            alive: dict[str, int] = defaultdict(int)
            for job in self.jobs:
                part = job.name.rpartition("-")[0]
                by_part[part].append(f"job {job.job_id} {job.state} {job.name}")
                alive[part] += job.state in _ALIVE
                self._seen[part].ids.add(job.job_id)
            for process in self.processes:
                by_part[process.name.rpartition("-")[0]].append(
                    f"{process.machine}: {process.pid} {process.command[:80]}"
                )
            for part, seen in list(self._seen.items()):
                seen.left = by_part.get(part, [])
                seen.dirty = now if seen.left else seen.dirty
                seen.most_alive = max(seen.most_alive, alive.get(part, 0))

    # ---- about the allocations of a booking, whose names begin so -----------------------------------------------
    def parts(self, names: tuple[str, ...]) -> list[Seen]:
        return [seen for part, seen in list(self._seen.items()) if part.startswith(names)]

    def queued(self, names: tuple[str, ...]) -> list[Job]:
        return [job for job in self.jobs if job.name.startswith(names)]

    def running(self, names: tuple[str, ...]) -> list[Process]:
        return [process for process in self.processes if process.name.startswith(names)]

    def left(self, names: tuple[str, ...]) -> list[str]:
        return [text for seen in self.parts(names) for text in seen.left]

    def clean_since(self, names: tuple[str, ...]) -> float:
        """When something of them was last seen."""
        return max((seen.dirty for seen in self.parts(names)), default=0.0)

    def most_alive(self, names: tuple[str, ...]) -> int:
        """How many jobs of one allocation were alive at once, by what was seen and by the accounting's times."""
        times: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for _, name, _, start, end in accounting(self.cluster):
            if name.startswith(names) and (began := _moment(start)):
                times[name.rpartition("-")[0]].append((began, _moment(end) or time.time()))
        told = (
            # One second is what sacct's times are worth.
            sum(began <= start and start + 1 < end for began, end in spans)
            for spans in times.values()
            for start, _ in spans
        )
        return max([*(seen.most_alive for seen in self.parts(names)), *told], default=0)

    def ever(self, names: tuple[str, ...]) -> int:
        """How many jobs were ever submitted: those that were seen, and those that the accounting knows."""
        ids = {job_id for seen in self.parts(names) for job_id in seen.ids}
        return len(ids | {words[0] for words in accounting(self.cluster) if words[1].startswith(names)})


def queue(cluster: TestCluster) -> list[Job]:
    """Jobs of ours that have not ended, from squeue, as root on the controller's machine."""
    command = [cluster.folder / "bin" / "in", "slurmctl", "squeue", "-h", "-o", "%i|%T|%j|%r|%N"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=4).stdout
    lines = [line.split("|") for line in text.splitlines()]
    return [Job(*line) for line in lines if len(line) == 5 and _NAME.match(line[2]) and line[1] not in _OVER]


def accounting(cluster: TestCluster) -> list[list[str]]:
    """Id, name, state, start and end of every job there ever was, from sacct."""
    text = cluster.run(
        "slurmctl", "sacct", "-a", "-X", "-n", "-P", "-S", "2020-01-01", "-o", "JobID,JobName,State,Start,End"
    )
    return [line.split("|") for line in text.splitlines() if line]


def _moment(text: str) -> float:
    """Seconds of a time as sacct writes it; 0 for none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def processes(cluster: TestCluster) -> list[Process]:
    """Everything that runs inside a job of ours, on any machine: this machine's table shows the namespaces' processes too."""
    found = []
    machines = namespaces(cluster)
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes()
            name = re.search(rb"(?:^|\0)SLURM_JOB_NAME=(ab-[0-9a-f]{12}[^\0]*)", environment)
            if name is None:
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if command:  # a zombie has none
                machine = machines.get((folder / "ns" / "pid").readlink().name, "?")
                found.append(Process(int(folder.name), machine, name[1].decode(), command))
        except OSError:
            continue
    return found


def namespaces(cluster: TestCluster) -> dict[str, str]:
    """Which machine a pid namespace is."""
    found = {}
    for machine in ("login", "slurmctl", *NODES):
        try:
            pid = (cluster.folder / "run" / f"{machine}.pid").read_text().strip()
            found[Path(f"/proc/{pid}/ns/pid").readlink().name] = machine
        except OSError:
            continue  # it is switched off
    return found


def at_the_login_node(cluster: TestCluster, user: str) -> list[str]:
    """What runs there under the user's name, but for sshd."""
    try:
        lines = cluster.run("login", "ps", "-u", user, "-o", "pid,args", "--no-headers").splitlines()
    except subprocess.CalledProcessError:
        return []  # ps finds none
    return [line.strip() for line in lines if "sshd:" not in line and "sftp-server" not in line]
