"""The DAGs on the embedded default, by `airflow dags test`: what `make demo` does, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_brayns.movie.ffmpeg import ffmpeg
from tests.support.cluster import REPO

SMALL = {
    "models": [{"path": str(REPO / "dags" / "scenes" / "neuron.swc")}],
    "frames": 10,
    "resolution": [160, 90],
    "renderer": {"name": "interactive"},
}
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    found = {
        **os.environ,
        "HOME": str(home),
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPO / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    subprocess.run([BIN / "airflow", "db", "migrate"], env=found, check=True, capture_output=True)
    return found


def run(environment: dict[str, str], dag: str, conf: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [BIN / "airflow", "dags", "test", dag, "-c", json.dumps(conf)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    left = subprocess.run(
        ["pgrep", "-af", f"{environment['HOME']}/.airflow-brayns"], capture_output=True, text=True, check=False
    )
    assert not left.stdout, f"left behind: {left.stdout}"
    return done


def test_a_movie(environment: dict[str, str], tmp_path: Path) -> None:
    conf = {"specification": SMALL, "output": str(tmp_path / "movie.mp4")}
    done = run(environment, "brayns_movie", conf)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "No connection 'brayns_default' is defined: services run on this machine" in done.stdout
    told = subprocess.run(
        [ffmpeg(), "-i", tmp_path / "movie.mp4", "-f", "null", "-"], capture_output=True, text=True, check=True
    ).stderr
    assert re.search(r"frame=\s*10\b", told)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["movie.mp4", "movie.poster.jpg", "movie.sheet.jpg"], "the frames go with the run"


def test_a_picture_under_its_date(environment: dict[str, str], tmp_path: Path) -> None:
    done = run(environment, "brayns_nightly_snapshot", {"width": 160, "height": 90, "output": str(tmp_path)})
    assert done.returncode == 0, done.stdout[-3000:]
    [picture] = tmp_path.iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d\.png", picture.name)
    with Image.open(picture) as image:
        assert image.size == (160, 90)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"plugins": ["nope"]}, "plugins: .*'nope'"),
        ({"cluster_conn_id": "nowhere"}, "no connection 'nowhere' is defined"),
    ],
)
def test_bad_parameters_say_so_and_leave_nothing(
    environment: dict[str, str], tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    done = run(environment, "brayns_movie", {"specification": SMALL, "output": str(tmp_path / "movie.mp4"), **changes})
    assert done.returncode != 0
    assert re.search(says, " ".join((done.stdout + done.stderr).split())), "wherever its lines break"
