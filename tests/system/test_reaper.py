"""The reaper on the real cluster, by its DAG and by its command: what is ours and over goes, everything else stays."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.cluster.owner import Owner
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.services.booking import book
from tests.support.airflow import Airflow
from tests.support.cluster import USER, TestCluster

pytestmark = pytest.mark.slurm


def about(installation: str, dag_id: str, run_id: str) -> str:
    return json.dumps(
        {"installation": installation, "dag_id": dag_id, "run_id": run_id, "task_id": "t", "map_index": -1}
    )


async def allocate(name: str, text: str) -> str:
    hook = BraynsClusterHook("test_cluster", {"idle_limit": 1200, "memory": "100M"})
    async with hook.session() as session:
        booking = await book(session.cluster, session.settings, Owner(name, "somebody", text), nodes=1, plugins=[])
        return str(booking.allocations[0].job_id)


@pytest.fixture
def jobs(running_slurm: TestCluster, airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Jobs of a run that is gone, of one that has ended, of one that runs, without its folder, of another Airflow, and by hand."""
    for key, value in running_slurm.environment(poll_interval=1).items():
        monkeypatch.setenv(key, value)
    mark = airflow.environment["AIRFLOW__BRAYNS__INSTALLATION_ID"]
    run = airflow.trigger("brayns_session", {"cluster_conn_id": "test_cluster", "minutes": 5})
    over = airflow.trigger("brayns_reaper", {"cluster_conn_id": "test_cluster"})  # gives back what tests before left
    assert airflow.finished("brayns_reaper", over) == "success"
    airflow.api("PATCH", "dags/brayns_reaper", {"is_paused": True})  # a scheduled run must not come in between
    airflow.until(
        lambda: not airflow.api("GET", "dags/brayns_reaper/dagRuns?state=running")["dag_runs"], 60, "it rests"
    )
    running_slurm.until(lambda: airflow.tasks("brayns_session", run).get("keep") == "deferred", 120)
    sbatch = "sbatch --parsable --mem=100M -A proj3 -p prod --wrap 'sleep 600' -J"
    made = {
        "gone": asyncio.run(allocate("ab-aaaaaaaaaaaa", about(mark, "brayns_session", "deleted_run"))),
        "over": asyncio.run(allocate("ab-eeeeeeeeeeee", about(mark, "brayns_reaper", over))),
        "folderless": asyncio.run(allocate("ab-bbbbbbbbbbbb", about(mark, "brayns_session", run))),
        "theirs": asyncio.run(allocate("ab-cccccccccccc", about("another-airflow", "brayns_session", "deleted_run"))),
        "by_hand": running_slurm.ssh(f"{sbatch} ab-mine").strip(),
        "look_alike": running_slurm.ssh(f"{sbatch} ab-dddddddddddd000-1").strip(),
        "running": airflow.xcom("brayns_session", run, "brayns", "allocation")["allocations"][0]["job_id"],
    }
    running_slurm.until(lambda: sum("RUNNING" in line for line in running_slurm.queue()) == len(made))
    yield made
    airflow.api("PATCH", f"dags/brayns_session/dagRuns/{run}/taskInstances/keep", {"new_state": "success"})
    running_slurm.run("slurmctl", "scancel", *made.values())
    airflow.finished("brayns_session", run)
    for name in ("ab-bbbbbbbbbbbb000", "ab-cccccccccccc000"):
        shutil.rmtree(Path(f"/home/{USER}/.airflow-brayns/{name}"), ignore_errors=True)
    running_slurm.empty(30)


def test_only_what_is_ours_and_over_is_given_back(
    running_slurm: TestCluster, airflow: Airflow, jobs: dict[str, str]
) -> None:
    lost = Path(f"/home/{USER}/.airflow-brayns/ab-bbbbbbbbbbbb000")

    def alive() -> set[str]:
        ids = {line.split()[0] for line in running_slurm.queue() if "COMPLETING" not in line}
        return {name for name, job in jobs.items() if job in ids}

    said = airflow.command("brayns", "reap", "--cluster-conn-id", "test_cluster")
    assert "its DAG run was deleted" in said
    assert "its DAG run has ended (success)" in said
    assert said.count("would be given back") == 2
    assert alive() == set(jobs), "it only says so"

    run = airflow.trigger("brayns_reaper", {"cluster_conn_id": "test_cluster"})
    assert airflow.finished("brayns_reaper", run) == "success"
    running_slurm.until(lambda: alive() == set(jobs) - {"gone", "over"}, 15)
    offers = airflow.xcom("brayns_reaper", run, "reap", "brayns_offers")["test_cluster"]
    assert "proj3" in offers["accounts"] and {"prod"} <= {one["name"] for one in offers["partitions"]}

    # A job whose folder has gone ends by itself; a stopped keeper cannot, and is what the reaper is for.
    for machine, pid in keepers(running_slurm, str(lost)):
        running_slurm.run(machine, "kill", "-STOP", pid)
    shutil.rmtree(lost)
    said = airflow.command("brayns", "reap", "--cluster-conn-id", "test_cluster", "--yes")
    assert "its folder has gone" in said
    assert "given back" in said and "could not" not in said
    running_slurm.until(lambda: alive() == set(jobs) - {"gone", "over", "folderless"}, 30)
    said = airflow.command("brayns", "reap", "--cluster-conn-id", "test_cluster", "--yes", "--output", "json")
    rows = json.loads(said.strip().splitlines()[-1])
    assert all(row["done"].startswith("left alone") for row in rows), "nothing of ours is left behind"
    assert alive() == {"theirs", "by_hand", "look_alike", "running"}


def keepers(slurm: TestCluster, folder: str) -> list[tuple[str, str]]:
    """Machine and pid of an allocation's keeper."""
    found = []
    for machine in ("r1i1n0", "r1i1n1", "r1i1n2", "r1i1n3"):
        for line in slurm.run(machine, "ps", "-wweo", "pid,args").splitlines():
            if "slurm_script" in line and folder in line:
                found.append((machine, line.split()[0]))
    assert found, "its keeper is found"
    return found
