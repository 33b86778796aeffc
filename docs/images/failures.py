"""The pictures of docs/troubleshooting.rst: four failed tasks on the log page of a real Airflow, as Debian's Chromium shows it.

`make pictures` runs it; `tests/ui/setup.sh` installs what drives the browser.
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.support.airflow import Airflow
from tests.ui.browser import PATIENCE, chromium

HERE = Path(__file__).parent
SCREEN = {"width": 1600, "height": 900}
CONNECTIONS = {
    "here": {"conn_type": "brayns_cluster", "extra": {"scheduler": "local", "executable": "brayns-emulator"}},
    "site": {"conn_type": "brayns_cluster", "extra": {"scheduler": "slurm", "ssh_conn_id": "site_login"}},
    "site_login": {"conn_type": "ssh", "host": "127.0.0.1", "port": 1, "login": "jane"},
}
DAG = """
from airflow.sdk import DAG
from airflow_brayns import BraynsMovieOperator, BraynsServiceOperator

scene = {"models": [{"path": "/data/neuron.swc"}], "framez": 24}
lmod = "module() { echo 'Lmod has detected the following error: The following module(s) are unknown: brayns' >&2; return 1; }"
with DAG("failures", schedule=None):
    BraynsServiceOperator(task_id="plugin", cluster_conn_id="here", plugins=["braynsNothing"])
    BraynsServiceOperator(task_id="setup", cluster_conn_id="here", setup=lmod + "\\nmodule load brayns || exit 1")
    BraynsServiceOperator(task_id="login", cluster_conn_id="site")
    BraynsMovieOperator(task_id="movie", cluster_conn_id="here", specification=scene, output_file="/tmp/movie.mp4")
"""
# Of each task, what its picture has to show: what to do, and what happened.
TASKS = {
    "plugin": ("take it off the list", "plugin 'braynsNothing'"),
    "setup": ("Look at setup", "module(s) are unknown: brayns"),
    "login": ("check the connection's host", "cannot be reached"),
    "movie": ("did you mean frames", "It is not known here"),
}
# The log has come, and the page has gone to its end, as it does by itself.
AT_END = """() => {
  const log = document.querySelector('[data-testid=virtual-scroll-container]');
  return log?.textContent.includes('Post Execute') && log.scrollTop + log.clientHeight >= log.scrollHeight - 2;
}"""
# Where this machine keeps things is nobody's business: the paths of a site stand in the picture.
PLACES = {
    str(HERE.parents[1]): "/opt/airflow/lib",
    sys.prefix: "/opt/airflow",
    sys.base_prefix: "/usr",
    str(Path.home()): "/home/jane",
}
RENAME = """places => {
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) for (const [here, there] of places) words.currentNode.data = words.currentNode.data.replaceAll(here, there);
}"""
SECONDS = 900  # for what takes one minute on a machine that does nothing else


def picture(page: Any, address: str, task: str) -> None:
    """The first screen of a task's page, as it stands when it is opened.

    :raises AssertionError: one cannot read on it what happened, and what to do.
    """
    page.goto(f"{address}/tasks/{task}?try_number=1", wait_until="domcontentloaded")
    page.wait_for_function(AT_END)
    log = page.get_by_test_id("virtual-scroll-container").bounding_box()
    for words in TASKS[task]:
        box = page.get_by_text(words).last.bounding_box()
        for at, size in (("x", "width"), ("y", "height")):
            seen = log[at] <= box[at] and box[at] + box[size] <= log[at] + log[size]
            assert seen, f"{words} of {task} is at {box}, the log at {log}"
    page.evaluate(RENAME, sorted(PLACES.items(), reverse=True))  # /opt/x before /opt
    page.screenshot(path=HERE / f"failed-{task}.jpg", type="jpeg", quality=75)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "dags").mkdir()
        (home / "dags" / "failures.py").write_text(DAG)
        connections = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(one) for name, one in CONNECTIONS.items()}
        airflow = Airflow(home, home / "dags", connections)
        try:
            airflow.start()
            run_id = airflow.trigger("failures", {})
            assert airflow.finished("failures", run_id, SECONDS) == "failed"
            with chromium() as browser:
                context = browser.new_context(viewport=SCREEN)
                context.set_default_timeout(PATIENCE)
                host = f"http://127.0.0.1:{airflow.port}"
                context.add_cookies([{"name": "_token", "value": airflow.token(), "url": host}])
                for task in TASKS:
                    picture(context.new_page(), f"{host}/dags/failures/runs/{urllib.parse.quote(run_id)}", task)
                context.close()
        finally:
            airflow.stop()


if __name__ == "__main__":
    main()
