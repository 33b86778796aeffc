"""Metrics arrive where Airflow's own do, under the names that the documentation lists."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import pytest

from tests.support.cluster import REPO

pytestmark = pytest.mark.slow
WORK = "from airflow_brayns.task.metrics import count, record\ncount('brayns.frames', 2)\nrecord({'brayns.queue_wait': 1.5})"


def test_they_are_sent_to_statsd_as_airflows_settings_say() -> None:
    """In a process of its own: Airflow reads these settings once."""
    pytest.importorskip("statsd", reason="an environment that was set up before requirements.txt had it")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10)
        settings = {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(listener.getsockname()[1])}
        told = {f"AIRFLOW__METRICS__{name}": value for name, value in settings.items()}
        subprocess.run([sys.executable, "-c", WORK], env={**os.environ, **told}, check=True, timeout=300)
        found = ""
        while "brayns.queue_wait" not in found:
            found += listener.recv(65536).decode() + "\n"
    assert "airflow.brayns.frames:2|c" in found
    assert re.search(r"airflow\.brayns\.queue_wait:1500(\.0+)?\|ms", found)


def test_every_metric_that_is_sent_is_in_the_documentation() -> None:
    sent = {
        name
        for path in (REPO / "airflow_brayns").rglob("*.py")
        for name in re.findall(r"""["'](brayns\.[a-z_]+)["']""", path.read_text())
    }
    reference = (REPO / "docs" / "reference.rst").read_text()
    assert len(sent) >= 6 and [name for name in sorted(sent) if f"``{name}``" not in reference] == []
