"""Emulators for tests, each a process of its own, forked from one that has imported what a service needs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import threading
from multiprocessing.connection import Connection

from airflow_brayns.emulator.command_line import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [__name__, "airflow_brayns.emulator.server", "airflow_brayns.emulator.render", "airflow_brayns.emulator.loaders",
     "embreex.mesh_construction", "PIL.Image", "PIL.PngImagePlugin", "PIL.JpegImagePlugin"]
)  # fmt: skip


def _serve(arguments: list[str], faults: str, output: Connection) -> None:
    os.dup2(output.fileno(), 1)
    os.dup2(1, 2)
    output.close()
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
    os.environ["BRAYNS_EMULATOR"] = faults
    sys.exit(main(arguments))


class Emulator:
    """A running emulator: its process, its port and what it has printed.

    :param arguments: The command line of braynsService.
    :param faults: As in the variable `BRAYNS_EMULATOR`.
    :param wait: Whether to return only when it listens.
    """

    def __init__(self, arguments: list[str], faults: str, wait: bool) -> None:
        self._output, output = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(target=_serve, args=(arguments, faults, output), daemon=True)
        self._process.start()
        output.close()
        self.lines: list[str] = []
        self.port = 0
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait and not self._listening.wait(20):
            raise AssertionError(f"the emulator does not listen: {self.lines}")

    def _read(self) -> None:
        with os.fdopen(os.dup(self._output.fileno())) as printed:
            for line in printed:
                self.lines.append(line.rstrip())
                if match := re.search(r"(?:Server started on '|server running on ).*?:(\d+)'?\.?$", line.rstrip()):
                    self.port = int(match[1])
                    self._listening.set()
        self._listening.set()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None as long as it runs; negative: the signal that ended it."""
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = 10) -> int | None:
        """The exit code, or None where it still runs after so many seconds. What it printed before has been read."""
        self._process.join(seconds)
        if self.exit_code is not None:
            self._reader.join(5)
        return self.exit_code

    def end(self) -> int | None:
        self.send(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.wait() is not None
