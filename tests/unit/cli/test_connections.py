"""The commands see what tasks see: the environment's connections, the database's, and a secrets backend's."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_brayns.cli.connections import _named
from tests.support.cluster import REPO
from tests.support.command_line import CommandLine, airflow_brayns_command, database
from tests.support.local import cluster, state
from tests.support.task import NAME_OF_EMULATOR

__all__ = ["airflow_brayns_command", "cluster", "database", "state"]


def local(state: Path, **more: Any) -> str:
    extra = {"scheduler": "local", "executable": NAME_OF_EMULATOR, "state_dir": str(state), **more}
    return json.dumps({"conn_type": "brayns_cluster", "extra": extra})


@pytest.fixture
def default_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of whoever runs the tests."""
    monkeypatch.setenv("AIRFLOW_CONN_BRAYNS_DEFAULT", local(tmp_path / "default"))


pytestmark = pytest.mark.usefixtures("default_elsewhere")


@pytest.mark.parametrize("words", [["services"], ["reap"], ["release", "ab-0123456789ab"]])
def test_a_connection_that_does_not_exist_is_an_error(airflow_brayns_command: CommandLine, words: list[str]) -> None:
    said = airflow_brayns_command(*words, "--cluster-conn-id", "nix")
    assert said.code == 1
    assert "no connection 'nix' is defined" in said.err
    assert not said.out


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    "broken",
    [
        '{"conn_type": "brayns_cluster", "extra": {"scheduler": "cron"}}',
        '{"conn_type": "brayns_cluster", "extra": {"ssh_conn_id": "not_there"}}',
        '{"conn_type": "brayns_cluster", "extra": "no JSON"}',
        '{"conn_type": "brayns_cluster", "extra": "[1]"}',
    ],
)
@pytest.mark.parametrize("command", ["services", "reap"])
def test_one_broken_connection_spoils_no_other(
    airflow_brayns_command: CommandLine, cluster: SimpleNamespace, state: Path, monkeypatch: pytest.MonkeyPatch,
    broken: str, command: str,
) -> None:  # fmt: skip
    from tests.unit.cli.test_commands import NAME, allocate

    monkeypatch.setattr("airflow_brayns.cli.commands._state_of", lambda run: "success")
    monkeypatch.setenv("AIRFLOW_CONN_A_BROKEN_ONE", broken)
    from airflow_brayns.hooks.installation import deployment, installation_id

    allocate(state, installation_id(), deployment())
    said = airflow_brayns_command(command, "--output", "json")
    assert [row["name"] for row in json.loads(said.out)] == [NAME]
    assert said.err.count("a_broken_one: ") == 1
    assert said.code == 1
    given_back = airflow_brayns_command("release", NAME)
    assert given_back.out == f"{NAME} has been given back.\n"
    assert "a_broken_one: " in given_back.err
    assert given_back.code == 1, "more of it may be there"


@pytest.mark.usefixtures("database")
def test_a_connection_that_nothing_can_read_is_told_by_its_name(
    airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TORN", "{bad")
    said = airflow_brayns_command("services")
    assert said.code == 0
    assert "AIRFLOW_CONN_TORN" in said.err


def test_connections_of_the_database_are_asked(
    airflow_brayns_command: CommandLine, state: Path, database: Any, cluster: SimpleNamespace
) -> None:
    from airflow.models import Connection

    extra = json.loads(local(state))["extra"]
    database.add(Connection(conn_id="kept_there", conn_type="brayns_cluster", extra=json.dumps(extra)))
    database.commit()
    _one_allocation(state)
    [row] = json.loads(airflow_brayns_command("services", "--output", "json").out)
    assert row["cluster"] == "here,kept_there", "one cluster, two connections, one row"
    [row] = json.loads(airflow_brayns_command("services", "--cluster-conn-id", "kept_there", "--output", "json").out)
    assert row["cluster"] == "kept_there"
    _release(airflow_brayns_command)


def test_a_preview_is_rendered_where_the_databases_default_says(
    airflow_brayns_command: CommandLine, state: Path, database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from airflow.models import Connection

    rendered = []

    async def render(hook: Any, *_: object) -> None:
        rendered.append(hook.settings.state_dir)

    monkeypatch.setattr("airflow_brayns.cli.movie._render", render)
    words = ["movie", "preview", str(REPO / "dags" / "movies" / "neuron.yaml"), "--output", str(tmp_path / "x.jpg")]
    monkeypatch.delenv("AIRFLOW_CONN_BRAYNS_DEFAULT")
    said = airflow_brayns_command(*words)
    assert "with the emulator" in said.err, "not silently"
    extra = json.loads(local(state))["extra"]
    database.add(Connection(conn_id="brayns_default", conn_type="brayns_cluster", extra=json.dumps(extra)))
    database.commit()
    said = airflow_brayns_command(*words)
    assert "with the emulator" not in said.err
    assert rendered[1:] == [str(state)]


def test_connections_of_a_secrets_backend_are_asked(
    airflow_brayns_command: CommandLine, state: Path, database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    cluster: SimpleNamespace,
) -> None:  # fmt: skip
    held = tmp_path / "connections.json"
    held.write_text(json.dumps({"in_a_file": json.loads(local(state)), "other": {"conn_type": "http"}}))
    for name, value in {
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(held)}),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AIRFLOW_CONN_HERE")
    _one_allocation(state)
    said = airflow_brayns_command("services", "--output", "json")
    assert [row["cluster"] for row in json.loads(said.out)] == ["in_a_file"]
    assert airflow_brayns_command("reap").code == 0
    _release(airflow_brayns_command)


def test_names_are_found_in_dags_and_in_what_tasks_were_run_with() -> None:
    dag = {
        "params": [["cluster_conn_id", {"__class": "Param", "default": "by_param"}], ["nodes", {"default": 2}]],
        "tasks": [{"__var": {"cluster_conn_id": "by_task"}}, {"__var": {"cluster_conn_id": "{{ params.x }}"}}],
    }
    assert sorted(set(_named(dag))) == ["by_param", "by_task"]
    assert list(_named({"cluster_conn_id": "lately", "nodes": 1})) == ["lately"]


def _one_allocation(state: Path) -> None:
    from airflow_brayns.hooks.installation import deployment, installation_id
    from tests.unit.cli.test_commands import allocate

    allocate(state, installation_id(), deployment())


def _release(command: CommandLine) -> None:
    from tests.unit.cli.test_commands import NAME

    assert command("release", NAME).code == 0
