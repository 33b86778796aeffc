"""The main job through a real Airflow - scheduler, triggerer, worker as processes of their own - on the real cluster."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.movie.ffmpeg import ffmpeg
from tests.support.airflow import TAKEN_OVER, Airflow
from tests.support.cluster import NODES, TestCluster

pytestmark = pytest.mark.slurm


def conf(slurm: TestCluster, out: Path, **changes: Any) -> dict[str, Any]:
    movie = {
        "models": [{"path": slurm.scene}],
        "frames": 24,
        "resolution": [320, 180],
        "renderer": {"name": "interactive"},
    }
    common = {"cluster_conn_id": "test_cluster", "nodes": 4, "output": str(out / "movie.mp4")}
    return {**common, "specification": movie, **changes}


def test_a_movie_with_four_nodes(running_slurm: TestCluster, airflow: Airflow, out: Path) -> None:
    """Movie made; nothing in the queue, no keeper, no service afterwards; the contract of XCom."""
    run = airflow.trigger("brayns_movie", conf(running_slurm, out))
    assert airflow.finished("brayns_movie", run) == "success"
    told = subprocess.run(
        [ffmpeg(), "-i", out / "movie.mp4", "-f", "null", "-"], capture_output=True, text=True, check=True
    ).stderr
    assert "h264" in told
    assert "320x180" in told
    assert re.search(r"frame=\s*24\b", told)
    running_slurm.empty(10)
    endpoints = airflow.xcom("brayns_movie", run, "brayns", "return_value")
    services = airflow.xcom("brayns_movie", run, "brayns", "services")
    assert airflow.xcom("brayns_movie", run, "brayns", "endpoint").strip('"') == endpoints[0]
    assert {one["node"] for one in services} <= set(NODES)
    assert [one["endpoint"] for one in services] == endpoints
    log = airflow.log("brayns_movie", run, "brayns")
    assert "running on r1i1n0" in log
    assert "Server started on" in log, "the service's own log"
    links = airflow.api("GET", f"dags/brayns_movie/dagRuns/{run}/taskInstances/brayns/links")["extra_links"]
    assert set(links) == {"Brayns endpoint", "Slurm job", "Service log", "Tunnel command"}
    assert all(links.values()), links


def test_marked_failed_while_deferred_it_gives_back(running_slurm: TestCluster, airflow: Airflow, out: Path) -> None:
    blocker = running_slurm.ssh("sbatch --parsable -A proj3 -p prod -N4 --exclusive --wrap 'sleep 600'").strip()
    try:
        run = airflow.trigger("brayns_movie", conf(running_slurm, out))
        running_slurm.until(
            lambda: [line for line in running_slurm.queue() if " ab-" in line and "PENDING" in line], 90
        )
        # Marked before the triggerer has the trigger, nobody is told: there the keeper's idle limit is what ends the job.
        running_slurm.until(
            lambda: re.search(TAKEN_OVER, log := airflow.log("brayns_movie", run, "brayns")) and "pending (" in log, 60
        )
        airflow.api("PATCH", f"dags/brayns_movie/dagRuns/{run}/taskInstances/brayns", {"new_state": "failed"})
        running_slurm.until(lambda: not [line for line in running_slurm.queue() if " ab-" in line], 60)
    finally:
        running_slurm.ssh(f"scancel {blocker}")
    assert airflow.finished("brayns_movie", run) == "failed"
    running_slurm.empty(30)


def test_a_typo_in_the_account_is_told_at_once(running_slurm: TestCluster, airflow: Airflow, out: Path) -> None:
    run = airflow.trigger("brayns_movie", conf(running_slurm, out, account="porj3"))
    assert airflow.finished("brayns_movie", run) == "failed"
    tasks = airflow.tasks("brayns_movie", run)
    assert (tasks["brayns"], tasks["render"]) == ("failed", "upstream_failed")
    assert re.search("account: .*Slurm refused the request", airflow.log("brayns_movie", run, "brayns"))
    running_slurm.empty(5)


def test_an_output_that_cannot_be_written_asks_for_no_node(
    running_slurm: TestCluster, airflow: Airflow, out: Path
) -> None:
    before = running_slurm.jobs_ever()
    run = airflow.trigger("brayns_movie", conf(running_slurm, out, output="/proc/movie/movie.mp4"))
    assert airflow.finished("brayns_movie", run) == "failed"
    assert airflow.tasks("brayns_movie", run)["check"] == "failed"
    assert "output: " in airflow.log("brayns_movie", run, "check")
    assert running_slurm.jobs_ever() == before


def test_a_missing_scene_fails_and_gives_back(running_slurm: TestCluster, airflow: Airflow, out: Path) -> None:
    missing = {"models": [{"path": "/home/brayns-user/nothing.swc"}], "frames": 2}
    run = airflow.trigger("brayns_movie", conf(running_slurm, out, nodes=1, specification=missing))
    assert airflow.finished("brayns_movie", run) == "failed"
    log = airflow.log("brayns_movie", run, "render")
    assert re.search("models.0.path: .*/home/brayns-user/nothing.swc cannot be loaded", log)
    assert airflow.tasks("brayns_movie", run)["brayns_release"] == "success"
    running_slurm.empty(5)


def test_the_session_tells_how_to_connect(running_slurm: TestCluster, airflow: Airflow) -> None:
    run = airflow.trigger("brayns_session", {"cluster_conn_id": "test_cluster", "minutes": 5})
    running_slurm.until(lambda: airflow.tasks("brayns_session", run).get("keep") == "deferred", 120)
    log = airflow.log("brayns_session", run, "how_to_connect")
    assert re.search(r"Tunnel: ssh -N -L 5000:r1i1n\d:\d+ 127.0.0.1 -p 2222", log)
    assert 'brayns.Connector("localhost:5000")' in log
    listed = airflow.command("brayns", "services", "--cluster-conn-id", "test_cluster")
    assert f"brayns_session {run} brayns" in listed
    airflow.api("PATCH", f"dags/brayns_session/dagRuns/{run}/taskInstances/keep", {"new_state": "success"})
    assert airflow.finished("brayns_session", run) == "success"
    running_slurm.empty(10)


def test_the_commands(running_slurm: TestCluster, airflow: Airflow) -> None:
    printed = airflow.command(
        "brayns", "script", "brayns_movie", "brayns", "-c", '{"cluster_conn_id": "test_cluster", "nodes": 3}'
    )
    assert ": 3 jobs of 1 node on " in printed
    assert re.search(r"^env -i .* sbatch .*--nodes=1 --account=proj3", printed, re.MULTILINE)
    assert "keep()" in printed
    assert "braynsService" in printed
    assert not running_slurm.left()
    assert "airflow-brayns" in airflow.command("providers", "get", "airflow-brayns")
