"""A second Airflow under the same account, with the same DAG and a run of the same id: each keeps to its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.airflow import BIN
from tests.system.faults.bench import FOLDER, Run
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


def _end(path: Path) -> str:
    return path.read_text(errors="replace")[-1500:]


FAULTS = [
    Fault(
        "second_airflow",
        second_airflow,
        (Row("using", "success/success", "has been given back", conf={"run_id": RUN_ID}),),
    )
]
