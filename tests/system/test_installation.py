"""A new Airflow's first command makes its mark; no supervisor is there to write a Variable."""

from __future__ import annotations

from pathlib import Path

from tests.support.airflow import Airflow


def test_the_first_command_of_a_new_airflow_makes_a_mark_and_keeps_it(tmp_path: Path) -> None:
    airflow = Airflow(tmp_path, tmp_path / "dags", {})
    airflow.environment.pop("AIRFLOW__BRAYNS__INSTALLATION_ID", None)
    airflow.environment["HOME"] = str(tmp_path)
    airflow.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{tmp_path / 'airflow.db'}"
    airflow.command("db", "migrate", timeout=300)
    assert airflow.command("brayns", "reap", "--output", "json").strip().splitlines()[-1] == "[]", (
        "nothing is left behind"
    )
    mark = airflow.command("variables", "get", "brayns_installation_id").strip().splitlines()[-1]
    assert len(mark) == 32
    airflow.command("brayns", "services")
    assert airflow.command("variables", "get", "brayns_installation_id").strip().splitlines()[-1] == mark
