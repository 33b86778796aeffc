"""The example DAGs are copied whole, and nothing of anybody's is written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_brayns.cli import examples
from tests.support.cluster import REPO
from tests.support.command_line import CommandLine, airflow_brayns_command

__all__ = ["airflow_brayns_command"]


def test_they_are_copied_with_what_they_need_and_load(airflow_brayns_command: CommandLine, tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    folder = tmp_path / "new" / "dags"
    said = airflow_brayns_command("examples", str(folder))
    assert said.code == 0, said.err
    assert all(Path(line).is_file() for line in said.out.splitlines())
    bag = DagBag(str(folder))
    assert bag.import_errors == {}
    assert {path.stem for path in (REPO / "dags").glob("*.py")} == set(bag.dags)
    movie = folder / "movies" / "neuron.yaml"
    assert airflow_brayns_command("movie", "check", str(movie)).code == 0


def test_what_somebody_has_changed_stays(airflow_brayns_command: CommandLine, tmp_path: Path) -> None:
    assert airflow_brayns_command("examples", str(tmp_path)).code == 0
    assert airflow_brayns_command("examples", str(tmp_path)).code == 0, "as they come"
    changed = tmp_path / "brayns_movie.py"
    changed.write_text("# mine\n")
    (tmp_path / "brayns_session.py").unlink()
    said = airflow_brayns_command("examples", str(tmp_path))
    assert (said.code, said.out) == (1, "")
    assert str(changed) in said.err
    assert changed.read_text() == "# mine\n"
    assert not (tmp_path / "brayns_session.py").exists(), "all or nothing"
    assert airflow_brayns_command("examples", str(tmp_path), "--overwrite").code == 0
    assert changed.read_text() != "# mine\n"


def test_a_folder_that_cannot_be_is_said(airflow_brayns_command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/dags")):
        said = airflow_brayns_command("examples", str(folder))
        assert (said.code, said.out) == (1, "")
        assert said.err


def test_without_a_folder_they_are_listed(airflow_brayns_command: CommandLine) -> None:
    assert "brayns_movie.py" in airflow_brayns_command("examples").out


def test_those_of_the_wheel_come_first(
    airflow_brayns_command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "example_dags").mkdir()
    (tmp_path / "example_dags" / "one.py").write_text("")
    monkeypatch.setattr(examples, "_IN_WHEEL", tmp_path / "example_dags")
    assert airflow_brayns_command("examples").out == f"{tmp_path / 'example_dags' / 'one.py'}\n"
