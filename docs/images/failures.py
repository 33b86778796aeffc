"""The pictures of docs/troubleshooting.rst: four failed tasks on the log page of a real Airflow, as Debian's Chromium shows it.

`make pictures` runs it; `tests/ui/setup.sh` installs what drives the browser.
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.parse
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.support.airflow import Airflow

HERE = Path(__file__).parent
CONNECTIONS = {
    "here": {"conn_type": "brayns_cluster", "extra": {"scheduler": "local", "executable": "brayns-emulator"}},
    "site": {"conn_type": "brayns_cluster", "extra": {"scheduler": "slurm", "ssh_conn_id": "site_login"}},
    "site_login": {"conn_type": "ssh", "host": "127.0.0.1", "port": 1, "login": "jane"},
}
DAG = """
from airflow.sdk import DAG
from airflow_brayns import BraynsMovieOperator, BraynsServiceOperator

scene = {"models": [{"path": "/data/neuron.swc"}], "framez": 24}
with DAG("failures", schedule=None):
    BraynsServiceOperator(task_id="plugin", cluster_conn_id="here", plugins=["braynsNothing"])
    BraynsServiceOperator(task_id="setup", cluster_conn_id="here", setup="module load brayns || exit 1")
    BraynsServiceOperator(task_id="login", cluster_conn_id="site")
    BraynsMovieOperator(task_id="movie", cluster_conn_id="here", specification=scene, output_file="/tmp/movie.mp4")
"""
TASKS = ("plugin", "setup", "login", "movie")
SECONDS = 900  # for what takes one minute on a machine that does nothing else


def picture(browser: Browser, airflow: Airflow, run_id: str, task: str) -> None:
    """The first screen of a task's page, as it stands when it is opened."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(SECONDS * 1000)
    page.goto(
        f"http://127.0.0.1:{airflow.port}/dags/failures/runs/{urllib.parse.quote(run_id)}/tasks/{task}?try_number=1"
    )
    page.get_by_text("Task failed with exception").first.wait_for()
    page.screenshot(path=HERE / f"failed-{task}.jpg", type="jpeg", quality=80)
    page.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "dags").mkdir()
        (home / "dags" / "failures.py").write_text(DAG)
        connections = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(one) for name, one in CONNECTIONS.items()}
        airflow = Airflow(home, home / "dags", {**connections, "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "0"})
        try:
            airflow.start()
            run_id = airflow.trigger("failures", {})
            assert airflow.finished("failures", run_id, SECONDS) == "failed"
            with sync_playwright() as driver:
                arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
                browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
                for task in TASKS:
                    picture(browser, airflow, run_id, task)
                browser.close()
        finally:
            airflow.stop()


if __name__ == "__main__":
    main()
