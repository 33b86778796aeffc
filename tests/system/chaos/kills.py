"""Kills: of every kind of process, at random, with what starts them again afterwards."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import random
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.cluster import NODES
from tests.system.chaos.ledger import SERVICE
from tests.system.chaos.runs import ChaosRun
from tests.system.faults.bench import Bench
from tests.system.faults.watch import Process, namespaces

KILL, TERM = signal.SIGKILL, signal.SIGTERM


@dataclass
class Arena:
    """What kills are done to.

    :param told: the last kills, for whoever reads a finding.
    """

    bench: Bench
    rng: random.Random
    runs: list[ChaosRun]
    began: float = field(default_factory=time.time)
    done: Counter[str] = field(default_factory=Counter)
    ended_by_itself: Counter[str] = field(default_factory=Counter)
    told: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    schedulers: set[int] = field(default_factory=set)
    faulted: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    _later: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=itertools.count)

    # ---- what is to be done afterwards --------------------------------------------------------------------------
    def later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.time() + seconds, next(self._count), act))

    def due(self, *, everything: bool = False) -> None:
        """Do what is due."""
        while self._later and (everything or self._later[0][0] <= time.time()):
            _, _, act = heapq.heappop(self._later)
            act()

    def start(self, name: str) -> None:
        """A part of Airflow, again."""
        self.bench.airflow.start_component(name)
        self.away.discard(name)
        if name == "scheduler":
            self.schedulers.add(self.bench.airflow.components[name].pid)

    def restart_what_ended(self) -> None:
        """As systemd does: Airflow's scheduler ends by itself when a run is deleted while it schedules it (3.3.2)."""
        for name, process in list(self.bench.airflow.components.items()):
            if name not in self.away and process.poll() is not None:
                self.note(f"({name} has ended by itself, with {process.returncode})")
                self.ended_by_itself[name] += 1
                self.start(name)

    def note(self, text: str) -> None:
        self.told.append(f"{time.time() - self.began:.1f} s: {text}")

    # ---- processes ----------------------------------------------------------------------------------------------
    def fault(self, *words: str) -> None:
        """One of the test cluster's; it may have nothing to hit."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.bench.cluster.fault(*words)

    def jobs_processes(self, holds: Callable[[Process], bool]) -> str:
        """Kill one of them; which."""
        found = sorted((one for one in self.bench.watch.processes if holds(one)), key=lambda one: (one.name, one.pid))
        if not found:
            return ""
        one = self.rng.choice(found)
        number = self.rng.choice((KILL, KILL, TERM))
        self.bench.signal(one.pid, number)
        return f"{number.name} {one.machine} {one.pid} {one.name}"

    def workers(self) -> dict[int, list[int]]:
        """Airflow's supervisors that look after a task, with the pids of the tasks."""
        parents: dict[int, list[int]] = {}
        table = {pid: parent for pid, (parent, _) in table_of_processes().items()}
        for pid, parent in table.items():
            if parent in table and is_worker(parent):
                parents.setdefault(parent, []).append(pid)
        return {pid: children for pid, children in parents.items() if self._ours(pid)}

    def _ours(self, pid: int) -> bool:
        return session_of(pid) in self.schedulers

    def forsaken(self) -> None:
        """Supervisors of a scheduler that was killed alone wait for ever when they have nothing to do."""
        busy = self.workers()
        current = self.bench.airflow.components["scheduler"].pid
        for pid, (_, session) in table_of_processes().items():
            if session in self.schedulers - {current} and pid not in busy and is_worker(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, KILL)


def table_of_processes() -> dict[int, tuple[int, int]]:
    """Parent and session of every process of this machine."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        found[int(path.parent.name)] = (int(words[1]), int(words[3]))
    return found


def is_worker(pid: int) -> bool:
    try:
        return b"airflow worker -- LocalExecutor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


# ---- Airflow ------------------------------------------------------------------------------------------------------
def task(arena: Arena, *, runner: bool, supervisor: bool) -> str:
    """A task's process, who looks after it, or both as if their machine had died."""
    found = sorted(arena.workers().items())
    if not found:
        return ""
    parent, children = arena.rng.choice(found)
    number = arena.rng.choice((KILL, KILL, TERM)) if runner and not supervisor else KILL
    title = _title(children[0])
    for pid in [*([parent] if supervisor else []), *(children if runner else [])]:
        arena.bench.signal(pid, number)
    return f"{number.name} {title}"


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:120]
    except OSError:
        return str(pid)


