"""What a fault is done to: the test cluster, a real Airflow, and runs of its DAGs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from tests.support.airflow import BIN, Airflow, database, free_port
from tests.support.cluster import REPO, USER, TestCluster, bring_up, take_down
from tests.system.faults.watch import Watch

_ROOM = 4  # a machine on which others compute takes so many times as long
INSTALLATION = "faults"
FOLDER = REPO / "build" / "faults"
PACKAGE = (
    FOLDER / "package"
)  # the package as it was when the table began: it can be upgraded there, and work goes on here
HOME = Path(f"/home/{USER}/faults")  # the same on every machine
GATES = HOME / "gates"
STUBBORN = HOME / "stubborn"  # a braynsService that does not heed SIGTERM: its release takes seconds
EXITS_0 = HOME / "exits-0"  # one that ends at once, without a word
NAMES_5104 = HOME / "names-5104"  # before it listens, its log names a port that is a stranger's
PLUGIN = "braynsCircuitExplorer"
# Short, so that a minute shows what an hour would; their proportions are Airflow's own.
QUICK = {
    "AIRFLOW__BRAYNS__INSTALLATION_ID": INSTALLATION,
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "3",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "64",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
}
_SLOW_SBATCH = f"""#!/bin/sh
# Stands before sbatch on the login machine: holds a submission, or its answer, while a gate is there.
for word in "$@"; do case $word in --job-name=*) name=$(printf %.15s "${{word#*=}}") ;; esac; done
hold() {{ while [ -e "{GATES}/$1.$name" ]; do sleep 0.1; done; }}
hold before
answer=$("{HOME}/sbatch" "$@")
code=$?
hold after
[ -z "$answer" ] || printf '%s\\n' "$answer"
exit $code
"""


def booking(dag_id: str, run_id: str, task_id: str, map_index: int = -1, installation: str = INSTALLATION) -> str:
    """What the names of a task's jobs begin with, worked out anew here."""
    text = "\0".join((installation, dag_id, run_id, task_id, str(map_index)))
    return "ab-" + hashlib.sha256(text.encode()).hexdigest()[:12]


