"""What is counted, from squeue, sacct and process tables: jobs of one allocation that ran at once, and who listened where."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.cluster import TestCluster
from tests.system.faults.watch import Process, Watch, _moment, accounting, namespaces

SERVICE = "airflow_brayns.emulator"
_LISTEN = "0A"
_LATE = 1.0  # seconds by which a listener is seen late
_BOOKING = len("ab-") + 12  # of a job's name, what is the booking's


@dataclass
class Listener:
    """A braynsService that was seen to listen.

    :param run: the mark that its DAG run gave it, read in the process's own environment.
    """

    machine: str
    port: int
    pid: int
    run: str
    job_id: str
    first: float
    last: float


@dataclass
class Overlap:
    """Jobs of one allocation that ran at once."""

    part: str
    ids: tuple[str, ...]
    first: float
    last: float
    names: set[str] = field(default_factory=set)


class Ledger(Watch):
    """Looks as the fault table does, and keeps what it saw."""

    def __init__(self, cluster: TestCluster) -> None:
        super().__init__(cluster)
        self.listeners: list[Listener] = []
        self.overlaps: list[Overlap] = []
        self.looks: list[float] = []  # when each look at who listens began
        self._by_pid: dict[int, Listener] = {}
        # By itself: who listens is seen also while squeue does not answer.
        self._listening = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Ledger:
        super().__enter__()
        self._listening.start()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._listening.join(10)

    def look(self) -> None:
        """Once more."""
        super().look()
        self._note_overlaps()

    def _listen(self) -> None:
        while not self._end.wait(0.3):
            self._note_listeners()

    def _note_overlaps(self) -> None:
        now = time.time()
        running: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for job in self.jobs:
            if job.state == "RUNNING":
                running[job.name.rpartition("-")[0]].append((job.job_id, job.name))
        for part, found in running.items():
            if len(found) < 2:
                continue
            ids = tuple(sorted(job_id for job_id, _ in found))
            for one in self.overlaps:
                if one.part == part and one.ids == ids:
                    one.last = now
                    break
            else:
                self.overlaps.append(Overlap(part, ids, now, now, {name for _, name in found}))

    def _note_listeners(self) -> None:
        now = time.time()
        self.looks.append(now)
        machines = namespaces(self.cluster)
        for folder in Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            try:
                command = (folder / "cmdline").read_bytes()
                if SERVICE.encode() not in command or b"python" not in command.partition(b"\0")[0]:
                    continue
                machine = machines.get((folder / "ns" / "pid").readlink().name, "?")
            except OSError:
                continue
            marks = marks_of(pid)
            known = self._by_pid.get(pid)
            if known and (known.run, known.job_id) == (marks["CHAOS_RUN"], marks["SLURM_JOB_ID"]):
                known.last = now
            elif port := listening_port(pid):
                one = Listener(machine, port, pid, marks["CHAOS_RUN"], marks["SLURM_JOB_ID"], now, now)
                self._by_pid[pid] = one
                self.listeners.append(one)

    def fresh(self) -> bool:
        """Whether squeue has answered just now."""
        return time.time() - self.answered < 3

    def present(self) -> set[str]:
        """Bookings of which there is a job, where squeue answers, or a process."""
        jobs = self.jobs if self.fresh() else []
        return {name[:_BOOKING] for name in [*(job.name for job in jobs), *(one.name for one in self.processes)]}

    def left_of(self, names: tuple[str, ...]) -> list[str]:
        """Jobs, where squeue answers, and processes of these bookings."""
        jobs = [f"job {one.job_id} {one.state} {one.name} on {one.nodes}" for one in self.queued(names)]
        procs = [f"{one.machine}: {one.pid} {one.name} {one.command[:80]}" for one in self.running(names)]
        return [*(jobs if self.fresh() else []), *procs]

    def at(self, machine: str, port: int, moment: float) -> list[Listener]:
        """Who was seen to listen there before a moment, the latest first."""
        found = [one for one in list(self.listeners) if (one.machine, one.port) == (machine, port)]
        found = [one for one in found if one.first <= moment + _LATE]
        return sorted(found, key=lambda one: -one.last)

    def has_looked(self, since: float, until: float) -> bool:
        """Whether it was looked at who listens after one moment and before another; on a busy machine a look has taken over a minute."""
        return any(since < look < until for look in list(self.looks))

    def told_overlaps(self) -> dict[str, list[str]]:
        """Jobs of one allocation that ran at once by sacct, for more than the two seconds that its times are not worth; by
        booking.
        """
        spans: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
        queued = {job.job_id for job in self.jobs}
        for job_id, name, state, start, end in accounting(self.cluster):
            if began := _moment(start):
                # A job that slurmctld lost in a crash has no end there.
                over = _moment(end) or (time.time() if job_id in queued else began)
                spans[name.rpartition("-")[0]].append((began, over, f"{job_id} {name} {state} {start}..{end}"))
        found: dict[str, list[str]] = defaultdict(list)
        for part, times in spans.items():
            times.sort()
            for index, first in enumerate(times):
                for second in times[index + 1 :]:
                    if second[0] + 2 < first[1]:
                        found[part[:_BOOKING]].append(f"{first[2]} / {second[2]}")
        return found


def marks_of(pid: int) -> dict[str, str]:
    """What a process's own environment says of whose it is."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        text = ""
    found = dict(one.partition("=")[::2] for one in text.split("\0"))
    return {name: found.get(name, "") for name in ("CHAOS_RUN", "SLURM_JOB_ID")}


def listening_port(pid: int) -> int:
    """The TCP port that a process listens on; 0 for none yet."""
    try:
        links = [link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()]
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return 0
    inodes = {found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}
    for line in lines:
        words = line.split()
        if words[3] == _LISTEN and words[9] in inodes:
            return int(words[1].rpartition(":")[2], 16)
    return 0


__all__ = ["SERVICE", "Ledger", "Listener", "Overlap", "Process"]