def component(arena: Arena, name: str, *, alone: bool = False) -> str:
    """A part of Airflow, started again soon after."""
    airflow = arena.bench.airflow
    number = arena.rng.choice((KILL, TERM))
    process = airflow.components[name]
    if alone:
        process.send_signal(number)
    else:
        airflow.signal_component(name, number)
    away = arena.rng.uniform(0.5, 4) + (0 if number == KILL else 4)

    def again() -> None:
        if process.poll() is None or not alone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, KILL) if not alone else process.kill()
        process.wait(10)
        arena.start(name)

    arena.away.add(name)
    arena.later(away, again)
    return f"{number.name}, back after {away:.1f} s"


# ---- the cluster --------------------------------------------------------------------------------------------------
def stepd(arena: Arena) -> str:
    """A slurmstepd of the cluster's."""
    machines = namespaces(arena.bench.cluster)
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if title.startswith("slurmstepd:") and (path.parent / "ns" / "pid").readlink().name in machines:
                found.append((int(path.parent.name), title.strip()))
        except OSError:
            continue
    if not found:
        return ""
    pid, title = arena.rng.choice(sorted(found))
    arena.bench.signal(pid, KILL)
    return title


def and_back(arena: Arena, begin: Sequence[str], end: Sequence[str], most: float, least: float = 1) -> str:
    away = arena.rng.uniform(least, most)
    arena.fault(*begin)
    arena.later(away, lambda: arena.fault(*end))
    return f"{begin[0]} {begin[1]} for {away:.1f} s"


def controller(arena: Arena) -> str:
    begin, end = arena.rng.choice(
        (("kill-ctld", "start-ctld"), ("term-ctld", "start-ctld"), ("stop-ctld", "cont-ctld"))
    )
    return and_back(arena, (begin, "slurmctl"), (end, "slurmctl"), 8)


def on_a_node(arena: Arena, begin: str, end: str, most: float, least: float) -> str:
    free = [node for node in NODES if node not in arena.faulted]
    if len(free) < 3:
        return ""
    node = arena.rng.choice(free)
    away = arena.rng.uniform(least, most)
    arena.faulted.add(node)
    arena.fault(begin, node)

    def heal() -> None:
        arena.fault(end, node)
        arena.later(5, lambda: arena.faulted.discard(node))

    arena.later(away, heal)
    return f"{begin} {node} for {away:.1f} s"


def resume_nodes(bench: Bench, but_for: set[str]) -> None:
    """Nodes that Slurm itself has set aside: of a step that was killed, say."""
    told = bench.on("slurmctl", "timeout", "5", "sinfo", "-h", "-N", "-p", "prod", "-o", "%N %T")
    for line in told.splitlines():
        node, state = line.split()
        if node not in but_for and state.rstrip("*") in ("down", "drained", "draining", "drng", "drain"):
            bench.on("slurmctl", "scontrol", "update", f"NodeName={node}", "State=RESUME")


# ---- people -------------------------------------------------------------------------------------------------------
def person(arena: Arena, act: Callable[[ChaosRun, random.Random], str]) -> str:
    """Somebody does something to a run."""
    found = [run for run in arena.runs if run.active]
    if not found:
        return ""
    run = arena.rng.choice(found)
    text = f"{run.run_id}: {act(run, arena.rng)}"
    run.acts.append(f"{time.time() - arena.began:.1f} s: {text}")
    return text


def _some_task(run: ChaosRun, rng: random.Random) -> str:
    return "movie" if run.is_movie else rng.choice(("brayns", "brayns", "use"))


def mark_failed(run: ChaosRun, rng: random.Random) -> str:
    name = _some_task(run, rng)
    run.patch({"new_state": "failed"}, name)
    return f"{name} marked failed"


def clear(run: ChaosRun, rng: random.Random) -> str:
    name = _some_task(run, rng)
    if rng.random() < 0.5:
        run.clear(name)
        return f"{name} cleared"
    run.clear_all(name)
    return f"{name} and what comes after it cleared"


def mark_run_failed(run: ChaosRun, rng: random.Random) -> str:
    run.patch({"state": "failed"})
    return "run marked failed"


def delete(run: ChaosRun, rng: random.Random) -> str:
    """Airflow wants it marked before; what is going on of it has no time to end."""
    run.patch({"state": "failed"})
    run.bench.api("DELETE", f"dags/{run.dag_id}/dagRuns/{run.run_id}")
    run.saw("deleted")
    return "run deleted"


