"""A movie in Python, whose frame function sets a camera: against the loop that a person writes by hand, and on eight services."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_brayns.movie.frame_folder import FolderStore
from airflow_brayns.movie.interfaces import FixedServices, RenderService
from airflow_brayns.movie.production import Production
from airflow_brayns.movie.script_file import ScriptFile
from tests.benchmarks.movie import CUBE, EACH, FRAME, PRODUCTION, Row, Silent, emulators, fixed, official_loop
from tests.support.emulators import Emulator

FRAMES, SAMPLES = 60, PRODUCTION["samples_per_pixel"]
FILE = f"""
import math

import brayns

frames, fps, resolution, output = %d, 25, (640, 360), "bench.mp4"
renderer = %s


def scene(service):
    brayns.MeshLoader().load_models(service, {str(CUBE)!r})
    brayns.add_light(service, brayns.AmbientLight())


def frame(service, number):
    angle = 2 * math.pi * number / frames
    view = brayns.View(brayns.Vector3(5 * math.sin(angle), 0, 5 * math.cos(angle)), brayns.Vector3.zero)
    return brayns.Camera(view, brayns.PerspectiveProjection())
"""


def produce(services: list[Emulator], frames: int, renderer: dict[str, Any]) -> float:
    """Seconds from nothing (connect, run `scene`) to the last frame."""
    render_services = [
        RenderService(one.endpoint, f"s{number}", f"n{number}", version="3.10.1") for number, one in enumerate(services)
    ]
    folder = Path(tempfile.mkdtemp(prefix="airflow-brayns-bench-"))
    try:
        file = folder / "bench.py"
        file.write_text(FILE % (frames, renderer))
        script = ScriptFile(file, {})
        store = FolderStore(folder / "frames", "bench", "bench")
        production = Production(script.specification(), FixedServices(render_services), store, Silent(), script=script)
        began = time.monotonic()
        asyncio.run(production.run())
        return time.monotonic() - began
    finally:
        shutil.rmtree(folder)


def measure_python_movies(row: Row) -> Iterator[dict[str, Any]]:
    """Rows `python_frames` (its times are those recorded of 3.10.1) and `python_efficiency_8`."""
    with emulators(["recorded_times=1"]) as services:
        taken = produce(services, FRAMES, PRODUCTION)
        hand = official_loop(services[0].endpoint, FRAMES, "one-pass", CUBE, SAMPLES)
    ratio = taken / FRAMES / hand
    told = "of the loop written by hand with render-image, a frame"
    yield row("python_frames", ratio, told, 1.0, "<= 1.10", ratio <= 1.10)
    with emulators([fixed(FRAME)] * 8) as services:
        taken = produce(services, EACH * 8, {"name": "interactive"})
    share = EACH * FRAME / taken
    yield row("python_efficiency_8", share, "ideal / measured", 1.0, ">= 0.93", share >= 0.93)
