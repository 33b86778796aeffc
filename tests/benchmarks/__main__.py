"""`make bench`: measures, prints a table and keeps `build/bench.json`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.estimate import measure_estimate
from tests.benchmarks.look import measure_looks
from tests.benchmarks.movie import measure_movies
from tests.benchmarks.old_folders import measure_old_folders
from tests.benchmarks.overlays import measure_overlays
from tests.benchmarks.page import measure_page
from tests.benchmarks.python_movie import measure_python_movies
from tests.benchmarks.tiles import measure_tiles
from tests.support.airflow import Airflow
from tests.support.cluster import REPO, TestCluster, bring_up, take_down

ROUNDS = 3
RESULTS = REPO / "build" / "bench.json"
logging.disable(logging.INFO)


def row(name: str, value: float, unit: str, baseline: float | None, target: str, holds: bool) -> dict[str, Any]:
    ratio = value / baseline if baseline else None
    return {"name": name, "value": round(value, 3), "unit": unit, "baseline": None if baseline is None else round(baseline, 3),
            "ratio": None if ratio is None else round(ratio, 3), "target": target, "holds": holds}  # fmt: skip


def measure_import() -> dict[str, Any]:
    """All operators over `import airflow.sdk`: what whole processes take of the processor, in turn (others' load does not count).

    With the bytecode that pip leaves beside an installed package: a checkout's is compiled anew each time where
    `PYTHONDONTWRITEBYTECODE` is set, and that was most of the time measured before.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = {
        "base": "import airflow.sdk; from airflow.sdk import BaseOperator, BaseHook, DAG",
        "ours": "import airflow.sdk; from airflow.sdk import BaseOperator, BaseHook, DAG; from airflow_brayns import *",
    }
    times: dict[str, list[float]] = {name: [] for name in code}
    for _ in range(8):
        for name, text in code.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, env=environment)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    base, ours = (statistics.median(times[name][1:]) * 1000 for name in ("base", "ours"))
    share = (ours - base) / base
    return {
        **row("import", ours - base, "ms over airflow.sdk", base, "ratio <= 0.08", share <= 0.08),
        "ratio": round(share, 3),
    }


