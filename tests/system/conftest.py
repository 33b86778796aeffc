"""Brings up what the system tests need: the Slurm cluster, Airflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.airflow import Airflow
from tests.support.cluster import REPO, TestCluster, bring_up, take_down
from tests.support.local import cluster, context, state

__all__ = ["cluster", "context", "state"]


@pytest.fixture(scope="session")
def running_slurm() -> Iterator[TestCluster]:
    cluster, ours = bring_up()
    yield cluster
    if ours:
        take_down()


@pytest.fixture
def slurm(running_slurm: TestCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestCluster]:
    """The cluster, with its connections `test_cluster` and `cluster_login`; afterwards nothing may be left on it."""
    for name, value in running_slurm.environment(poll_interval=1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        "airflow_brayns.task.metrics.stats",
        SimpleNamespace(incr=lambda *a: None, timing=lambda *a: None, gauge=lambda *a: None),
    )
    running_slurm.empty()
    yield running_slurm
    running_slurm.empty(10)


@pytest.fixture(autouse=True)
def _no_node_is_bad(request: pytest.FixtureRequest) -> None:
    if "running_slurm" in request.fixturenames:
        request.getfixturevalue("running_slurm").forget_failures()


@pytest.fixture(scope="session")
def airflow(running_slurm: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """A real Airflow with the project's DAGs, those of the tests, and the cluster's connections."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    (home / "dags" / "project").symlink_to(REPO / "dags")
    (home / "dags" / "tests").symlink_to(REPO / "tests" / "system" / "dags")
    quick = {
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    }
    one = Airflow(home, home / "dags", {**running_slurm.environment(poll_interval=2), **quick})
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def as_json(value: Any) -> str:
    return json.dumps(value)


@pytest.fixture(autouse=True)
def _unwrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of a task that a test runs itself are in one line, as in the unit tests."""
    monkeypatch.setattr("airflow_brayns.task.guard.in_lines", lambda text, **_: text)
