"""What all tests share: an emulator on a free port, and folders of their own."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.emulators import Emulator

# Airflow reads its home at import: it must be a scratch one before any test imports it.
if "AIRFLOW_HOME" not in os.environ:
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-brayns-home-")
    atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__BRAYNS__INSTALLATION_ID", "tests")

# How long an example takes says what else the machine does.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

# What is imported and collected stays: to search all of it for garbage, again and again, took each worker three seconds of eight.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From here on garbage is looked for, among what tests make."""
    gc.freeze()
    gc.enable()


DATA = Path(__file__).parent / "data"


@pytest.fixture
def emulator() -> Iterator[Callable[..., Emulator]]:
    """Starts emulators; `emulator("--plugin", "x", version="2.0.0", snapshot_seconds=0)`."""
    started = []

    def start(*arguments: str, wait: bool = True, uri: str = "127.0.0.1:0", **faults: object) -> Emulator:
        listen = ["--http-server" if str(faults.get("version", "3")).startswith("1") else "--uri", uri]
        one = Emulator([*listen, *arguments], ",".join(f"{key}={value}" for key, value in faults.items()), wait)
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def data() -> Path:
    return DATA