class WatchedAirflow(Airflow):
    """With an API server of the table's own beside the one that Airflow's parts use: it answers while that one is away, and
    SQLite does not make the two kinds of requests wait for each other inside one event loop.
    """

    _window: subprocess.Popen[bytes] | None = None
    _groups: tuple[int, ...] = ()

    def start_component(self, name: str) -> None:
        super().start_component(name)
        self._groups += (self.components[name].pid,)
        if name == "api-server" and self._window is None:
            self.port = free_port()
            self._window = subprocess.Popen(
                [BIN / "airflow", "api-server"],
                env={**self.environment, "AIRFLOW__API__PORT": str(self.port)},
                stdout=(self.home / "window.log").open("wb"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._groups += (self._window.pid,)
            self._begun(self._window.pid)

    def stop(self) -> None:
        """Whatever was ever started: processes that give themselves a title hide the environment they are else known by."""
        super().stop()
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


@dataclass(eq=False)
class Run:
    """A DAG run that a fault is done to."""

    bench: Bench
    stage: str
    dag_id: str
    run_id: str
    conf: dict[str, Any]
    installation: str = INSTALLATION

    @property
    def task_id(self) -> str:
        """The task that owns the nodes."""
        return "movie" if "movie" in self.dag_id else "brayns"

    @property
    def names(self) -> tuple[str, ...]:
        if self.dag_id == "faults_mapped":
            return tuple(booking(self.dag_id, self.run_id, "film.brayns", index) for index in range(3))
        if self.dag_id == "faults_mapped_whole":
            return tuple(booking(self.dag_id, self.run_id, "brayns", index) for index in range(2))
        return (booking(self.dag_id, self.run_id, self.task_id, installation=self.installation),)

    @property
    def folder(self) -> Path:
        return FOLDER / "runs" / self.run_id

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    def state(self, task_id: str | None = None, map_index: int = -1) -> str:
        """A task's state, or the run's."""
        if task_id is None:
            return self.bench.states(self.dag_id, self.run_id).get("", "none")
        return self.bench.states(self.dag_id, self.run_id).get(f"{task_id}.{map_index}", "none")

    def log(self) -> str:
        """Everything that can be read in the logs of its tasks."""
        folder = self.bench.airflow.home / "logs" / f"dag_id={self.dag_id}" / f"run_id={self.run_id}"
        return "\n".join(_text(path) for path in sorted(folder.rglob("*.log")))

    def frames(self) -> int:
        return len(list((self.folder / "frames").glob("[0-9]*.png")))

    def queued(self, state: str = "") -> list[str]:
        """Ids of its jobs in the queue."""
        return [job.job_id for job in self.bench.watch.queued(self.names) if job.state.startswith(state)]

    def services(self) -> list[tuple[str, int]]:
        """Machine and pid of its braynsServices."""
        running = self.bench.watch.running(self.names)
        return [(one.machine, one.pid) for one in running if "airflow_brayns.emulator" in one.command]

    def go_on(self) -> None:
        """Take away whatever held it at its stage; the queue moves on too."""
        for name in self.names:
            for gate in GATES.glob(f"*.{name}"):
                gate.unlink(missing_ok=True)
        (GATES / f"start.{self.run_id}").unlink(missing_ok=True)
        if self.folder.exists():
            self.gate.touch()
        for _, pid in self.services():
            self.bench.signal(pid, signal.SIGCONT)
        for job in self.bench.watch.queued(self.names):
            if job.state == "PENDING" and job.reason == "BeginTime":
                self.bench.on("slurmctl", "scontrol", "update", f"JobId={job.job_id}", "StartTime=now")

    def patch(self, body: dict[str, Any], task_id: str = "") -> None:
        """As the user interface marks a run, or a task of it."""
        task = f"/taskInstances/{task_id}" if task_id else ""
        self.bench.api("PATCH", f"dags/{self.dag_id}/dagRuns/{self.run_id}{task}", body)

    def clear(self, *tasks: str | tuple[str, int]) -> None:
        body = {"dry_run": False, "only_failed": False, "dag_run_id": self.run_id, "task_ids": list(tasks)}
        self.bench.api("POST", f"dags/{self.dag_id}/clearTaskInstances", body)

    def pid(self, task_id: str) -> int:
        """The process of a running task."""
        path = f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{task_id}"
        return int(self.bench.api("GET", path)["pid"] or 0)


def _text(path: Path) -> str:
    """The events of a log file, and each error in one line: where a message's lines break is chance."""
    lines = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            one = json.loads(line)
            errors = one.get("error_detail") or []
            lines += [
                str(one.get("event", "")),
                *(" ".join(str(error.get("exc_value", "")).split()) for error in errors),
            ]
        except (ValueError, AttributeError):
            lines.append(line)
    return "\n".join(lines)


@dataclass
class Bench:
    """The cluster, Airflow, and who watches."""

    cluster: TestCluster
    airflow: Airflow
    watch: Watch
    nodes: dict[str, Lock] = field(default_factory=lambda: {name: Lock() for name in ("r1i1n2", "r1i1n3")})
    _states: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    _asked: float = 0.0
    _asking: Lock = field(default_factory=Lock)
    _runs: list[Run] = field(default_factory=list)

    # ---- the cluster --------------------------------------------------------------------------------------------
    def on(self, machine: str, *command: str) -> str:
        """As root on a machine; what it printed, also when it fails."""
        words = [self.cluster.folder / "bin" / "in", machine, *command]
        with contextlib.suppress(subprocess.TimeoutExpired):
            return subprocess.run(words, capture_output=True, text=True, check=False, timeout=30).stdout
        return ""

    def signal(self, pid: int, number: signal.Signals) -> None:
        """To a process of some machine, by the id that it has on this one; it may have ended by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def slow_sbatch(self) -> None:
        """Put `_SLOW_SBATCH` before sbatch on the login machine, whose mounts are its own."""
        self.usual_sbatch()
        real, slow = HOME / "sbatch", HOME / "slow-sbatch"
        script = f"touch {real} && mount --bind /usr/bin/sbatch {real} && mount --bind {slow} /usr/bin/sbatch"
        self.cluster.run("login", "sh", "-c", script)

    def usual_sbatch(self) -> None:
        """However often it was put before it."""
        for path in ("/usr/bin/sbatch", str(HOME / "sbatch")):
            self.on("login", "sh", "-c", f"while umount {path} 2>/dev/null; do :; done")

    # ---- runs ---------------------------------------------------------------------------------------------------
    def start(self, run: Run) -> None:
        run.folder.mkdir(parents=True)
        if run not in self._runs:
            self._runs.append(run)
        body = {"conf": run.conf, "logical_date": None, "dag_run_id": run.run_id}
        self.api("POST", f"dags/{run.dag_id}/dagRuns", body)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Airflow's API, one request at a time; once more where its database was busy."""
        with self._asking:
            try:
                return self.airflow.api(method, path, body)
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise
                time.sleep(1)
                return self.airflow.api(method, path, body)

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """States of a run ("") and of its tasks ("task.index"), at most a second old where Airflow answers."""
        with self._asking:
            if time.time() - self._asked > 1:
                self._asked = time.time()
                with contextlib.suppress(OSError, ValueError):
                    self._ask()
            return self._states.get((dag_id, run_id), {})

    def _ask(self) -> None:
        asked = {"dag_ids": sorted({run.dag_id for run in self._runs}), "page_limit": 100}
        open_runs = [run.run_id for run in self._runs]
        found: dict[tuple[str, str], dict[str, str]] = {}
        body = {**asked, "order_by": "-run_after"}
        for one in self.airflow.api("POST", "dags/~/dagRuns/list", body)["dag_runs"]:
            found[one["dag_id"], one["dag_run_id"]] = {"": str(one["state"])}
        tasks = self.airflow.api("POST", "dags/~/dagRuns/~/taskInstances/list", {**asked, "dag_run_ids": open_runs})
        for one in tasks["task_instances"]:
            states = found.setdefault((one["dag_id"], one["dag_run_id"]), {})
            states[f"{one['task_id']}.{one['map_index']}"] = str(one["state"])
        self._states = found

    def forget(self, run: Run) -> None:
        """It is not asked about any more."""
        with contextlib.suppress(ValueError):
            self._runs.remove(run)

    def until(self, holds: Callable[[], Any], seconds: float, what: str, pause: float = 0.2) -> Any:
        """Wait until something holds that takes so many seconds at most on a quiet machine."""
        seconds *= _ROOM
        end = time.time() + seconds
        while not (value := holds()):
            if time.time() > end:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}")
            time.sleep(pause)
        return value


def prepare_home() -> None:
    """What runs need on the cluster's file system."""
    shutil.rmtree(GATES, ignore_errors=True)
    GATES.mkdir(parents=True)
    (HOME / "slow-sbatch").write_text(_SLOW_SBATCH)
    STUBBORN.write_text(f"#!/bin/sh\ntrap '' TERM\nexec {TestCluster().executable} \"$@\"\n")
    EXITS_0.write_text(f'#!/bin/sh\n[ "$1" != --version ] || exec {TestCluster().executable} "$@"\nexit 0\n')
    NAMES_5104.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] || {{ echo "Server started on \'0.0.0.0:5104\'"; sleep 3; }}\n'
        f'exec {TestCluster().executable} "$@"\n'
    )
    for one in (HOME, GATES, HOME / "slow-sbatch", STUBBORN, EXITS_0, NAMES_5104):
        one.chmod(0o755)
        shutil.chown(one, USER)
    cube = Path(TestCluster().scene).with_name("cube.obj")
    shutil.copy(REPO / "tests" / "data" / "cube.obj", cube)
    cube.chmod(0o644)


