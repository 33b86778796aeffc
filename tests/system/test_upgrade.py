"""A run of a DAG of 0.2.0 goes on under this version: Airflow is stopped while its task waits, and started with the other package."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_brayns.movie.ffmpeg import ffmpeg
from tests.released import code, environment
from tests.support.airflow import COMPONENTS, Airflow
from tests.support.cluster import REPO, USER, TestCluster

pytestmark = pytest.mark.slurm

FORMER = "0.2.0"
QUICK = {"AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2", "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10"}


@pytest.fixture
def former(running_slurm: TestCluster, tmp_path: Path) -> Iterator[Airflow]:
    """An Airflow with 0.2.0 and its DAGs."""
    home = tmp_path / "airflow"
    (home / "dags").mkdir(parents=True)
    (home / "dags" / "project").symlink_to(code(FORMER) / "dags")
    path = environment(FORMER)["PYTHONPATH"]
    one = Airflow(home, home / "dags", {**running_slurm.environment(poll_interval=2), **QUICK, "PYTHONPATH": path})
    try:
        one.start_apart()
        yield one
    finally:
        one.stop()


def upgrade(airflow: Airflow) -> None:
    """Stop all of an Airflow's processes, exchange the package, start them again."""
    airflow.stop()
    airflow.environment["PYTHONPATH"] = str(REPO)
    for name in COMPONENTS:
        airflow.start_component(name)
    airflow.await_healthy(240)


def states(airflow: Airflow, run: str) -> dict[str, str]:
    """Of the run's tasks, and its own as ``""``: read from the database, since an API server with SQLite stands still at times."""
    tasks = (
        "SELECT task_id, state FROM task_instance WHERE run_id = ? UNION SELECT '', state FROM dag_run WHERE run_id = ?"
    )
    with contextlib.closing(sqlite3.connect(airflow.home / "airflow.db", timeout=60)) as database:
        return dict(database.execute(tasks, (run, run)))


def frames_in(movie: Path) -> int:
    """How many can be decoded."""
    told = subprocess.run([ffmpeg(), "-i", movie, "-f", "null", "-"], capture_output=True, text=True, check=True).stderr
    return int(re.findall(r"frame= *([0-9]+)", told)[-1])


def keeper_of(slurm: TestCluster) -> str:
    """The job script of the only allocation that waits."""
    [name] = {line.split()[-1] for line in slurm.queue() if " ab-" in line}
    folder, _, number = name.rpartition("-")
    return slurm.run("login", "cat", f"/home/{USER}/.airflow-brayns/{folder}/{number}/keeper.sh")


def test_a_task_that_deferred_under_the_former_version_resumes_under_this_one(
    running_slurm: TestCluster, former: Airflow, out: Path
) -> None:
    movie = {"models": [{"path": running_slurm.scene}], "frames": 6, "resolution": [160, 90], "renderer": {"name": "interactive"}}  # fmt: skip
    conf = {"cluster_conn_id": "test_cluster", "nodes": 1, "output": str(out / "movie.mp4"), "specification": movie}
    before = running_slurm.jobs_ever()
    blocker = running_slurm.ssh("sbatch --parsable -A proj3 -p prod -N4 --exclusive --wrap 'sleep 1800'").strip()
    try:
        run = former.trigger("brayns_movie", conf)
        former.until(
            lambda: states(former, run).get("brayns") == "deferred", 120, lambda: f"it waits: {states(former, run)}"
        )
        assert keeper_of(running_slurm).endswith(
            (code(FORMER) / "airflow_brayns" / "cluster" / "keeper.sh").read_text()
        )
        upgrade(former)
        assert states(former, run)["brayns"] == "deferred", "it waits on"
    finally:
        running_slurm.ssh(f"scancel {blocker}")
    former.until(
        lambda: states(former, run)[""] in ("success", "failed"), 240, lambda: f"it ends: {states(former, run)}"
    )
    assert set(states(former, run).values()) == {"success"}, states(former, run)
    assert running_slurm.jobs_ever() - before == 2, "the blocker, and one job for both versions"
    assert frames_in(out / "movie.mp4") == 6
    [log] = (former.home / "logs").glob("dag_id=brayns_movie/*/task_id=render/attempt=1.log")
    assert "in one pass of render-image" in log.read_text(), "0.2.0 had no such way"
    running_slurm.empty(10)
