"""Faults of the way to the cluster, of its login node and of slurmctld: all runs are hit, at whichever stage they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from tests.system.faults.airflow_parts import everywhere
from tests.system.faults.bench import Bench
from tests.system.faults.table import Fault, Scene


def slurm_answers(bench: Bench) -> None:
    bench.until(lambda: "UP" in bench.on("slurmctl", "timeout", "5", "scontrol", "ping"), 60, "slurmctld answers")


def for_a_while(begin: tuple[str, ...], seconds: float, end: tuple[str, ...]) -> Callable[[Scene], None]:
    """One of the test cluster's faults, and its undoing."""

    def act(scene: Scene) -> None:
        scene.bench.cluster.fault(*begin)
        time.sleep(seconds)
        scene.bench.cluster.fault(*end)
        slurm_answers(scene.bench)

    return act


def sessions_reset(scene: Scene) -> None:
    scene.bench.cluster.fault("kill-sshd-sessions", "login")


def login_rebooted(scene: Scene) -> None:
    scene.bench.cluster.fault("poweroff", "login")
    time.sleep(10)
    scene.bench.cluster.fault("poweron", "login")
    scene.bench.slow_sbatch()


def cut_for_good(scene: Scene) -> None:
    """Until every keeper has found out by itself that nobody comes any more."""
    scene.bench.cluster.fault("sshstall", "login")
    names = tuple(name for run in scene for name in run.names)
    try:
        scene.bench.until(lambda: not scene.bench.watch.running(names), 150, "the keepers end by themselves")
    finally:
        scene.bench.cluster.fault("sshflow", "login")


AWAY = {"pending": "does not answer", "starting": "does not answer", "waiting": "does not answer"}

# Whoever waits asks for nodes anew when the way is back; what was rendering has lost its allocation.
FOR_GOOD = tuple(
    replace(row, ends="failed/failed", reads="idle_limit", conf={"idle_limit": 40}, deadline=240)
    if row.stage == "rendering"
    else replace(row, conf={"idle_limit": 120 if row.stage == "releasing" else 40}, deadline=240)
    for row in everywhere({}, jobs=(1, 3))
)

FAULTS = [
    Fault("ssh_reset", sessions_reset, everywhere({}, jobs=(1, 2)), alone=True),
    Fault("ssh_refused", for_a_while(("sshreset", "login"), 20, ("sshback", "login")), everywhere(AWAY, jobs=(1, 2)), alone=True),
    Fault("ssh_black_holed", for_a_while(("drop", "login", "22"), 70, ("nofw", "login")), everywhere({}, jobs=(1, 2)), alone=True),
    Fault("sshd_restarted", for_a_while(("kill-sshd", "login"), 3, ("start-sshd", "login")), everywhere({}, jobs=(1, 2)), alone=True),
    Fault("login_node_rebooted", login_rebooted, everywhere({}, jobs=(1, 2)), alone=True),
    Fault("slurmctld_stopped", for_a_while(("stop-ctld", "slurmctl"), 60, ("cont-ctld", "slurmctl")), everywhere(AWAY, jobs=(1, 2)), alone=True),
    Fault("slurmctld_restarted", for_a_while(("term-ctld", "slurmctl"), 5, ("start-ctld", "slurmctl")), everywhere({}), alone=True),
    Fault("slurmctld_killed", for_a_while(("kill-ctld", "slurmctl"), 5, ("start-ctld", "slurmctl")), everywhere({}, jobs=(1, 2)), alone=True),
    Fault("cut_for_30_s", for_a_while(("sshstall", "login"), 30, ("sshflow", "login")), everywhere({}), alone=True),
    Fault("cut_for_good", cut_for_good, FOR_GOOD, alone=True),
]  # fmt: skip
