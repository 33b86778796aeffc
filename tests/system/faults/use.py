"""Faults of working with a service: logins that drop, strangers on its port, work without a byte, two movies at once."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.cluster import USER
from tests.system.faults.bench import HOME
from tests.system.faults.services import PINNED, QUIET, killed, nothing
from tests.system.faults.table import Fault, Row, Scene

OTHER = "brayns-other"
NODE = "r1i1n1"
DROPS, APART = 2, 12.0
NOT_SET_ASIDE = r"\A(?!.*is set aside).*"
IDLE_LIMIT = 40  # seconds; a busy machine takes half of them to come from the hand-over to the task that uses it
_strangers: list[str] = []


def dropped_twice(scene: Scene) -> None:
    """The services are in the best of health."""
    for drop in range(DROPS):
        if drop:
            time.sleep(APART)
        scene.bench.cluster.fault("kill-sshd-sessions", "login")


def ports(scene: Scene) -> list[str]:
    """Where the runs' services listen."""
    folder = Path(f"/home/{USER}/.airflow-brayns")
    names = [name for run in scene for name in run.names]
    return [one.read_text().strip() for name in names for one in folder.glob(f"{name}*/*/services/*/listening")]


def taken_by_a_stranger(scene: Scene) -> None:
    """A process of another account waits for the port, and then the service dies."""
    [port] = ports(scene)
    user = f"setpriv --reuid={OTHER} --regid={OTHER} --init-groups env -i PATH=/usr/bin:/bin HOME=/home/{OTHER}"
    service = f"{user} {scene.bench.cluster.executable} --uri 0.0.0.0:{port}"
    script = f"setsid sh -c 'while :; do {service}; sleep 0.05; done' >{HOME}/stranger.log 2>&1 </dev/null & echo $!"
    _strangers.append(scene.bench.cluster.run(NODE, "sh", "-c", script).strip())
    time.sleep(2)
    killed(scene)


def stranger_leaves(scene: Scene) -> None:
    for pid in _strangers:
        scene.bench.on(NODE, "sh", "-c", f"kill -KILL -{pid}")
    _strangers.clear()


def works_for_long(scene: Scene) -> None:
    """Three times `IDLE_LIMIT`, without a byte on the port."""
    time.sleep(3 * IDLE_LIMIT)


FAULTS = [
    Fault(
        "login_dropped_twice",
        dropped_twice,
        (
            Row("rendering", "success/success", NOT_SET_ASIDE + "was made anew", deadline=150),
            Row("movie", "success/success", NOT_SET_ASIDE + "was made anew", deadline=150),
        ),
        alone=True,
    ),
    Fault(
        "port_taken_by_a_stranger",
        taken_by_a_stranger,
        (
            Row(
                "rendering",
                "success/success",
                r"was killed by signal 9 \(SIGKILL\).*Last lines of brayns1",
                deadline=150,
                conf={"sbatch_options": PINNED},
            ),
        ),
        after=stranger_leaves,
        alone=True,
    ),
    Fault(
        "works_beyond_idle_limit",
        works_for_long,
        (
            Row(
                "using",
                "success/success",
                "it still answers: 3",
                dag_id="faults_working",
                jobs=(1, 2),
                conf={"idle_limit": IDLE_LIMIT},
            ),
        ),
    ),
    Fault(
        "two_movies_at_one_endpoint",
        nothing,
        (
            Row(
                "rendering",
                "success/success",
                r"faults_shared/.* renders with .*; waiting until it has stopped",
                deadline=180,
                dag_id="faults_shared",
                conf={"emulator": f"{QUIET},frame_seconds=0.2"},
            ),
        ),
    ),
]
