"""Airflow loads every plugin in every process, tasks included."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from airflow_brayns.page import FILES
from airflow_brayns.page.plugin import BraynsPlugin

# What the plugin may bring into a task's process, beside itself: Airflow's own module of plugins.
FEW = ("airflow_brayns", "airflow.plugins_manager", "airflow._shared.plugins_manager", "airflow._shared.module_loading")
COST = """
import sys
import airflow.sdk.execution_time.task_runner
before = set(sys.modules)
import airflow_brayns.page.plugin
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.slow
def test_a_task_that_does_not_need_it_hardly_notices_it() -> None:
    """A plain plugin with its app took 1.6 s of each task: 1.3 s of that is Airflow's module of permissions."""
    done = subprocess.run([sys.executable, "-c", COST], capture_output=True, text=True, check=True)
    brought = done.stdout.splitlines()[-1].split()
    assert "airflow_brayns.page.plugin" in brought
    assert [name for name in brought if not name.startswith(FEW)] == []


def test_the_package_tells_airflow_of_its_plugin() -> None:
    [ours] = entry_points(group="airflow.plugins", name="brayns")
    assert ours.load() is BraynsPlugin


def test_the_page_goes_through_reacts_escaping_and_loads_nothing_from_elsewhere() -> None:
    text = (FILES / "page.js").read_text()
    for wrong in ("dangerouslySetInnerHTML", "innerHTML", "eval(", "http://", "https://", "import("):
        assert wrong not in text
