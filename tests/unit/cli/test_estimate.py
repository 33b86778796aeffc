"""`airflow brayns movie estimate`, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_brayns.cli.estimate import numbers_of
from airflow_brayns.errors import InvalidSetting
from tests.support.cluster import REPO
from tests.support.command_line import CommandLine, airflow_brayns_command
from tests.support.local import cluster, gone, state
from tests.support.script import NEEDS_CLIENT, script

__all__ = ["airflow_brayns_command", "cluster", "state"]

FILE = REPO / "dags" / "movies" / "neuron.yaml"


@pytest.mark.parametrize(("text", "numbers"), [("4", [4]), ("8, 1,4,1", [1, 4, 8])])
def test_numbers_of_nodes_stand_with_commas(text: str, numbers: list[int]) -> None:
    assert numbers_of(text) == numbers


@pytest.mark.parametrize("text", ["", "0", "-1", "1,,2", "1.5", "many", "٣", "9" * 5000])
def test_what_is_no_number_of_nodes_is_named(text: str) -> None:
    with pytest.raises(InvalidSetting, match="^--nodes: give one number"):
        numbers_of(text)


@pytest.mark.parametrize("words", [["none.yaml"], [str(FILE), "-n", "x"], [str(FILE), "--cluster-conn-id", "nix"]])
def test_what_cannot_work_is_said_before_a_node_is_asked_for(
    airflow_brayns_command: CommandLine, words: list[str]
) -> None:
    said = airflow_brayns_command("movie", "estimate", *words)
    assert (said.code, said.out) == (1, "") and said.err.strip()


@pytest.mark.slow
@NEEDS_CLIENT
@pytest.mark.parametrize("python", [False, True])
def test_it_tells_people_and_programs(
    airflow_brayns_command: CommandLine, cluster: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: bool
) -> None:  # fmt: skip
    monkeypatch.setenv("BRAYNS_EMULATOR", "snapshot_seconds=0,frame_seconds=0.05")
    file = str(script(tmp_path) if python else FILE)
    said = airflow_brayns_command("movie", "estimate", file, "--cluster-conn-id", "here", "-n", "1,4")
    assert said.code == 0, said.err
    assert said.out.startswith(f"{file}: {4 if python else 60} frames of 0.0")
    assert [line.split()[0] for line in said.out.splitlines()[-3:]] == ["nodes", "1", "4"]
    told = airflow_brayns_command("movie", "estimate", file, "--cluster-conn-id", "here", "-n", "4", "--output", "json")
    [row] = json.loads(told.out)
    assert (row["file"], row["nodes"]) == (file, "4") and float(row["node_hours"]) > float(row["hours"]) > 0
    assert gone(cluster)
