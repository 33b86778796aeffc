"""Faults of braynsService, and of the port it listens on."""

from __future__ import annotations

import signal
import time

from tests.support.cluster import USER
from tests.system.faults.bench import EXITS_0, HOME, NAMES_5104, PLUGIN, Run
from tests.system.faults.table import Fault, Row, Scene

QUIET = "snapshot_seconds=0"
STARTED_ANEW = "set aside and started anew on its node"
PINNED = ["--nodelist=r1i1n1"]


def signal_services(scene: Scene, number: signal.Signals) -> None:
    for run in scene:
        for _, pid in scene.bench.until(lambda run=run: run.services() or setting_up(run), 20, "a service runs"):
            scene.bench.signal(pid, number)


def setting_up(run: Run) -> list[tuple[str, int]]:
    """The shell that will become the service."""
    return [(one.machine, one.pid) for one in run.bench.watch.running(run.names) if "/command" in one.command]


def killed(scene: Scene) -> None:
    signal_services(scene, signal.SIGKILL)


def hung(scene: Scene) -> None:
    """For good: `Run.go_on` would wake them, so the gate that holds whoever uses the next one is opened here."""
    signal_services(scene, signal.SIGSTOP)
    for run in scene:
        run.gate.touch()


def nothing(scene: Scene) -> None:
    """The service itself is the fault."""


def stale(port: int) -> tuple[object, object]:
    """Start, and stop, somebody's forgotten braynsService of the same user on a node, outside of any job."""
    pids: list[str] = []

    def start(scene: Scene) -> None:
        user = f"setpriv --reuid={USER} --regid={USER} --init-groups env -i PATH=/usr/bin:/bin HOME=/home/{USER}"
        service = f"{scene.bench.cluster.executable} --uri 0.0.0.0:{port}"
        script = f"setsid {user} {service} >{HOME}/stale.{port}.log 2>&1 </dev/null & echo $!"
        pids.append(scene.bench.cluster.run("r1i1n1", "sh", "-c", script).strip())
        time.sleep(2)

    def stop(scene: Scene) -> None:
        for pid in pids:
            scene.bench.on("r1i1n1", "kill", "-KILL", pid)

    return start, stop


def port_fault(name: str, port: int, asked: str, row: Row) -> Fault:
    """A stale service on `port` of the node, while `asked` is asked for."""
    start, stop = stale(port)
    conf = {"port": asked, "sbatch_options": PINNED, **row.conf}
    return Fault(
        name, start, (Row(row.stage, row.ends, row.reads, row.jobs, row.deadline, row.dag_id, conf=conf),), after=stop
    )  # type: ignore[arg-type]


FAULTS = [
    Fault(
        "service_killed",
        killed,
        (
            Row("starting", "success/success", r"exit(ed with| code) 137", jobs=(2, 2)),
            Row("waiting", "success/success", r"exit(ed with| code) 137", jobs=(2, 2)),
            Row("rendering", "success/success", r"started anew|will not render|set aside"),
        ),
    ),
    Fault(
        "service_hung",
        hung,
        (
            # Worker and keeper count the same seconds: whoever is first says so.
            Row("waiting", "success/success", r"start_timeout: [^|]*brayns1 on r1i1n\d was not usable|no service listened within 25 s", jobs=(2, 2), conf={"start_timeout": 25}),
            Row("rendering", "success/success", r"did not answer|no answer|within", deadline=150),
        ),
        stays=True,
    ),
    # One service is started anew, once; with the words of a time-out for a fact it went on for ever.
    Fault(
        "first_frame_hangs",
        nothing,
        (
            Row(
                "starting",
                "failed/failed",
                rf"\A(?!(.*{STARTED_ANEW}){{2}}).*{STARTED_ANEW}.*frame_timeout.*80 of 80 frames are missing",
                deadline=240,
                dag_id="faults_movie_impatient",
                conf={"emulator": f"{QUIET},hang_at_picture=1"},
            ),
        ),
    ),
    Fault(
        "exits_0",
        nothing,
        (Row("asking", "failed/failed", r"exit(ed with| code) 0", dag_id="faults_once", conf={"executable": str(EXITS_0)}),),
    ),
    Fault(
        "exits_late",
        nothing,
        (
            Row(
                "starting",
                "failed/failed",
                r"exit(ed with| code) 3",
                dag_id="faults_once",
                conf={"emulator": f"{QUIET},plugin_seconds=40,exit_after_seconds=5,exit_code=3", "plugins": [PLUGIN]},
            ),
        ),
    ),
    Fault(
        "never_listens",
        nothing,
        (
            Row(
                "starting",
                "failed/failed",
                r"start_timeout",
                dag_id="faults_once",
                conf={"emulator": "never_listens=1", "start_timeout": 20},
            ),
        ),
    ),
    # One service's answer must not end the triggerer: it resumes its own task, and the other one's beside it.
    Fault(
        "hostile_answer",
        nothing,
        (
            Row("waiting", "success/success", "is usable at", conf={"emulator": f"{QUIET},plugin_seconds=15,hostile=1"}),
            Row("starting", "success/success", "is usable at"),
        ),
    ),
    port_fault(
        "port_stolen",
        5101,
        "5101",
        Row("asking", "failed/failed", dag_id="faults_once", reads=rf"port 5101 on r1i1n1 is already in use by a process of user {USER} \(pid \d+: .*--uri 0.0.0.0:5101"),
    ),
    port_fault(
        "port_shared",
        5102,
        "5102",
        Row("starting", "failed/failed", dag_id="faults_once", reads=rf"port 5102 on r1i1n1 is shared with a process of user {USER} \(pid \d+"),
    ),
    port_fault("port_0_named", 5104, "0", Row("asking", "success/success", r"is usable at r1i1n1:(?!5104)\d+", conf={"executable": str(NAMES_5104)})),
    port_fault("port_0_beside", 5103, "0", Row("asking", "success/success", r"is usable at r1i1n1:(?!5103)\d+")),
]  # fmt: skip