def cancel(run: ChaosRun, rng: random.Random) -> str:
    ids = run.queued()
    if ids:
        run.bench.on("slurmctl", "timeout", "8", "scancel", rng.choice(ids))
    return f"scancel of one of {ids} by root"


@dataclass(frozen=True)
class Kind:
    """A kind of kill.

    :param weight: how often, beside the others.
    :param gap: seconds between two of them: what is killed needs time to come back.
    """

    name: str
    act: Callable[[Arena], str]
    weight: float
    gap: float = 0


def _of_jobs(holds: Callable[[Process], bool]) -> Callable[[Arena], str]:
    return lambda arena: arena.jobs_processes(holds)


def _is_wrapper(one: Process) -> bool:
    return " wrap " in one.command and not one.command.startswith("srun")


KINDS = (
    Kind("task", lambda arena: task(arena, runner=True, supervisor=False), 7),
    Kind("supervisor", lambda arena: task(arena, runner=False, supervisor=True), 4),
    Kind("worker", lambda arena: task(arena, runner=True, supervisor=True), 4),
    Kind("triggerer", lambda arena: component(arena, "triggerer"), 2, 70),
    Kind("scheduler", lambda arena: component(arena, "scheduler"), 1.5, 80),
    Kind("scheduler_alone", lambda arena: component(arena, "scheduler", alone=True), 1.5, 80),
    Kind("dag-processor", lambda arena: component(arena, "dag-processor"), 1, 100),
    Kind("api-server", lambda arena: component(arena, "api-server"), 2, 80),
    Kind("service", _of_jobs(lambda one: SERVICE in one.command), 10),
    Kind("keeper", _of_jobs(lambda one: "slurm_script" in one.command), 5),
    Kind("wrapper", _of_jobs(_is_wrapper), 5),
    Kind("srun", _of_jobs(lambda one: one.command.startswith("srun")), 2),
    Kind("slurmstepd", stepd, 4),
    Kind("slurmd", lambda arena: on_a_node(arena, "kill-slurmd", "start-slurmd", 10, 1), 2, 20),
    Kind("node", lambda arena: on_a_node(arena, "poweroff", "poweron", 25, 3), 1, 90),
    Kind("slurmctld", controller, 2, 30),
    Kind("sshd_sessions", lambda arena: and_back(arena, ("kill-sshd-sessions", "login"), ("sshdelay", "0"), 1.1), 4),
    Kind("relay_reset", lambda arena: and_back(arena, ("sshreset", "login"), ("sshback", "login"), 5), 2, 15),
    Kind("relay_stall", lambda arena: and_back(arena, ("sshstall", "login"), ("sshflow", "login"), 8), 2, 15),
    Kind("marked_failed", lambda arena: person(arena, mark_failed), 3),
    Kind("cleared", lambda arena: person(arena, clear), 4),
    Kind("run_marked_failed", lambda arena: person(arena, mark_run_failed), 2),
    Kind("run_deleted", lambda arena: person(arena, delete), 2),
    Kind("scancel", lambda arena: person(arena, cancel), 4),
)
TOGETHER = {  # kinds that share their gap
    "scheduler_alone": "scheduler",
    "relay_stall": "relay_reset",
}


class Killer:
    """Kills something every so many seconds."""

    def __init__(self, arena: Arena, every: float, only: Sequence[str] = ()) -> None:
        self.arena, self.every = arena, every
        self.kinds = [kind for kind in KINDS if not only or kind.name in only]
        self._last: dict[str, float] = {}
        self._next = time.time() + 5

    def turn(self) -> None:
        """Kill, if it is time."""
        arena = self.arena
        if time.time() < self._next:
            return
        self._next = time.time() + arena.rng.expovariate(1 / self.every)
        ready = [kind for kind in self.kinds if time.time() - self._last.get(_group(kind), 0) >= kind.gap]
        if not ready:
            return
        [kind] = arena.rng.choices(ready, [one.weight for one in ready])
        self._last[_group(kind)] = time.time()
        try:
            text = kind.act(arena)
        except (OSError, subprocess.SubprocessError) as error:  # it ended by itself; Airflow's API was away
            text = ""
            arena.note(f"({kind.name}: {error})")
        if text:
            arena.done[kind.name] += 1
            arena.note(f"{kind.name}: {text}")


def _group(kind: Kind) -> str:
    return TOGETHER.get(kind.name, kind.name)