@contextmanager
def bench() -> Iterator[Bench]:
    """All of it, brought up and taken down."""
    cluster, ours = bring_up()
    try:
        prepare_home()
        shutil.rmtree(FOLDER, ignore_errors=True)
        (FOLDER / "dags").mkdir(parents=True)
        shutil.copytree(REPO / "airflow_brayns", PACKAGE / "airflow_brayns")
        (FOLDER / "dags" / "faults").symlink_to(Path(__file__).parent / "dags")
        few = {"memory": "1G", "cpus_per_task": 2, "poll_interval": 2}  # many jobs share a node
        airflow = WatchedAirflow(FOLDER / "airflow", FOLDER / "dags", {**cluster.environment(**few), **QUICK})
        airflow.environment |= {
            "PYTHONPATH": str(PACKAGE),
            "AIRFLOW__CORE__PARALLELISM": "20",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database(airflow.home)}?timeout=60",
        }
        with Watch(cluster) as watch:
            one = Bench(cluster, airflow, watch)
            one.slow_sbatch()
            try:
                airflow.start_apart()
                unpause(one)
                yield one
            finally:
                airflow.stop()
                one.usual_sbatch()
    finally:
        if ours:
            take_down()


def unpause(one: Bench) -> None:
    """Every DAG of the table, once it is known."""

    def known() -> bool:
        try:
            dags = one.airflow.api("GET", "dags?dag_id_pattern=faults_&limit=100")["dags"]
        except urllib.error.URLError:
            return False
        return "faults_mapped" in {dag["dag_id"] for dag in dags}

    one.until(known, 90, "the DAGs are parsed", 1)
    for dag in one.airflow.api("GET", "dags?dag_id_pattern=faults_&limit=100")["dags"]:
        one.airflow.api("PATCH", f"dags/{dag['dag_id']}", {"is_paused": False})
