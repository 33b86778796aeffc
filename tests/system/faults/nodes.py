"""Faults of nodes and of single jobs."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.system.faults.bench import Bench
from tests.system.faults.stages import LATER, ORDINARY
from tests.system.faults.table import Fault, Row, Scene

ON_2, ON_3 = {"sbatch_options": ["--nodelist=r1i1n2"]}, {"sbatch_options": ["--nodelist=r1i1n3"]}
ADDRESS = {"r1i1n2": "10.11.1.3", "r1i1n3": "10.11.1.4"}


def cancelled(scene: Scene) -> None:
    """By root."""
    for run in scene:
        for job in run.queued():
            scene.bench.on("slurmctl", "scancel", job)


def limit_reached(scene: Scene) -> None:
    """Its time is up: the limit is lowered to a minute, which is when the keeper is warned."""
    for run in scene:
        for job in run.queued("RUNNING"):
            scene.bench.on("slurmctl", "scontrol", "update", f"JobId={job}", "TimeLimit=1")
    names = tuple(name for run in scene for name in run.names)
    first = {job.job_id for job in scene.bench.watch.queued(names)}
    scene.bench.until(
        lambda: not first & {job.job_id for job in scene.bench.watch.queued(names)}, 120, "the jobs have ended"
    )


def held(scene: Scene) -> None:
    [job] = scene.only.queued("PENDING")
    scene.bench.on("slurmctl", "scontrol", "hold", job)
    time.sleep(10)
    scene.bench.on("slurmctl", "scontrol", "release", job)


def preempted(scene: Scene) -> None:
    """A job of a better partition wants the node."""
    node = scene.node
    scene.bench.cluster.ssh(f"sbatch -A proj3 -p prod -w {node} --exclusive --wrap 'sleep 8'")
    first = set(scene.only.queued("RUNNING"))
    scene.bench.until(lambda: not first & set(scene.only.queued()), 30, "the job is preempted")


def idle_again(bench: Bench, node: str) -> None:
    bench.until(
        lambda: bench.cluster.state(node)[0].startswith("idle"),
        90,
        f"{node} is idle",
        1,
    )


def for_a_while(begin: str, seconds: float, end: str) -> Callable[[Scene], None]:
    """A fault of the node that the service runs on, and its undoing."""

    def act(scene: Scene) -> None:
        node = scene.node
        scene.bench.cluster.fault(begin, node)
        time.sleep(seconds)
        scene.bench.cluster.fault(end, node)

    return act


def cut_from_login(node: str, seconds: float) -> Callable[[Scene], None]:
    """The login node, through which Airflow comes, cannot reach the node; Slurm can."""

    def act(scene: Scene) -> None:
        scene.bench.cluster.fault("blackhole", "login", ADDRESS[node])
        for run in scene:
            run.go_on()
        if seconds:
            time.sleep(seconds)
            scene.bench.cluster.fault("unblackhole", "login", ADDRESS[node])

    return act


def heal(node: str) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        scene.bench.cluster.fault("unblackhole", "login", ADDRESS[node])

    return act


LOST = r"ended as|ended before|orphaned|Clear the task"

FAULTS = [
    Fault(
        "cancelled_by_an_admin",
        cancelled,
        (
            Row("submitting", "success/success", "ended as CANCELLED|Submitted", jobs=(2, 2)),
            Row("pending", "success/success", "ended as CANCELLED", jobs=(2, 2)),
            Row("starting", "success/success", "ended as CANCELLED", jobs=(2, 2)),
            Row("waiting", "success/success", "ended as CANCELLED", jobs=(2, 2)),
            Row("rendering", "failed/failed", "ended as CANCELLED"),
            Row("movie", "success/success", "ended as CANCELLED", jobs=(2, 2)),
            Row("releasing", "success/success", "has been given back"),
        ),
    ),
    Fault(
        "time_limit_reached",
        limit_reached,
        (
            Row("starting", "success/success", "the time limit is near", jobs=(2, 2)),
            Row("movie", "success/success", "its allocation ends", jobs=(2, 2)),
        ),
    ),
    Fault("held", held, (Row("pending", "success/success", r"pending \(JobHeld", conf={"sbatch_options": [*ORDINARY, LATER]}),)),
    Fault(
        "preempted",
        preempted,
        (Row("waiting", "success/success", "PREEMPTED", jobs=(2, 2), conf={"partition": "scav", **ON_3}),),
        node="r1i1n3",
    ),
    Fault(
        "preempted_movie",
        preempted,
        (Row("movie", "success/success", "PREEMPTED", jobs=(2, 2), conf={"partition": "scav", **ON_3}),),
        node="r1i1n3",
    ),
    Fault(
        "slurmd_killed",
        for_a_while("kill-slurmd", 45, "start-slurmd"),
        (
            Row("starting", "success/success", "NODE_FAIL|Node failure on r1i1n2", jobs=(1, 2), deadline=150, conf=ON_2),
            Row("rendering", "(success/success|failed/failed)", "NODE_FAIL|were there", deadline=150, conf=ON_2),
        ),
        node="r1i1n2",
    ),
    Fault(
        "node_powered_off",
        for_a_while("poweroff", 45, "poweron"),
        (
            Row("starting", "success/success", LOST, jobs=(2, 2), deadline=150, conf=ON_3),
            Row("waiting", "success/success", LOST, jobs=(2, 2), deadline=150, conf=ON_3),
            Row("rendering", "failed/failed", LOST, deadline=150, conf=ON_3),
            Row("movie", "success/success", LOST, jobs=(2, 2), deadline=150, conf=ON_3),
        ),
        node="r1i1n3",
    ),
    Fault(
        "node_drained",
        for_a_while("drained", 10, "resume"),
        (
            Row("waiting", "success/success", "is usable at", conf=ON_2),
            Row("movie", "success/success", "frames", conf=ON_2),
        ),
        node="r1i1n2",
    ),
    Fault(
        "node_cut_for_30_s",
        cut_from_login("r1i1n2", 30),
        (
            Row("waiting", "success/success", "not usable yet", conf=ON_2),
            Row("rendering", "success/success", ".", conf=ON_2, deadline=150),
        ),
        node="r1i1n2",
    ),
    Fault(
        "node_cut_for_good",
        cut_from_login("r1i1n3", 0),
        (
            Row("waiting", "failed/failed", "start_timeout", dag_id="faults_once", conf={**ON_3, "start_timeout": 30}),
            Row("rendering", "failed/failed", ".", dag_id="faults_render_once", conf={**ON_3, "start_timeout": 30}, deadline=180),
        ),
        node="r1i1n3",
        after=heal("r1i1n3"),
    ),
]  # fmt: skip
