"""What all tests share: an emulator on a free port, and folders of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Airflow reads its home at import: it must be a scratch one before any test imports it.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-brayns-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__BRAYNS__INSTALLATION_ID", "tests")

DATA = Path(__file__).parent / "data"
EMULATOR = [sys.executable, "-m", "airflow_brayns.emulator"]


class Emulator:
    """A running emulator: its process, its port and what it has printed."""

    def __init__(self, arguments: list[str], faults: str, wait: bool) -> None:
        environment = {**os.environ, "BRAYNS_EMULATOR": faults}
        self.process = subprocess.Popen(
            [*EMULATOR, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.lines: list[str] = []
        self.port = 0
        self._listening = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if wait and not self._listening.wait(20):
            raise AssertionError(f"the emulator does not listen: {self.lines}")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if match := re.search(r"(?:Server started on '|server running on ).*?:(\d+)'?\.?$", line.rstrip()):
                self.port = int(match[1])
                self._listening.set()
        self._listening.set()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(10)


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
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait(10)


@pytest.fixture
def data() -> Path:
    return DATA