def measure_handover(cluster: TestCluster, home: Path) -> dict[str, Any]:
    """From the task's start to `host:port` in XCom, against a shell script plus a deferrable task that does nothing."""
    airflow = Airflow(home, REPO / "tests" / "benchmarks" / "dags", cluster.environment())
    ours, script, nothing = [], [], []
    try:
        airflow.start()
        for _ in range(ROUNDS + 1):
            ours.append(task_seconds(airflow, "bench_handover", "brayns"))
            cluster.empty()
            nothing.append(task_seconds(airflow, "bench_nothing", "nothing"))
            done = subprocess.run(
                [REPO / "tests" / "benchmarks" / "baseline.sh", cluster.folder, cluster.executable],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            script.append(float(done.stdout))
            cluster.empty()
    finally:
        airflow.stop()
    value = statistics.median(ours[1:])  # the first round imports
    baseline = statistics.median(a + b for a, b in zip(script[1:], nothing[1:], strict=True))
    return row("handover", value, "s", baseline, "ratio <= 1.25", value / baseline <= 1.25)


def task_seconds(airflow: Airflow, dag: str, task: str) -> float:
    run = airflow.trigger(dag, {})
    assert airflow.finished(dag, run) == "success"
    found = airflow.api("GET", f"dags/{dag}/dagRuns/{run}/taskInstances/{task}")
    start, end = (datetime.fromisoformat(found[key].replace("Z", "+00:00")) for key in ("start_date", "end_date"))
    return (end - start).total_seconds()


QUIET = logging.getLogger("tests.benchmarks")
QUIET.setLevel(logging.CRITICAL)


async def one_wait(cluster: TestCluster, start_seconds: float) -> tuple[float, int, int]:
    """Seconds from the listening line to the wait's result; commands until the hand-over."""
    from airflow_brayns.cluster.owner import Owner
    from airflow_brayns.hooks.cluster import BraynsClusterHook
    from airflow_brayns.services.booking import book
    from airflow_brayns.services.waiting import Waiting

    hook = BraynsClusterHook("test_cluster", {"environment": {"BRAYNS_EMULATOR": f"start_seconds={start_seconds}"}})
    settings = hook.settings
    name = f"ab-{uuid.uuid4().hex[:12]}"
    async with hook.session(QUIET) as session:
        try:
            booking = await book(
                session.cluster, settings, Owner(name, "bench", "bench"), nodes=1, plugins=["braynsDTI"]
            )
            await Waiting(session, booking, ["braynsDTI"]).services()
            seen = time.time()
            commands = session.cluster.shell.commands
            listening = Path(booking.allocations[0].folder) / "services" / "brayns1" / "listening"
            return seen - listening.stat().st_mtime, commands, int(settings.poll_interval)
        finally:
            await session.cluster.release(name)


async def pending_commands(cluster: TestCluster, intervals: int) -> float:
    """Commands per poll interval of a job that waits in the queue."""
    from airflow_brayns.cluster.owner import Owner
    from airflow_brayns.hooks.cluster import BraynsClusterHook
    from airflow_brayns.services.booking import book
    from airflow_brayns.services.waiting import Waiting

    hook = BraynsClusterHook("test_cluster", {"exclusive": True})
    settings = hook.settings
    name = f"ab-{uuid.uuid4().hex[:12]}"
    blocker = cluster.ssh("sbatch --parsable -A proj3 -p prod -N4 --exclusive --wrap 'sleep 600'").strip()
    await asyncio.to_thread(cluster.until, lambda: any("RUNNING" in line for line in cluster.queue()))
    try:
        async with hook.session(QUIET) as session:
            booking = await book(session.cluster, settings, Owner(name, "bench", "bench"), nodes=1, plugins=[])
            waiting = asyncio.create_task(Waiting(session, booking).services())
            await asyncio.sleep(settings.poll_interval)
            before = session.cluster.shell.commands
            await asyncio.sleep(settings.poll_interval * intervals)
            used = session.cluster.shell.commands - before
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await session.cluster.release(name)
            return used / intervals
    finally:
        cluster.ssh(f"scancel {blocker}")


def measure_waits(cluster: TestCluster) -> list[dict[str, Any]]:
    delays, interval = [], 5
    for start in (2.0, 3.7, 5.3, 7.1, 8.8, 10.4):
        delay, _, interval = asyncio.run(one_wait(cluster, start))
        delays.append(delay)
    _, commands, _ = asyncio.run(one_wait(cluster, 0))
    rate = asyncio.run(pending_commands(cluster, 4))
    cluster.empty()
    median = statistics.median(delays)
    return [
        row("detect", median, "s", float(interval), "<= one poll interval", median <= interval),
        row("commands_per_allocation", commands, "SSH commands up to readiness", None, "<= 4", commands <= 4),
        row("commands_while_waiting", rate, "SSH commands per poll interval", None, "<= 1", rate <= 1),
    ]


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="airflow-brayns-bench-"))
    os.environ.setdefault("AIRFLOW_HOME", str(home / "own"))
    cluster, ours = bring_up()
    os.environ.update(cluster.environment())
    try:
        rows = [
            measure_import(),
            *measure_movies(row),
            *measure_python_movies(row),
            measure_estimate(row),
            measure_overlays(row),
            measure_tiles(row),
            *measure_page(row, home),
            *measure_looks(row),
            *measure_old_folders(row),
            *measure_waits(cluster),
            measure_handover(cluster, home / "airflow"),
        ]
    finally:
        if ours:
            take_down()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1))
    for one in rows:
        compared = "" if one["baseline"] is None else f"  baseline {one['baseline']}  ratio {one['ratio']}"
        print(
            f"{one['name']:26}{one['value']:>9} {one['unit']}{compared}  target {one['target']}: {'holds' if one['holds'] else 'MISSED'}"
        )
    sys.exit(0 if all(one["holds"] for one in rows) else 1)


if __name__ == "__main__":
    main()
