"""What allocations that have ended cost the login node, by the kernel's accounts; `python -m tests.benchmarks.old_folders [ALLOCATIONS...]`.

The state folder holds so many that ended, beside a hundred that run. Each command is measured as it is met by a site that
upgrades (nothing is folded away yet), and after the sweep has folded away what is older than a day.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow_brayns.cluster.allocation import AllocationStatus
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.slurm import SlurmCluster
from tests.benchmarks.look import ROUNDS, look, state_folder, waiters

# a disk takes minutes to make and remove millions of files
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
RUNNING = 100
NODES = 16
EACH_ASKED = 50  # so many allocations asked for the same


def ended_name(number: int) -> str:
    """The name of an allocation that has ended."""
    return f"ab-e{number:011x}000"


def finish(state: Path, allocations: int, *, hours: float = 26.0) -> None:
    """Allocations that have ended, each with the files that submission, keeper and wrapper leave. Those of one text are one
    file: what is measured reads folders.

    :param hours: how long ago they ended.
    """
    texts = state.parent / "texts"
    texts.mkdir(exist_ok=True)
    then = time.time() - hours * 3600
    common = {
        "keeper.sh": "#!/bin/sh\n", "about": '{"dag": "movies"}\n', "job": "4242 2026-11-26T08:00:00\n", "lease": "1764000000\n",
        "heartbeat": "12\n", "release": "1764000000\n", "owner.0123456789ab": "", "keeper.log": "started\n",
        "ended": "released\n", "claim/nodes": "r1i1n0\n", "claim/job": "4242\n", "services/brayns1/command": "true\n",
        "services/brayns1/port.sed": "s/x/y/p\n", "services/brayns1/listening": "5000\n", "services/brayns1/exit": "0 stopped\n",
        "services/brayns1/log": "[info] Server started on '0.0.0.0:5000'\n", "services/brayns1/pid": "77\n",
    }  # fmt: skip
    for number, text in enumerate(common.values()):
        (texts / str(number)).write_text(text)
        os.utime(texts / str(number), (then, then))
    for number in range(NODES):
        (texts / f"node{number}").write_text(f"r1i1n{number}\n")
    for number in range(allocations):
        one = state / ended_name(number) / "1"
        (one / "services" / "brayns1").mkdir(parents=True)
        (one / "claim").mkdir()
        for index, name in enumerate(common):
            os.link(texts / str(index), one / name)
        os.link(texts / f"node{number % NODES}", one / "services" / "brayns1" / "node")
        asked = texts / f"asked{number // EACH_ASKED}"
        if not asked.exists():
            asked.write_text(f"{number // EACH_ASKED:016x}\n")
        os.link(asked, one / "asked")


def fail(state: Path, failures: int) -> None:
    """Failures that keepers noted within a day, of as many allocations that have ended."""
    for number in range(failures):
        node = state / "failures" / f"r1i1n{number % NODES}"
        node.mkdir(parents=True, exist_ok=True)
        (node / f"{ended_name(number)}-1").write_text(f"{'run' if number % 2 else 'start'} it ended with exit code 1\n")


async def cost(act: Awaitable[Any]) -> float:
    """Seconds of processor (user and system) of all processes that something starts and awaits."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    await act
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def median(act: Callable[[int], Awaitable[Any]], rounds: int = ROUNDS) -> float:
    """The median cost of a few times the same."""
    return sorted([await cost(act(number)) for number in range(rounds)])[rounds // 2]


async def submit(cluster: SlurmCluster, number: int) -> None:
    """Submit something new."""
    await cluster.submit(f"ab-f{number:011x}", "try", AllocationRequest())


async def swept(cluster: SlurmCluster) -> None:
    """Submit as the first one after an hour does."""
    marker = Path(cluster.state_dir) / ".swept"
    with suppress(FileNotFoundError):
        os.utime(marker, (time.time() - 3601, time.time() - 3601))
    await submit(cluster, time.time_ns() % (1 << 40))


async def commands(cluster: SlurmCluster, *, first: int = 0) -> dict[str, float]:
    """The cost of each command that may meet what has ended.

    :param first: the number of the first allocation to release; each round releases another one.
    """
    asked = waiters(RUNNING, running=True)
    found = {
        "submission": await median(lambda number: submit(cluster, first + number), 3 * ROUNDS),
        "look": await median(lambda _: look(cluster, asked, running=True), 3 * ROUNDS),
        "services": await median(lambda _: cluster.survey()),
        "release": await median(lambda number: cluster.release(ended_name(first + number))),
        "cancel": await median(lambda number: cluster.cancel(ended_name(first + number), "somebody")),
        "find": await median(lambda _: cluster.call("find", "listening_at 5001", 60)),
    }
    gone = AllocationStatus(ended_name(1), 1)
    return found | {"reap": await median(lambda _: cluster.reap(gone))}


async def failing(cluster: SlurmCluster, failures: int) -> float:
    """The cost of the judgement of which nodes fail, with so many failures noted."""
    fail(Path(cluster.state_dir), failures)
    return await median(lambda _: cluster.failing_nodes())


def measure_old_folders(row: Callable[..., dict[str, Any]], allocations: int = 100_000) -> list[dict[str, Any]]:
    """Rows of `make bench`: a submission and a look beside allocations that have ended, over those beside none."""
    found = []
    for old in (0, allocations):
        with state_folder(RUNNING, running=True, where=MEMORY) as cluster:
            (Path(cluster.state_dir) / ".swept").write_text("1\n")
            finish(Path(cluster.state_dir), old)
            found.append(asyncio.run(commands(cluster)))
    none, many = found
    return [
        row(f"old_folders_{name}", many[name], "s", none[name], "ratio <= 1.2", many[name] / none[name] <= 1.2)
        for name in ("submission", "look")
    ]


def tell(title: str, found: dict[str, float]) -> None:
    """Print costs in one line."""
    print(title, *(f"{name} {seconds:.3f}" for name, seconds in found.items()), flush=True)


def measure(allocations: int, failures: int) -> None:
    """Measure, and print."""
    with state_folder(RUNNING, running=True, where=MEMORY) as cluster:
        state = Path(cluster.state_dir)
        (state / ".swept").write_text("1\n")
        finish(state, allocations)
        tell(f"{allocations:6} unfolded:", asyncio.run(commands(cluster)))
        tell(f"{allocations:6} sweep:", {"submission": asyncio.run(cost(swept(cluster)))})
        sweeps = 1
        while any(state.glob("ab-e*")) and sweeps < 100:
            asyncio.run(swept(cluster))
            sweeps += 1
        print(f"{allocations:6} folded away in {sweeps} sweeps")
        tell(f"{allocations:6} folded:  ", asyncio.run(commands(cluster, first=100)))
        tell(f"{allocations:6} sweep again:", {"submission": asyncio.run(cost(swept(cluster)))})
        tell(
            f"{allocations:6} failing ({failures}):",
            {"judged": asyncio.run(failing(cluster, min(failures, allocations)))},
        )


def main() -> None:
    for allocations in map(int, sys.argv[1:] or ["1000", "10000", "100000"]):
        measure(allocations, 200)


if __name__ == "__main__":
    main()
