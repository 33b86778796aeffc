"""`airflow brayns …` honours the mark: what another Airflow asked for is named as such, and given back on demand only."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_brayns.cli import commands
from airflow_brayns.cluster.cluster import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.hooks.installation import deployment, installation_id
from tests.support.local import cluster, state

__all__ = ["cluster", "state"]
NAME = "ab-0123456789ab000"


def allocate(state: Path, installation: str, where: str) -> None:
    about = {"installation": installation, "dag_id": "d", "run_id": "r", "task_id": "t", "deployment": where}
    there = LocalCluster(LocalShell(), state_dir=str(state))
    asyncio.run(there.submit(NAME, "try-1", AllocationRequest(), [], json.dumps(about)))


def arguments(conn_id: str, **more: object) -> Namespace:
    return Namespace(cluster_conn_id=conn_id, name=NAME, any_installation=False, yes=True, **more)


@pytest.mark.parametrize("by", ["mark", "deployment"])
def test_another_airflows_job_is_released_on_demand_only(
    cluster: SimpleNamespace, state: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    theirs = ("theirs", deployment()) if by == "mark" else (installation_id(), "staging.example.org-2")
    allocate(state, *theirs)
    asked = arguments(cluster.conn_id)
    with pytest.raises(SystemExit, match="another Airflow"):
        commands.release(asked)
    commands.services(asked)
    assert "another Airflow" in capsys.readouterr().out
    asked.any_installation = True
    commands.release(asked)
    assert "has been given back" in capsys.readouterr().out


def test_our_own_is_released(cluster: SimpleNamespace, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    allocate(state, installation_id(), deployment())
    commands.services(arguments(cluster.conn_id))
    assert "another" not in capsys.readouterr().out
    commands.release(arguments(cluster.conn_id))
    assert "has been given back" in capsys.readouterr().out


def test_a_clone_only_says_what_it_takes_for_deleted(
    cluster: SimpleNamespace, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_state_of", lambda run: None)
    allocate(state, installation_id(), "prod.example.org-1")
    commands.reap(arguments(cluster.conn_id))
    said = capsys.readouterr().out
    assert "prod.example.org-1, has the same mark" in said
    assert "given back\n" not in said
    assert cluster.running(), "production's keeper runs on"
    asked = arguments(cluster.conn_id)
    asked.any_installation = True
    commands.release(asked)
