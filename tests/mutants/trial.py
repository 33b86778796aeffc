"""A process that holds faults against tests in one copy of the tree: `python -m tests.mutants.trial` there.

One JSON line in for each fault, one out. Everything that takes long to import and is none of ours is imported once; each
fault gets a fork of that process, so that nothing of one is left to the next.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

_FOREIGN = (
    "PIL.Image", "PIL.PngImagePlugin", "airflow.sdk", "airflow.sdk.execution_time.task_runner", "airflow.triggers.base",
    "asyncssh", "hypothesis", "numpy", "pydantic", "pytest_asyncio.plugin", "websockets.asyncio.client",
    "websockets.asyncio.server", "yaml",
)  # fmt: skip


class _Only:
    """Of what pytest collects only these tests, in this order."""

    def __init__(self, tests: list[str]) -> None:
        self._order = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._order), key=lambda one: self._order[one.nodeid]
        )


def run_tests(tests: list[str], log: Path) -> int:
    """Run tests until the first that fails, in a process that does nothing else; pytest's exit code."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    files = sorted({test.partition("::")[0] for test in tests}, key=[test.partition("::")[0] for test in tests].index)
    arguments = ["-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:randomly", *files]
    return int(pytest.main(arguments, plugins=[_Only(tests)]))


def attempt(tests: list[str], seconds: float, log: Path) -> str:
    """What became of the tests in a fork: `passed`, `failed`, or `timeout`."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = run_tests(tests, log)
        finally:
            os._exit(code)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            _end_group(child)
            return "passed" if os.waitstatus_to_exitcode(status) == 0 else "failed"
        time.sleep(0.02)
    _end_group(child)
    os.waitpid(child, 0)
    return "timeout"


def _end_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def main() -> None:
    """Fault after fault, until there is no further line."""
    for name in _FOREIGN:
        importlib.import_module(name)
    for name in [one for one in sys.modules if one.partition(".")[0] == "airflow_brayns"]:
        del sys.modules[name]  # Airflow has asked for its providers; each fork must import what it is to try
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for number, line in enumerate(sys.stdin, 1):
        job = json.loads(line)
        module = Path(job["path"])
        whole, stat = module.read_bytes(), module.stat()
        module.write_text(job["text"])
        os.utime(module, (stat.st_atime, stat.st_mtime + 10 * number))  # what is compiled of it before does not count
        try:
            outcome = attempt(job["tests"], job["seconds"], Path(job["log"]))
        finally:
            module.write_bytes(whole)
            os.utime(module, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        sys.stdout.write(json.dumps({"outcome": outcome}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
