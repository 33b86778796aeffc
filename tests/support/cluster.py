"""The test cluster as tests see it: its connections, its queue, its machines' process tables."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
SCRIPT = REPO / "tests" / "cluster" / "cluster.sh"
FOLDER = Path(os.environ.get("CLUSTER_DIR", "/var/tmp/airflow-brayns-cluster"))
NODES = ("r1i1n0", "r1i1n1", "r1i1n2", "r1i1n3")
USER = "brayns-user"


@dataclass(frozen=True)
class TestCluster:
    """A running test cluster."""

    __test__ = False
    folder: Path = FOLDER

    @property
    def executable(self) -> str:
        return str(self.folder / "software" / "braynsService")

    @property
    def scene(self) -> str:
        return f"/home/{USER}/neuron.swc"

    def run(self, machine: str, *command: str) -> str:
        """As root inside a machine."""
        return subprocess.run(
            [self.folder / "bin" / "in", machine, *command], capture_output=True, text=True, check=True
        ).stdout

    def ssh(self, command: str) -> str:
        """As the user, through ssh."""
        return subprocess.run([self.folder / "bin" / "s", command], capture_output=True, text=True, check=True).stdout

    def fault(self, *words: str) -> None:
        subprocess.run([self.folder / "bin" / "fault", *words], check=True)

    def queue(self) -> list[str]:
        """Jobs that have not ended, from squeue itself."""
        return [line for line in self.run("slurmctl", "squeue", "-h", "-o", "%i %T %j").splitlines() if line]

    def jobs_ever(self) -> int:
        """How many jobs were submitted so far: those in the accounting, and those that the controller still knows.

        The accounting alone lags: slurmctld tells it of a job up to 5 s after its start, with its queue of messages empty
        meanwhile (seen: a job that had run and ended was missing for 4.5 s). The controller forgets a job after MinJobAge.
        """
        self.until(lambda: re.search(r"DBD Agent queue size: +0\b", self.run("slurmctl", "sdiag")))
        known = self.run("slurmctl", "squeue", "-a", "-h", "-t", "all", "-o", "%A")
        told = self.run("slurmctl", "sacct", "-a", "-X", "-n", "-P", "-S", "2020-01-01", "-o", "JobID")
        return len({*known.split(), *told.split()})

    def processes(self) -> list[str]:
        """Keepers and services on every machine, from the process tables."""
        found = []
        for machine in ("login", *NODES):
            for line in self.run(machine, "ps", "-wweo", "pid,args").splitlines():
                if "airflow_brayns.emulator" in line or "keeper.sh" in line or "slurm_script" in line:
                    found.append(f"{machine}: {line.strip()}")
        return found

    def left(self) -> list[str]:
        return [*self.queue(), *self.processes()]

    def until(self, holds: Callable[[], Any], seconds: float = 30) -> Any:
        end = time.monotonic() + seconds
        while not (value := holds()):
            assert time.monotonic() < end, f"not within {seconds} s; left: {self.left()}; nodes: {self.nodes()}"
            time.sleep(0.2)
        return value

    def empty(self, seconds: float = 30) -> None:
        """Await that nothing of ours is left.

        What is left all the same is ended, behind the error: the fault of one test is not the next thirty's.
        """
        try:
            self.until(lambda: not self.left(), seconds)
        except AssertionError:
            self.clear()
            raise

    def clear(self) -> None:
        """End whatever runs on the cluster, and put every node back to work."""
        for job in [line.split()[0] for line in self.queue()]:
            self.run("slurmctl", "sh", "-c", 'scancel "$1" || true', "sh", job)
        for node in NODES:
            self.back(node)

    def forget_failures(self) -> None:
        """What another test made fail, on purpose, makes no node one that is left out in this."""
        self.ssh("rm -rf .airflow-brayns/failures")

    def nodes(self) -> str:
        """What Slurm says of each node, and why."""
        told = self.run("slurmctl", "sinfo", "-h", "-N", "-p", "prod", "-o", "%N %T (%E)")
        return "; ".join(told.splitlines())

    def state(self, node: str) -> tuple[str, str]:
        """What Slurm says of a node, and why; "" where it says nothing of it.

        By `-N`: `sinfo -n NODE` alone has gone on for minutes not saying idle of a node that was (22.05, three times of forty).
        """
        for line in self.run("slurmctl", "sinfo", "-h", "-N", "-p", "prod", "-o", "%N %T %E").splitlines():
            name, state, why = line.split(maxsplit=2)
            if name == node:
                return state, why
        return "", ""

    def back(self, node: str, seconds: float = 240) -> None:
        """Await that a node takes jobs again. One that Slurm has set aside meanwhile (a step of it was killed) is resumed, said with its reason."""
        seen: list[str] = []

        def idle() -> bool:
            state, why = self.state(node)
            if seen[-1:] != [state]:
                seen.append(state)
            if re.match(r"drain|down(?!\*)", state):
                print(f"{node} is {state}: {why}; it is resumed")
                self.run("slurmctl", "scontrol", "update", f"NodeName={node}", "State=RESUME")
            return state.startswith("idle")

        try:
            self.until(idle, seconds)
        except AssertionError as error:
            raise AssertionError(f"{node} was {', '.join(seen)}; {error}") from None

    def login(self, **extra: Any) -> dict[str, Any]:
        """The SSH connection."""
        keys = {
            "key_file": str(self.folder / "keys" / "user"),
            "known_hosts": str(self.folder / "keys" / "known_hosts"),
        }
        return {"conn_type": "ssh", "host": "127.0.0.1", "port": 2222, "login": USER, "extra": {**keys, **extra}}

    def connection(self, **extra: Any) -> dict[str, Any]:
        """The `brayns_cluster` connection."""
        fields = {
            "scheduler": "slurm",
            "ssh_conn_id": "cluster_login",
            "account": "proj3",
            "partition": "prod",
            "executable": self.executable,
            "route": "ssh",
        }
        return {"conn_type": "brayns_cluster", "extra": {**fields, **extra}}

    def environment(self, **extra: Any) -> dict[str, str]:
        """The two connections as Airflow reads them from the environment."""
        return {
            "AIRFLOW_CONN_TEST_CLUSTER": json.dumps(self.connection(**extra)),
            "AIRFLOW_CONN_CLUSTER_LOGIN": json.dumps(self.login()),
        }


def bring_up() -> tuple[TestCluster, bool]:
    """The cluster, and whether it had to be brought up."""
    was_up = subprocess.run([SCRIPT, "is-up"], check=False, capture_output=True).returncode == 0
    done = subprocess.run([SCRIPT, "up"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the test cluster does not come up:\n{done.stdout}\n{done.stderr}")
    cluster = TestCluster()
    cluster.forget_failures()
    scene = Path(cluster.scene)
    shutil.copy(REPO / "dags" / "scenes" / "neuron.swc", scene)
    scene.chmod(0o644)
    return cluster, not was_up


def take_down() -> None:
    subprocess.run([SCRIPT, "down"], check=False, capture_output=True)
