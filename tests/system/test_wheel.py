"""The package as it is published: built, installed alone in a clean environment, known to Airflow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.cluster import REPO

UV = str(Path(sys.executable).parent / "uv")


def test_the_built_wheel_in_a_clean_environment(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, REPO],
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("airflow_brayns-*.whl")
    clean = tmp_path / "clean"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clean], check=True)
    python = clean / "bin" / "python"
    pins = ["-c", str(REPO / "requirements.txt")]
    subprocess.run([UV, "pip", "install", "-q", "--python", python, *pins, wheel], check=True)
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "home"), "PATH": f"{clean}/bin:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)

    def run(*words: str) -> str:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert "airflow-brayns" in run(f"{clean}/bin/airflow", "providers", "get", "airflow-brayns")
    listed = run(f"{clean}/bin/airflow", "providers", "hooks")
    assert "brayns_cluster" in listed
    run(f"{clean}/bin/airflow", "brayns", "--help")
    names = "BraynsServiceOperator, BraynsMovieOperator, AllocateNodesOperator, brayns_service"
    run(str(python), "-c", f"from airflow_brayns import {names}; from airflow.sdk import task; task.brayns")
    files = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", wheel], capture_output=True, text=True, check=True
    ).stdout
    assert "keeper.sh" in files
    assert "tests/" not in files
