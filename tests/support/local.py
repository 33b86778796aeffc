"""A local cluster as a connection, for operators: pytest fixtures that conftest files take from here."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.task import NAME_OF_EMULATOR, Ti

if TYPE_CHECKING:
    from airflow_brayns import BraynsMovieOperator


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": Ti()}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, state: Path) -> Iterator[SimpleNamespace]:
    """A local cluster as connection `here`; afterwards nothing of it may be running."""
    extra = {"scheduler": "local", "executable": NAME_OF_EMULATOR, "state_dir": str(state), "poll_interval": 1}
    monkeypatch.setenv("AIRFLOW_CONN_HERE", json.dumps({"conn_type": "brayns_cluster", "extra": extra}))
    monkeypatch.setattr(
        "airflow_brayns.task.metrics.stats",
        SimpleNamespace(incr=lambda *a: None, timing=lambda *a: None, gauge=lambda *a: None),
    )
    monkeypatch.setattr("airflow_brayns.triggers.base.HOLD_SECONDS", 0.0)  # no scheduler takes part
    logging.getLogger("airflow.task").setLevel(logging.INFO)
    yield SimpleNamespace(conn_id="here", running=lambda: running(state))
    until = time.monotonic() + 5  # a keeper that was told to end does so by itself
    while (left := running(state)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left, f"left behind: {left}"


def running(state: Path) -> list[str]:
    """Every process of the allocations under `state`, from the process table."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            environment = (process / "environ").read_bytes()
            parent_is_service = "brayns-emulator" in command and str(state).encode() in environment
        except OSError:
            continue
        if f"{state}/" in command or parent_is_service:
            found.append(command)
    return found


HERE = {"cluster_conn_id": "here"}
SLOW = {"environment": {"BRAYNS_EMULATOR": "start_seconds=60"}}
FAST = {"environment": {"BRAYNS_EMULATOR": "snapshot_seconds=0,frame_seconds=0.02"}}


def movie(data: Path, out: Path, spec: dict[str, Any] | None = None, **changes: Any) -> BraynsMovieOperator:
    """A small, quick movie of a cube by two services."""
    from airflow_brayns import BraynsMovieOperator

    specification = {"models": [{"path": str(data / "cube.obj")}], "frames": 8, "resolution": [128, 72],
                     "renderer": {"name": "interactive"}, **(spec or {})}  # fmt: skip
    values = {"task_id": "task", "cluster_conn_id": "here", "specification": specification, "plugins": [],
              "output_file": str(out / "movie.mp4"), "nodes": 2, **FAST}  # fmt: skip
    return BraynsMovieOperator(**{**values, **changes})


def gone(cluster: Any, seconds: float = 16) -> bool:
    deadline = time.monotonic() + seconds
    while cluster.running() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not cluster.running()


def release(context: Any, cluster: Any) -> None:
    from airflow_brayns import ReleaseNodesOperator

    ReleaseNodesOperator(task_id="release", allocated_by="task", **HERE).execute(context)
    assert gone(cluster)
