"""`airflow brayns …` honours the mark: what another Airflow asked for is named as such, and given back on demand only."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from airflow_brayns.cli import commands
from airflow_brayns.cluster.allocation import AllocationStatus, ServiceStatus
from airflow_brayns.cluster.failing import FailingNode
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.hooks.installation import VARIABLE, deployment, installation_id
from tests.support.command_line import CommandLine, airflow_brayns_command, database
from tests.support.local import cluster, state

__all__ = ["airflow_brayns_command", "cluster", "database", "state"]
NAME = "ab-0123456789ab000"


def allocate(state: Path, installation: str, where: str) -> None:
    about = {"installation": installation, "dag_id": "d", "run_id": "r", "task_id": "t", "deployment": where}
    there = LocalCluster(LocalShell(), state_dir=str(state))
    asyncio.run(there.submit(NAME, "try-1", AllocationRequest(), [], json.dumps(about)))


@pytest.mark.parametrize("by", ["mark", "deployment"])
def test_another_airflows_job_is_released_on_demand_only(
    cluster: SimpleNamespace, state: Path, airflow_brayns_command: CommandLine, by: str
) -> None:
    theirs = ("theirs", deployment()) if by == "mark" else (installation_id(), "staging.example.org-2")
    allocate(state, *theirs)
    there = ("--cluster-conn-id", cluster.conn_id)
    refused = airflow_brayns_command("release", NAME, *there)
    assert refused.code == 1 and "another Airflow" in refused.err and not refused.out
    assert "another Airflow" in airflow_brayns_command("services", *there).out
    assert "has been given back" in airflow_brayns_command("release", NAME, *there, "--any-installation").out


def test_our_own_is_released(cluster: SimpleNamespace, state: Path, airflow_brayns_command: CommandLine) -> None:
    allocate(state, installation_id(), deployment())
    there = ("--cluster-conn-id", cluster.conn_id)
    assert "another" not in airflow_brayns_command("services", *there).both
    assert "has been given back" in airflow_brayns_command("release", NAME, *there).out
    again = airflow_brayns_command("release", "ab-ffffffffffff", *there)
    assert again.code == 1 and "no cluster has an allocation" in again.err
    assert airflow_brayns_command("release", "not a name", *there).code == 1


def test_nodes_on_which_services_fail_are_named_once(
    airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where two connections lead to one cluster; results stay what they are."""

    async def failing_nodes() -> list[FailingNode]:
        return [FailingNode("r1i1n3", 2, "the service ended with exit code 127")]

    async def list_all() -> list[AllocationStatus]:
        return []

    there = SimpleNamespace(scheduler="slurm", failing_nodes=failing_nodes, list_all=list_all)

    def ask_each(conn_id: str | None, question: Any) -> tuple[list[Any], bool]:
        return [(name, asyncio.run(question(SimpleNamespace(cluster=there)))) for name in ("one", "other")], False

    monkeypatch.setattr(commands, "ask_each", ask_each)
    said = airflow_brayns_command("services", "-o", "json")
    assert json.loads(said.out) == []
    told = "r1i1n3: services failed there in 2 jobs within a day, such as: the service ended with exit code 127"
    assert said.err.count(told) == 1


def test_a_watch_looks_again_until_it_is_ended(
    cluster: SimpleNamespace, state: Path, airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong is said, and the next look may go well."""
    pauses: list[float] = []
    asks = commands.ask_each

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            allocate(state, installation_id(), deployment())
        if len(pauses) == 2:
            monkeypatch.setattr(commands, "ask_each", lambda *_: ([], True))
        if len(pauses) == 3:
            raise SystemExit(130)

    monkeypatch.setattr(commands, "pause", pause)
    said = airflow_brayns_command("services", "--cluster-conn-id", cluster.conn_id, "--watch", "7", "-o", "plain")
    assert (said.code, pauses) == (130, [7, 7, 7])
    assert said.err.count("Nothing is running.") == 1 and said.out.count(NAME) == 1
    monkeypatch.setattr(commands, "ask_each", asks)
    airflow_brayns_command("release", NAME, "--cluster-conn-id", cluster.conn_id)


def test_a_look_that_is_ended_ends_the_watch(
    airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "ask_each", ended)
    assert airflow_brayns_command("services", "--watch", "30").code == 130
    assert "at least 5 seconds" in airflow_brayns_command("services", "--watch", "1").err


def test_a_clone_only_says_what_it_takes_for_deleted(
    cluster: SimpleNamespace, state: Path, airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_state_of", lambda run: None)
    allocate(state, installation_id(), "prod.example.org-1")
    there = ("--cluster-conn-id", cluster.conn_id)
    said = airflow_brayns_command("reap", "--yes", *there)
    assert "prod.example.org-1, has the same mark" in said.out
    assert "given back\n" not in said.out
    assert cluster.running(), "production's keeper runs on"
    assert airflow_brayns_command("release", NAME, *there, "--any-installation").code == 0


@pytest.mark.parametrize("output", ["table", "plain", "json", "yaml"])
@pytest.mark.parametrize("command", ["services", "reap"])
def test_results_are_on_stdout_in_the_form_that_is_asked_for(
    cluster: SimpleNamespace, state: Path, airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch,
    output: str, command: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(commands, "_state_of", lambda run: None)
    there = ("--cluster-conn-id", cluster.conn_id)
    read = {"json": json.loads, "yaml": yaml.safe_load}.get(output, str.split)
    nothing = airflow_brayns_command(command, *there, "--output", output)
    assert read(nothing.out) == []
    assert (nothing.code, "Nothing is" in nothing.err) == (0, True)
    allocate(state, installation_id(), deployment())
    said = airflow_brayns_command(command, *there, "--output", output)
    assert said.code == 0
    if output in ("json", "yaml"):
        assert [(row["cluster"], row["name"]) for row in read(said.out)] == [("here", NAME)]
    else:
        assert [line for line in said.out.splitlines() if NAME in line and "d r t" in line], "a row is one line"
    assert airflow_brayns_command("release", NAME, *there, "--output", output).code == 0


def test_what_is_left_behind_is_given_back_once(
    cluster: SimpleNamespace, state: Path, airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_state_of", lambda run: "success")
    allocate(state, installation_id(), deployment())
    there = ("--cluster-conn-id", cluster.conn_id)
    assert "1 would be given back; do it with --yes." in airflow_brayns_command("reap", *there).err
    assert "its DAG run has ended" in airflow_brayns_command("reap", "--yes", *there).out
    assert "Nothing is left behind." in airflow_brayns_command("reap", *there).err


def test_an_endpoint_is_one_that_can_be_connected_to() -> None:
    status = AllocationStatus(NAME, 1, services=(ServiceStatus("brayns1", node="n1", port=5000),))
    [row] = commands._rows(SlurmCluster(LocalShell(), node_suffix=".example.org"), status)
    assert row["endpoint"] == "n1.example.org:5000"
    [row] = commands._rows(LocalCluster(LocalShell()), status)
    assert row["endpoint"] == "127.0.0.1:5000"


def test_a_fresh_airflow_makes_its_mark_by_a_command(
    database: Any, cluster: SimpleNamespace, airflow_brayns_command: CommandLine
) -> None:
    said = airflow_brayns_command("reap", "--cluster-conn-id", cluster.conn_id)
    assert (said.code, said.out) == (0, "")
    made = installation_id()
    assert database.execute(text("select count(*) from variable where key = :key"), {"key": VARIABLE}).scalar() == 1
    assert installation_id() == made
