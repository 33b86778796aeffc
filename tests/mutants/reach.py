"""Which unit tests reach which line, and how long each takes: one run of all of them under coverage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import coverage
import pytest

from tests.mutants.faults import Fault

_TOLD = "AIRFLOW_BRAYNS_MUTANTS_TOLD"
# For one fault: what the tests nearest to it do not notice, those of everything seldom do.
_FEW_SECONDS, _FEW_FILES = 15.0, 5


@dataclass
class _Module:
    """The tests that reach each line of a module, and the lines that run when it is imported."""

    lines: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    at_import: set[int] = field(default_factory=set)

    def tests(self, first: int, last: int, own: set[str]) -> set[str]:
        """Those that reach some lines; where an import runs them, all that reach the module, and all of its own file.

        :param own: those of its own file: to look at a constant reaches nothing.
        """
        found = {test for line in range(first, last + 1) for test in self.lines.get(line, ())}
        if not found and self.at_import & set(range(first, last + 1)):
            found = own | {test for tests in self.lines.values() for test in tests}
        return found

    def keep(self, tests: set[str]) -> None:
        """Forget all other tests."""
        for reaching in self.lines.values():
            reaching &= tests


class Reached:
    """The tests that reach each line."""

    def __init__(self, seconds: dict[str, float], modules: dict[str, _Module]) -> None:
        self._seconds, self._modules = seconds, modules

    def tests_for(self, fault: Fault) -> list[str]:
        """Those that reach a fault: the tests of its own module, then those of the files that have most of them, the quickest
        first, as long as all is within `_FEW_SECONDS`.
        """
        own = f"{Path(fault.path).parent.name}/test_{Path(fault.path).name}"
        module = self._modules.get(fault.path)
        own_tests = {test for test in self._seconds if _file_of(test).endswith(f"/{own}")}
        found = module.tests(*fault.lines, own_tests) if module else set()
        files = Counter(_file_of(test) for test in found)
        allowed = [file for file, _ in files.most_common() if file.endswith(f"/{own}")]
        allowed += [file for file, _ in files.most_common(_FEW_FILES + len(allowed)) if file not in allowed][
            :_FEW_FILES
        ]
        ordered = sorted(
            (test for test in found if _file_of(test) in allowed),
            key=lambda test: (allowed.index(_file_of(test)), self._seconds[test]),
        )
        chosen, total = [], 0.0
        for test in ordered:
            if chosen and total + self._seconds[test] > _FEW_SECONDS:
                continue
            chosen.append(test)
            total += self._seconds[test]
        return chosen

    def seconds(self, tests: Sequence[str]) -> float:
        """That these tests took."""
        return sum(self._seconds[test] for test in tests)


def _file_of(test: str) -> str:
    return test.partition("::")[0]


@dataclass(frozen=True)
class _Share:
    """A part of the test files, measured by a process of its own.

    :param data: coverage's.
    :param told: what the part below tells: seconds of each test, and which have failed.
    """

    data: Path
    told: Path
    process: subprocess.Popen[bytes]


def measure(copies: Sequence[Path], folder: Path, below: str = "tests/unit") -> Reached:
    """Run all unit tests once, a share of their files in each copy of the tree. One that fails as it is tells nothing of
    faults, and is left out.

    :param below: where the tests are.
    :raises RuntimeError: they could not be run at all.
    """
    files = sorted(str(path.relative_to(copies[0])) for path in (copies[0] / below).rglob("test_*.py"))
    shares = [_start(copy, folder, files[number :: len(copies)]) for number, copy in enumerate(copies)]
    seconds: dict[str, float] = {}
    modules: dict[str, _Module] = defaultdict(_Module)
    for share, copy in zip(shares, copies, strict=True):
        if (code := share.process.wait()) not in (0, 1):
            raise RuntimeError(
                f"the unit tests do not run (exit {code}):\n{Path(f'{share.data}.log').read_text()[-2000:]}"
            )
        told = json.loads(share.told.read_text())
        seconds |= {test: took for test, took in told["seconds"].items() if test not in told["failed"]}
        for test in told["failed"]:
            print(f"left out, since it fails as it is: {test}")
        _read(share.data, copy, modules)
    for module in modules.values():
        module.keep(set(seconds))
    return Reached(seconds, modules)


def _start(copy: Path, folder: Path, files: list[str]) -> _Share:
    data, told = folder / f"coverage-{copy.name}", folder / f"tests-{copy.name}.json"
    environment = {**os.environ, "COVERAGE_FILE": str(data), "PYTHONPATH": str(copy), _TOLD: str(told)}
    command = [sys.executable, "-m", "coverage", "run", "--source", "airflow_brayns", "-m", "pytest", "-q", "-m", "not slow",
               "-p", "no:xdist", "-p", "no:cacheprovider", "-p", "tests.mutants.reach", *files]  # fmt: skip
    with Path(f"{data}.log").open("wb") as log:
        return _Share(data, told, subprocess.Popen(command, cwd=copy, env=environment, stdout=log, stderr=log))


def _read(data: Path, copy: Path, modules: dict[str, _Module]) -> None:
    found = coverage.CoverageData(str(data))
    found.read()
    for path in found.measured_files():
        module = modules[str(Path(path).relative_to(copy))]
        for line, tests in found.contexts_by_lineno(path).items():
            module.lines[line] |= {test for test in tests if test}
            if "" in tests:
                module.at_import.add(line)


# ---- the part that pytest takes for a plugin ---------------------------------------------------------------------------
_seconds: dict[str, float] = defaultdict(float)
_failed: set[str] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> object:
    """Lines that run from here on are this test's."""
    running = coverage.Coverage.current()
    assert running is not None
    running.switch_context(item.nodeid)
    try:
        return (yield)  # type: ignore[misc]
    finally:
        running.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Set-up and end are part of a test's time."""
    _seconds[report.nodeid] += report.duration
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """Told to whoever measures."""
    Path(os.environ[_TOLD]).write_text(json.dumps({"seconds": _seconds, "failed": sorted(_failed)}))
