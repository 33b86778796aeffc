"""How near an estimate comes to what 200 frames then take, on the local cluster; `python -m tests.benchmarks.estimate`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airflow_brayns.cluster.owner import Owner
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.movie.estimate import Estimate
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.used import Used
from airflow_brayns.rendering.estimate import estimate_movie
from airflow_brayns.rendering.render import Rendering, RenderRequest, render_alone
from tests.benchmarks.movie import CUBE, Silent

FRAMES, NODES = 200, 2
QUIET = logging.getLogger("tests.benchmarks")
# Each node starts and loads for seconds, as real ones do; a frame takes what 3.10.1 took, by its samples.
CLUSTER = {
    "scheduler": "local", "executable": str(Path(sys.executable).parent / "brayns-emulator"), "poll_interval": 1,
    "environment": {"BRAYNS_EMULATOR": "recorded_times=1,start_seconds=1,load_seconds=2"},
}  # fmt: skip


def movie(folder: Path) -> MovieSpecification:
    """A movie whose last frames take three times as long as its first ones."""
    lines = [f"{frame},{8 + round(16 * frame / (FRAMES - 1))}" for frame in range(FRAMES)]
    (folder / "values.csv").write_text("\n".join(["frame,renderer.samples_per_pixel", *lines]) + "\n")
    plain = {
        "version": 2, "models": [{"path": str(CUBE)}], "frames": FRAMES, "resolution": [640, 360],
        "renderer": {"name": "production"}, "per_frame": "values.csv",
    }  # fmt: skip
    file = folder / "movie.json"
    file.write_text(json.dumps(plain))
    return MovieSpecification.read_file(file)


async def compare(folder: Path) -> tuple[Estimate, Used, float]:
    """The estimate; what the movie then used, and its seconds from the moment when the nodes are there."""
    spec, told = movie(folder), Silent()

    def request(name: str) -> RenderRequest:
        owner = Owner(f"ab-{name * 12}", name, "{}", movie=name)
        return RenderRequest(spec, str(folder / "frames"), Rendering(), owner)

    async def announce(booking: Any) -> None:
        booked.append(time.monotonic())

    booked: list[float] = []
    async with BraynsClusterHook("bench_local").session(QUIET) as session:
        found = await estimate_movie(session, request("e"), told)
        await render_alone(session, NODES, request("f"), told, announce)
        return found, told.total, time.monotonic() - booked[0]


def measure_estimate(row: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The larger one of the two errors: of the node-hours, and of the time."""
    with tempfile.TemporaryDirectory(prefix="airflow-brayns-bench-") as folder:
        extra = {**CLUSTER, "state_dir": f"{folder}/state"}
        connection = json.dumps({"conn_type": "brayns_cluster", "extra": extra})
        with patch.dict(os.environ, {"AIRFLOW_CONN_BENCH_LOCAL": connection}):
            found, used, seconds = asyncio.run(compare(Path(folder)))
    assert used.frames == FRAMES
    cost = found.on(NODES)
    errors = [cost.node_hours[0] / used.node_hours - 1, cost.hours[0] * 3600 / seconds - 1]
    worst = max(errors, key=abs)
    unit = f"of what {FRAMES} frames took ({used.node_seconds:.1f} node seconds, estimated {cost.node_hours[0] * 3600:.1f})"
    return row("estimate", 1 + worst, unit, 1.0, "within 0.15 of 1", abs(worst) <= 0.15)


if __name__ == "__main__":
    from tests.benchmarks.__main__ import row as row_of

    print(json.dumps(measure_estimate(row_of), indent=1))
