"""What all overlays cost at encoding, at 1080p; `python -m tests.benchmarks.overlays`."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.encode import FrameFiles, encode_movie
from airflow_brayns.movie.overlays import Drawing
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.specification import MovieSpecification
from tests.support.cluster import REPO

FRAMES, SIZE, ROUNDS, MOST = 100, (1920, 1080), 5, 1.5
FACTS = SceneFacts(Bounds((-300, -300, -300), (300, 300, 300)), 0, FRAMES - 1, 0.0005)


def planned(logo: Path) -> Plan:
    """A movie with every overlay; time, number and scale bar differ in each frame."""
    way = [
        {"frame": 0, "position": [0, 0, 900], "target": [0, 0, 0]},
        {"frame": 99, "position": [0, 0, 300], "target": [0, 0, 0]},
    ]
    plain = {
        "models": [{"path": "/a.obj", "color_ramp": {"range": [-80, -10], "colors": ["#008", "#ff0", "#f00"]}}],
        "resolution": SIZE, "camera": {"path": "keyframes", "keyframes": way},
        "simulation": {"keyframes": [{"frame": 0, "step": 0}, {"frame": FRAMES - 1, "step": -1}]},
        "overlays": {
            "title": "Everything that a figure has", "logo": str(logo), "scale_bar": True, "legend": {"label": "mV"}, "time": True,
            "frame_number": True,
        },
    }  # fmt: skip
    return Plan(MovieSpecification.check(plain), FACTS, "scene")


def frames_in(folder: Path, plan: Plan) -> list[Path]:
    """Pictures of a neuron that moves through them."""
    with Image.open(REPO / "tests" / "data" / "neuron-production-32spp.png") as picture:
        large = picture.convert("RGB").resize((SIZE[0] + 2 * FRAMES, SIZE[1] + FRAMES))
    paths = [folder / plan.file(frame) for frame in plan.frames]
    for at, path in enumerate(paths):
        large.crop((2 * at, at, 2 * at + SIZE[0], at + SIZE[1])).save(path, compress_level=1)
    return paths


async def seconds(paths: list[Path], plan: Plan | None, output: Path) -> float:
    """What a movie takes, with the pictures beside it, from its plan to its name."""
    began = time.monotonic()
    files = FrameFiles.look(paths, Drawing.of(plan) if plan else None)
    await encode_movie(paths[0].parent, output, files=files, poster=True, sheet=True)
    return time.monotonic() - began


async def compare() -> tuple[float, float]:
    """The least seconds of some rounds, with and without, in turn: whatever else runs here only adds to them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        Image.new("RGB", (400, 200), (0, 90, 160)).save(folder / "logo.png")
        plan = planned(folder / "logo.png")
        paths, taken = frames_in(folder, plan), list[tuple[float, float]]()
        for _ in range(ROUNDS):
            without = await seconds(paths, None, folder / "out" / "without.mp4")
            taken.append((await seconds(paths, plan, folder / "out" / "with.mp4"), without))
        return min(one for one, _ in taken), min(other for _, other in taken)


def measure_overlays(row: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Encoding with every overlay over encoding without."""
    drawn, clean = asyncio.run(compare())
    unit = f"s for {FRAMES} frames of 1080p with all overlays; baseline: without"
    return row("overlays", drawn, unit, clean, f"ratio <= {MOST}", drawn <= MOST * clean)


if __name__ == "__main__":
    from tests.benchmarks.__main__ import row as table_row

    print(json.dumps(measure_overlays(table_row), indent=1))
