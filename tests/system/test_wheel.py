"""The package as it is published: built, installed in a clean environment, known to Airflow; the README's first DAG in it, literally."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.support.cluster import REPO

UV = str(Path(sys.executable).parent / "uv")
PINS = ["-c", str(REPO / "requirements.txt")]
PICTURE = Path("/tmp/picture.png")  # where the README's DAG puts it


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, REPO],
        check=True,
        capture_output=True,
    )
    [built] = folder.glob("airflow_brayns-*.whl")
    return built


def clean_environment(folder: Path, requirement: str) -> Callable[..., str]:
    """Installs it alone; what runs a command there and gives what it printed."""
    clean = folder / "clean"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clean], check=True)
    subprocess.run([UV, "pip", "install", "-q", "--python", clean / "bin" / "python", *PINS, requirement], check=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "BRAYNS", "PYTHON"))}
    environment = {**kept, "AIRFLOW_HOME": str(folder / "home"), "PATH": f"{clean}/bin:/usr/bin:/bin"}

    def run(*words: str) -> str:
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, check=False, cwd=folder, timeout=300
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout + done.stderr

    return run


def test_the_built_wheel_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    run = clean_environment(tmp_path, str(wheel))
    assert "airflow-brayns" in run("airflow", "providers", "get", "airflow-brayns")
    listed = run("airflow", "providers", "hooks")
    assert "brayns_cluster" in listed
    run("airflow", "brayns", "--help")
    names = "BraynsServiceOperator, BraynsMovieOperator, AllocateNodesOperator, brayns_service"
    run("python", "-c", f"from airflow_brayns import {names}; from airflow.sdk import task; task.brayns")
    files = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", wheel], capture_output=True, text=True, check=True
    ).stdout
    for script in (REPO / "airflow_brayns").rglob("*.sh"):
        assert str(script.relative_to(REPO)) in files
    assert "examples/neuron.swc" in files
    for example in (path for path in (REPO / "dags").rglob("*") if path.suffix in (".py", ".yaml", ".swc")):
        assert f"airflow_brayns/example_dags/{example.relative_to(REPO / 'dags')}" in files
    run("airflow", "brayns", "examples", "copied")
    assert (tmp_path / "copied" / "movies" / "neuron.yaml").is_file()
    run("airflow", "brayns", "movie", "check", "copied/movies/neuron.yaml")
    assert "tests/" not in files


def test_the_first_dag_of_the_readme_makes_a_picture_as_it_stands_there(wheel: Path, tmp_path: Path) -> None:
    """Installed as the README says, copied out of it, on the embedded cluster without any connection."""
    readme = (REPO / "README.md").read_text()
    [extras] = re.findall(r"^pip install 'airflow-brayns(\[[^']*\])'", readme, re.MULTILINE)
    dag = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)[0]
    run = clean_environment(tmp_path, f"airflow-brayns{extras} @ {wheel.as_uri()}")
    dags = tmp_path / "home" / "dags"
    dags.mkdir(parents=True)
    (dags / "my_picture.py").write_text(dag)
    run("airflow", "db", "migrate")
    PICTURE.unlink(missing_ok=True)
    began = time.monotonic()
    log = run("airflow", "dags", "test", "my_picture")
    assert time.monotonic() - began < 120, log[-2000:]
    with Image.open(PICTURE) as picture:
        assert picture.size == (1280, 720)
        colors = picture.convert("RGB").getcolors(1 << 24)
    assert len(colors) > 20
    background = max(count for count, _ in colors)
    assert 0.01 < 1 - background / (1280 * 720) < 0.5, "the neuron is to be seen, and whole"
