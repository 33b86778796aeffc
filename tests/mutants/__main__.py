"""`make mutants`: faults from a seeded sample, each against the unit tests that reach it; ends with `N of M mutants caught`.

Nothing is changed in the work tree: each process has a copy of its own. What is not caught is listed in
`tests/mutants/survivors.txt` with the reason why no test should notice it; one that is not in that list fails the run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.faults import Fault, faults_of, modules, sample
from tests.mutants.reach import Reached, measure

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).parent / "survivors.txt"
FOLDERS = ("cluster", "services", "rendering", "movie", "triggers")


@dataclass(frozen=True)
class Result:
    """What became of one fault: `failed` and `timeout` are caught, `passed` and `unreached` are not."""

    fault: Fault
    outcome: str
    tests: int
    seconds: float

    @property
    def caught(self) -> bool:
        """Whether a test noticed it."""
        return self.outcome in ("failed", "timeout")


class Bench:
    """A copy of the tree and the process that tries faults in it."""

    def __init__(self, copy: Path) -> None:
        self.copy = copy
        environment = {
            **os.environ,
            "PYTHONPATH": str(copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(copy / "tmp"),
        }
        (copy / "tmp").mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.trial"], cwd=copy, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def attempt(self, fault: Fault, reached: Reached, log: Path) -> Result:
        """One fault against its tests."""
        tests, began = reached.tests_for(fault), time.monotonic()
        if not tests:
            return Result(fault, "unreached", 0, 0.0)
        text = fault.put_into((self.copy / fault.path).read_bytes()).decode()
        busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        seconds = (15 + 3 * reached.seconds(tests)) * busy  # one that only comes late is not caught
        job = {"path": fault.path, "text": text, "tests": tests, "seconds": seconds, "log": str(log)}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        while not (line := self._process.stdout.readline()).startswith("{"):
            if not line:
                raise RuntimeError(f"the process that tries faults in {self.copy} has ended at {fault.name}")
        return Result(fault, json.loads(line)["outcome"], len(tests), time.monotonic() - began)

    def close(self) -> None:
        """End its process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def copies(number: int) -> Iterator[list[Path]]:
    """So many copies of the tree, as git sees it, compiled; gone afterwards."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    files = [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    with tempfile.TemporaryDirectory(prefix="airflow-brayns-mutants-", ignore_cleanup_errors=True) as folder:
        made = [Path(folder) / f"copy{index}" for index in range(number)]
        for copy in made:
            for name in files:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        yield made


def try_all(faults: list[Fault], benches: list[Bench], reached: Reached, folder: Path) -> list[Result]:
    """Every fault, each in the first copy that is free."""
    free, lock, results = list(benches), threading.Lock(), []

    def one(number: int, fault: Fault) -> None:
        with lock:
            bench = free.pop()
        try:
            result = bench.attempt(fault, reached, folder / f"{number}.log")
        finally:
            with lock:
                free.append(bench)
        results.append(result)
        print(f"{len(results):4} {result.outcome:9} {result.seconds:5.1f} s {fault.name}", flush=True)

    with ThreadPoolExecutor(len(benches)) as pool:
        for future in [pool.submit(one, number, fault) for number, fault in enumerate(faults)]:
            future.result()
    return results


def reasons() -> dict[str, str]:
    """Why a fault may survive, by its name: a line with the name, then an indented one with the reason."""
    found: dict[str, str] = {}
    name = ""
    for line in SURVIVORS.read_text().splitlines() if SURVIVORS.exists() else ():
        if line.startswith("    "):
            found[name] = line.strip()
        elif not line.startswith("#"):
            name = line
    return found


def report(results: list[Result]) -> int:
    """Survivors, the share by folder, and last the whole. How many survivors have no reason."""
    known, by_folder = reasons(), defaultdict(Counter)
    for result in results:
        by_folder[Path(result.fault.path).parent][result.caught] += 1
    without = 0
    for result in sorted((one for one in results if not one.caught), key=lambda one: one.fault.name):
        reason = known.get(result.fault.name)
        without += reason is None
        print(
            f"{result.fault.name}\n    {reason or f'NO REASON KNOWN ({result.outcome}, line {result.fault.lines[0]})'}"
        )
    for folder, counts in sorted(by_folder.items()):
        print(f"{folder}: {counts[True]} of {counts.total()}")
    print(f"{sum(result.caught for result in results)} of {len(results)} mutants caught")
    return without


def main() -> int:
    """The whole run."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--number", type=int, default=300, help="how many faults, about")
    parser.add_argument("--seed", type=int, default=1, help="another one is another sample")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at the same time")
    parser.add_argument("--only", default="", help="only modules whose path contains this")
    parser.add_argument("--tests", default="tests/unit", help="only the tests below this folder")
    chosen = parser.parse_args()
    sources = modules(ROOT, [f"airflow_brayns/{folder}" for folder in FOLDERS])
    by_module = {path: text for path, text in sources.items() if chosen.only in path}
    faults = sample({path: faults_of(path, text) for path, text in by_module.items()}, chosen.number, chosen.seed)
    began = time.monotonic()
    with copies(chosen.jobs) as made:
        reached = measure(made, made[0].parent, chosen.tests)
        print(f"The unit tests took {time.monotonic() - began:.0f} s; {len(faults)} faults to try.", flush=True)
        benches = [Bench(copy) for copy in made]
        try:
            results = try_all(faults, benches, reached, made[0].parent)
        finally:
            for bench in benches:
                bench.close()
    return 1 if report(results) else 0


if __name__ == "__main__":
    sys.exit(main())
