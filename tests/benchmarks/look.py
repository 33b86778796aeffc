"""What a look costs the login node with many waits, by the kernel's accounts; `python -m tests.benchmarks.look [WAITS...]`.

The state folder holds so many allocations with one service each, and `squeue` answers from a file: what is measured is all
that the look's own shell and its children take of the processor, with nothing new to tell.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_brayns.cluster.allocation import JobState
from airflow_brayns.cluster.scripts import script_of
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.waiter import Waiter

ROUNDS = 3
LOG = b"[info] Server started on '0.0.0.0:5000'\n" * 20
SUBMITTED = "2026-11-26T08:00:00"


@dataclass(frozen=True)
class Look:
    """What one look took.

    :param login: seconds of processor of the look's shell and all its children.
    :param worker: seconds of processor of this process.
    :param wall: seconds until its answer was read.
    :param sent, received: bytes of the question, with the functions that answer it, and of the answer.
    """

    login: float
    worker: float
    wall: float
    sent: int
    received: int


class Counting(LocalShell):
    """A shell that counts the bytes that pass."""

    sent = received = 0

    async def run(self, script: str, timeout: float) -> str:
        answer = await super().run(script, timeout)
        self.sent, self.received = len(script.encode()), len(answer.encode())
        return answer


def name_of(number: int) -> str:
    return f"ab-{number:012x}"


def lay_out(folder: Path, waits: int, *, running: bool) -> None:
    """Allocations as submissions and keepers leave them, and what squeue says of their jobs."""
    lines = []
    for number in range(waits):
        one = folder / "state" / name_of(number) / "1"
        service = one / "services" / "brayns1"
        service.mkdir(parents=True)
        job = 100000 + number
        files = {one / "job": f"{job} {SUBMITTED}", one / "lease": str(int(time.time())), service / "command": "true"}
        files[one / "owner.0123456789ab"] = ""
        if running:
            (one / "claim").mkdir()
            files[one / "claim" / "nodes"] = "r1i1n0"
            files[one / "heartbeat"] = str(int(time.time()))
            files[service / "node"], files[service / "listening"] = "r1i1n0", "5000"
            files[service / "pid"] = "1234"
        for path, text in files.items():
            path.write_text(f"{text}\n")
        if running:
            (service / "log").write_bytes(LOG)
        state, nodes = ("RUNNING", "r1i1n0") if running else ("PENDING", "")
        lines.append(
            f"{job}|{state}|{'None' if running else 'Priority'}|{nodes}||{name_of(number)}-1|{SUBMITTED}|N/A|59:00"
        )
    (folder / "queue").write_text(
        "JOBID|STATE|REASON|NODELIST|COMMENT|NAME|SUBMIT_TIME|START_TIME|TIME_LEFT\n" + "\n".join(lines) + "\n"
    )
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "squeue").write_text(f"#!/bin/sh\nexec cat {folder}/queue\n")
    (folder / "bin" / "sbatch").write_text("#!/bin/sh\necho 4242\n")
    for command in ("squeue", "sbatch"):
        (folder / "bin" / command).chmod(0o755)


@contextmanager
def state_folder(waits: int, *, running: bool, where: str | None = None) -> Iterator[SlurmCluster]:
    """A Slurm cluster whose state folder holds so many waits.

    :param where: a folder to make it in.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-brayns-look-", dir=where) as name:
        folder, path = Path(name), os.environ["PATH"]
        folder.chmod(0o700)
        lay_out(folder, waits, running=running)
        os.environ["PATH"] = f"{folder}/bin:{path}"
        try:
            yield SlurmCluster(Counting(), state_dir=str(folder / "state"))
        finally:
            os.environ["PATH"] = path


def waiters(waits: int, *, running: bool) -> list[Waiter]:
    """Those who have seen a look before: nothing is new to them."""
    known = 2 if running else 0
    return [Waiter(name_of(number), 1, 1, known, {"brayns1": len(LOG)}) for number in range(waits)]


async def look(cluster: SlurmCluster, asked: list[Waiter], *, running: bool) -> Look:
    """Look once, and check that it saw each wait as it is."""
    before, here, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time(), time.monotonic()
    found = await cluster.look(asked)
    wall, worker = time.monotonic() - began, time.process_time() - here
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    wanted = JobState.RUNNING if running else JobState.PENDING
    assert len(found) == len(asked) and {one.state for one in found.values()} == {wanted}
    assert all(one.services[0].port == (5000 if running else None) for one in found.values())
    shell = cluster.shell
    assert isinstance(shell, Counting)
    login = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Look(login, worker, wall, shell.sent, shell.received)


def measure(waits: int, *, running: bool) -> Look:
    """The look of median cost for the login node."""

    async def rounds(cluster: SlurmCluster) -> list[Look]:
        asked = waiters(waits, running=running)
        return [await look(cluster, asked, running=running) for _ in range(ROUNDS)]

    with state_folder(waits, running=running) as cluster:
        found = asyncio.run(rounds(cluster))
    return sorted(found, key=lambda one: one.login)[ROUNDS // 2]


def each_its_own(waits: int) -> float:
    """What the login node pays for one command a wait and look, which is the way of everybody else: a shell with its `squeue`."""
    tried = 50
    with state_folder(waits, running=False):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for number in range(tried):
            subprocess.run(["sh", "-c", f"squeue -h -j {number}"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / tried * waits


def measure_looks(row: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `make bench`: processor of the login node, and bytes that are sent, for a look at 1,000 waits, of which nothing is new."""
    base = each_its_own(1000)
    rows = []
    for running, most in ((False, 0.10), (True, 0.25)):
        found = measure(1000, running=running)
        name = f"look_1000_{'running' if running else 'pending'}"
        rows.append(row(name, found.login, "s", base, f"<= {most}", found.login <= most))
    # `found` is of those that run, whose logs are asked for, too.
    alone = measure(1, running=True).sent
    return [*rows, row("bytes_per_wait", found.sent / 1000, "bytes sent", alone, "<= 60", found.sent <= 60_000)]


def main() -> None:
    for waits in map(int, sys.argv[1:] or ["100", "1000"]):
        for running in (False, True):
            one = measure(waits, running=running)
            print(
                f"{waits:6} {'running' if running else 'pending'}: login {one.login:.3f} s, worker {one.worker:.3f} s, wall {one.wall:.2f} s, "
                f"sent {one.sent} ({(one.sent - len(script_of('look'))) / waits:.0f} a wait), received {one.received} ({one.received / waits:.0f} a wait)"
            )


if __name__ == "__main__":
    main()
