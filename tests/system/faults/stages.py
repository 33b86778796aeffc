"""At which point of its way a run is when a fault comes, how it is held there, and how to tell that it is there."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.airflow import TAKEN_OVER
from tests.support.cluster import USER
from tests.system.faults.bench import GATES, HOME, PLUGIN, STUBBORN, Bench, Run

ORDINARY = ["--exclude=r1i1n2,r1i1n3"]  # these two are for faults of nodes
LATER = "--begin=now+1hour"
_AT_THEIR_STAGES = 400.0  # seconds until all runs of a fault are where it hits them; a busy machine takes minutes


@dataclass(frozen=True)
class Stage:
    """A point on the way.

    :param name: `told`: its log says that the state folder is full; `asking`: sbatch has not run yet; `submitting`: it has taken the job, its answer is still on its way;
        `pending`; `starting`: the job runs, its service is being set up; `waiting`: its port is open, its plugins are not
        loaded
        (it is stopped, which looks the same); `rendering`; `movie`: the same, in a task that allocates for itself; `using`: somebody else works with it; `releasing`: told to end, its service takes its time.
    :param there: whether a run is there.
    :param task: whose state tells the end.
    :param gate: what holds it there; see `Run.go_on`.
    :param wave: which come later are started later, since they cannot be held for long.
    """

    name: str
    there: Callable[[Run], Any]
    task: str = "brayns"
    gate: str = ""
    conf: dict[str, Any] = field(default_factory=dict)
    dag_id: str = "faults_service"
    wave: int = 1


def _asking(run: Run) -> bool:
    return any(f"job-name={name}".encode() in _commands() for name in run.names)


def _commands() -> bytes:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return b"\n".join(found)


def _awaited(run: Run, word: str) -> bool:
    """Whether it was said, and who waits for good waits: a deferrable task waits in its worker first, and of what is marked between
    the deferral and the triggerer's taking over nobody is told.
    """
    if "blocking" in run.dag_id or "movie" in run.dag_id or "mapped" in run.dag_id:
        return word in run.log()
    log = run.log()
    return run.state(run.task_id) == "deferred" and word in log and re.search(TAKEN_OVER, log) is not None


def _pending(run: Run) -> bool:
    return bool(run.queued("PENDING")) and _awaited(run, "pending (")


def _starting(run: Run) -> bool:
    return bool(run.bench.watch.running(run.names)) and _awaited(run, "running on")


def _waiting(run: Run) -> bool:
    """Its port is open, its plugin is loading; then it is stopped, which looks the same from outside, for as long as need be."""
    if not run.services() or "Loading plugin '" not in service_logs(run):
        return False
    for _, pid in run.services():
        run.bench.signal(pid, signal.SIGSTOP)
    return _awaited(run, "running on")


def state_dir(run: Run) -> Path:
    """Where its allocations have their folders: a row may have given another place."""
    return Path(run.conf.get("state_dir") or f"/home/{USER}/.airflow-brayns")


def service_logs(run: Run) -> str:
    """What its services have written: the task's log shows only some of it. A folder may be on a file system that only the
    cluster's machines have.
    """
    logs = " ".join(f"{state_dir(run)}/{name}*/*/services/*/log" for name in run.names)
    return run.bench.on("login", "sh", "-c", f"cat {logs}")


def _using(run: Run) -> bool:
    tasks = run.bench.states(run.dag_id, run.run_id)
    return all(tasks.get(f"{name}") == "running" for name in tasks if "use" in name) and any("use" in n for n in tasks)


def _releasing(run: Run) -> bool:
    return any((state_dir(run) / f"{name}000" / "1" / "release").exists() for name in run.names)


STAGES = {
    stage.name: stage
    for stage in (
        Stage("asking", _asking, gate="before.{name}"),
        Stage("told", lambda run: "is full on the cluster" in run.log()),
        Stage("submitting", lambda run: run.queued(), gate="after.{name}", wave=3),
        Stage("pending", _pending, conf={"sbatch_options": [*ORDINARY, LATER]}),
        Stage("starting", _starting, gate="start.{run}", conf={"start_timeout": 240}),
        Stage(
            "waiting",
            _waiting,
            conf={"plugins": [PLUGIN], "emulator": "snapshot_seconds=0,plugin_seconds=15", "start_timeout": 240},
            wave=2,
        ),
        Stage(
            "rendering",
            lambda run: run.frames() >= 5,
            task="render",
            conf={"emulator": "snapshot_seconds=0,frame_seconds=0.4"},
            dag_id="faults_render",
            wave=2,
        ),
        Stage(
            "movie",
            lambda run: run.frames() >= 5,
            task="movie",
            conf={"emulator": "snapshot_seconds=0,frame_seconds=0.4"},
            dag_id="faults_movie",
            wave=2,
        ),
        Stage("using", _using, task="use", conf={"idle_limit": 200}),
        Stage("releasing", _using, task="brayns_release", conf={"executable": str(STUBBORN), "idle_limit": 200}),
    )
}
SIX = ("submitting", "pending", "starting", "waiting", "rendering", "releasing")


def make_run(bench: Bench, fault: str, stage: Stage, dag_id: str, changes: dict[str, Any]) -> Run:
    """A run that will be held at a stage; not started yet."""
    run_id = changes.pop("run_id", f"{fault}.{stage.name}.{time.time_ns() // 1_000_000}")
    run = Run(bench, stage.name, dag_id or stage.dag_id, run_id, {})
    frames = changes.pop("frames", 80)
    specification = {
        "models": [{"path": str(HOME.parent / "cube.obj")}],
        "frames": frames,
        "resolution": [96, 64],
        "renderer": {"name": "interactive"},
    }
    basics = {"folder": str(run.folder), "gate": str(run.gate), "sbatch_options": ORDINARY}
    run.conf = {**basics, "specification": specification, **stage.conf, **changes}
    return run


def hold(run: Run) -> None:
    """Make what holds it at its stage."""
    for name in run.names:
        if gate := STAGES[run.stage].gate.format(name=name, run=run.run_id):
            (GATES / gate).touch()


def park(bench: Bench, runs: list[Run]) -> None:
    """Bring all to their stages, so that all are there at once."""
    for wave in (1, 2, 3):
        away = [run for run in runs if STAGES[run.stage].wave == wave]
        for run in away:
            hold(run)
            bench.start(run)
        end = time.time() + _AT_THEIR_STAGES
        while away := [run for run in away if not STAGES[run.stage].there(run)]:
            if time.time() > end:
                raise TimeoutError(
                    f"not at their stages within {_AT_THEIR_STAGES:.0f} s: {', '.join(run.run_id for run in away)}"
                )
            time.sleep(0.2)
    releasing = [run for run in runs if run.stage == "releasing"]
    for run in releasing:
        run.gate.touch()
    for run in releasing:
        bench.until(lambda run=run: _releasing(run), _AT_THEIR_STAGES, f"{run.run_id} is being released", 0.1)
