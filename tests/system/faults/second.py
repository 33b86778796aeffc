"""A second Airflow under the same account, with the same DAG and a run of the same id: each keeps to its own.

And the clone of an Airflow, mark and all: to it every run that the first one began since seems deleted.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.support.airflow import BIN
from tests.system.faults.bench import FOLDER, Bench, Run
from tests.system.faults.table import Fault, Row, Scene

MARK = "faults-second"
RUN_ID = "manual__2026-01-02T03:04:05+00:00"
# What `airflow dags test` does, which has no option for the run's id: it is made of this time.
TEST = """
import json, sys, pendulum
from airflow.dag_processing.dagbag import DagBag
dag_id, conf = sys.argv[1:]
when = pendulum.datetime(2026, 1, 2, 3, 4, 5)
run = DagBag().dags[dag_id].test(logical_date=when, run_after=when, run_conf=json.loads(conf))
sys.exit(0 if run.state == "success" else f"{run.run_id} is {run.state}")
"""


def second_airflow(scene: Scene) -> None:
    """It runs the same; the first one ends, and the second one's service must live on until its own end."""
    bench, first = scene.bench, scene.only
    twin = Run(bench, first.stage, first.dag_id, RUN_ID, {}, installation=MARK)
    home = FOLDER / "second"
    database = f"sqlite:///{home / 'airflow.db'}"
    environment = {
        **bench.airflow.environment,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__BRAYNS__INSTALLATION_ID": MARK,
    }
    home.mkdir(parents=True)
    subprocess.run([BIN / "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    gate = home / "gate"
    conf = json.dumps({**first.conf, "gate": str(gate)})
    words = [sys.executable, "-c", TEST, first.dag_id, conf]
    with (home / "out").open("wb") as out:
        process = subprocess.Popen(words, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        bench.until(twin.services, 90, f"the second Airflow's service runs; {_end(home / 'out')}")
        first.gate.touch()
        bench.until(lambda: first.state() == "success", 60, "the first Airflow's run has ended")
        if not twin.services() or not twin.queued("RUNNING"):
            raise AssertionError("the first Airflow's end took the second one's service along")
        gate.touch()
        process.wait(60)
        assert process.returncode == 0, _end(home / "out")
        bench.until(lambda: not bench.watch.left(twin.names), 20, f"the second one's is given back: {twin.names}")
    finally:
        process.kill()
        process.wait(10)
    for run, seen in ((first, 1), (twin, 1)):
        if (jobs := bench.watch.ever(run.names)) != seen:
            raise AssertionError(f"{run.installation}: {jobs} jobs, not {seen}")


CLONE = FOLDER / "clone"


def clone(bench: Bench) -> None:
    """The database, copied before the run began."""
    shutil.rmtree(CLONE, ignore_errors=True)
    CLONE.mkdir(parents=True)
    source = sqlite3.connect(bench.airflow.home / "airflow.db")
    with contextlib.closing(source), contextlib.closing(sqlite3.connect(CLONE / "airflow.db")) as target:
        source.backup(target)


def cloned_airflow(scene: Scene) -> None:
    """It reaps, and releases by name: both are told whose it is, and the first one's service lives on."""
    first = scene.only
    environment = {
        **scene.bench.airflow.environment,
        "AIRFLOW_HOME": str(CLONE),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{CLONE / 'airflow.db'}",
    }
    [name] = first.names

    def command(*words: str) -> str:
        there = [BIN / "airflow", "brayns", *words, "--cluster-conn-id", "test_cluster"]
        done = subprocess.run(there, env=environment, check=False, capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr

    for words, told in ((("reap", "--yes"), "has the same mark"), (("release", name), "--any-installation")):
        if told not in (said := command(*words)):
            raise AssertionError(f"{words}: {said[-1500:]}")
        if not first.services() or not first.queued("RUNNING"):
            raise AssertionError(f"{words} of the clone ended the first one's service")
    first.gate.touch()


def _end(path: Path) -> str:
    return path.read_text(errors="replace")[-1500:]


FAULTS = [
    Fault(
        "cloned_airflow",
        cloned_airflow,
        (Row("using", "success/success", "has been given back"),),
        before=clone,
    ),
    Fault(
        "second_airflow",
        second_airflow,
        (Row("using", "success/success", "has been given back", conf={"run_id": RUN_ID}),),
    ),
]
