"""Faults of Airflow's own processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.system.faults.bench import PACKAGE, Bench
from tests.system.faults.stages import SIX
from tests.system.faults.table import Fault, Row, Scene

LONG = {"idle_limit": 150}
BLOCKING = "faults_blocking"
TASKS = {"rendering": "render", "movie": "movie", "releasing": "brayns_release", "using": "use"}


def worker_killed(scene: Scene) -> None:
    """The task's process and the worker that looks after it, at once: as if their machine had died."""
    for run in scene:
        task = TASKS.get(run.stage, "brayns")
        scene.bench.until(lambda run=run, task=task: _kill(run.pid(task)), 20, f"{run.run_id}: {task} is killed")


def _kill(pid: int) -> bool:
    """Whether it was there to be killed."""
    try:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
        for one in (parent, pid):
            os.kill(one, signal.SIGKILL)
    except OSError:
        return False
    return True


def restart(bench: Bench, *names: str, number: signal.Signals, away: float) -> None:
    """End parts of Airflow, and start them again after a while."""
    for name in names:
        bench.airflow.signal_component(name, number)
    for name in names:
        with contextlib.suppress(Exception):
            bench.airflow.components[name].wait(20)
        bench.airflow.signal_component(name, signal.SIGKILL)
    time.sleep(away)
    for name in names:
        bench.airflow.start_component(name)
    bench.airflow.await_healthy()


def restarted(*names: str, number: signal.Signals = signal.SIGTERM, away: float = 3) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        restart(scene.bench, *names, number=number, away=away)

    return act


def api_server_stalled(scene: Scene) -> None:
    """It takes its time over every answer: whoever asks in between must neither hold the nodes nor lose its place."""
    scene.bench.airflow.signal_component("api-server", signal.SIGSTOP)
    time.sleep(8)
    scene.bench.airflow.signal_component("api-server", signal.SIGCONT)


def dies_after_its_proof(scene: Scene) -> None:
    """What proved usable ends while the task waits for Airflow's word that it is still wanted: its last question before it
    hands on.
    """
    run = scene.only
    scene.bench.airflow.signal_component("api-server", signal.SIGSTOP)
    try:
        run.go_on()
        # Who writes its log asks that server too, and may be held by it: then it has proved usable, and the log tells later. No
        # longer than 4 s, on a busy machine too: a task that Airflow has not heard of for 20 s is taken for lost.
        end = time.monotonic() + 4
        while time.monotonic() < end and "is usable: braynsService" not in run.log():
            time.sleep(0.2)
        for _, pid in run.services():
            scene.bench.signal(pid, signal.SIGKILL)
        time.sleep(6)  # so that the proof is older than it may be
    finally:
        scene.bench.airflow.signal_component("api-server", signal.SIGCONT)


def at_once(scene: Scene) -> None:
    """That the service is there at once is the fault: see apache/airflow#71580."""


def upgraded(scene: Scene) -> None:
    """Another version, whose scripts for the cluster are other ones, while services of this one run."""
    package = PACKAGE / "airflow_brayns"
    first = package / "version.py"
    first.write_text(re.sub(r"^__version__ = .*", '__version__ = "99.0"', first.read_text(), flags=re.MULTILINE))
    for script in (package / "cluster" / "scripts").glob("*.sh"):
        script.write_text(f"{script.read_text()}\n# version 99\n")
    restart(scene.bench, "triggerer", "scheduler", number=signal.SIGTERM, away=3)


USABLE = r"braynsService 3\.10\.1 is usable at r1i1n\d:\d+"
READS = {"rendering": r"80 frames rendered|\d+ frames rendered, \d+ were there", "releasing": "has been given back"}


def everywhere(reads: dict[str, str], jobs: tuple[int, int] = (1, 1), deadline: float = 150) -> tuple[Row, ...]:
    """All six stages; each run comes to its good end, with pauses between its tries: else they are used up meanwhile.

    :param reads: by stage; the others read of a usable service, of frames, of nodes given back.
    """
    return tuple(
        Row(
            stage,
            "success/success",
            {**READS, **reads}.get(stage, USABLE),
            jobs,
            deadline,
            "faults_patient_render" if stage == "rendering" else "faults_patient",
            conf=LONG,
        )
        for stage in SIX
    )


FAULTS = [
    Fault(
        "worker_killed",
        worker_killed,
        (
            Row("asking", "success/success", "Found the running|Submitted", dag_id=BLOCKING, conf=LONG),
            Row("submitting", "success/success", "Found the running", dag_id=BLOCKING, conf=LONG),
            Row("pending", "success/success", "Found the running", dag_id=BLOCKING, conf=LONG),
            Row("starting", "success/success", "Found the running", dag_id=BLOCKING, conf=LONG),
            Row("waiting", "success/success", "Found the running", dag_id=BLOCKING, conf=LONG),
            Row("rendering", "success/success", r"An earlier try|\d+ were there", conf=LONG),
            Row("movie", "success/success", "Found the running", conf=LONG),
            Row("releasing", "success/success", "has been given back", conf=LONG),
        ),
    ),
    Fault("triggerer_killed", restarted("triggerer", number=signal.SIGKILL), everywhere({}), alone=True),
    Fault("triggerer_terminated", restarted("triggerer"), everywhere({}), alone=True),
    Fault("scheduler_restarted", restarted("scheduler"), everywhere({}, jobs=(1, 2)), alone=True),
    Fault(
        "api_server_away",
        restarted("api-server", away=60),
        everywhere({}, (1, 2), 200),
        alone=True,
    ),
    Fault(
        "api_server_stalled",
        api_server_stalled,
        (
            Row("starting", "success/success", USABLE, dag_id=BLOCKING, conf=LONG),
            Row("movie", "success/success", r"80 frames|\d+ of 80 frames", conf=LONG),
        ),
        alone=True,
    ),
    Fault(
        "dies_after_its_proof",
        dies_after_its_proof,
        (Row("starting", "success/success", r"exit(ed with| code) 137", jobs=(2, 2), dag_id=BLOCKING, conf=LONG),),
        alone=True,
    ),
    Fault(
        "ready_at_once",
        at_once,
        (Row("asking", "success/success", USABLE, dag_id="faults_impatient", conf=LONG),),
    ),
    Fault("upgraded", upgraded, everywhere({}, jobs=(1, 2)), alone=True),
]
