"""What a huge picture in tiles takes of the worker's memory, and whether its seams show; `python -m tests.benchmarks.tiles [SIDE]`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.movie import CUBE, emulators
from tests.support.cluster import REPO

SIDE, SMALLER, ACROSS, SERVICES = 20_000, 10, 4, 4
_MOST_MEGABYTES = 600
_NEAR = 3  # pixels of the smaller picture on both sides of a seam

# The worker, in a process of its own: what it renders with and joins is all that counts.
WORKER = """
import asyncio, json, resource, sys
from pathlib import Path
from airflow_brayns.movie.encode import encode_movie
from airflow_brayns.movie.frame_folder import FolderStore
from airflow_brayns.movie.interfaces import FixedServices, RenderService
from airflow_brayns.movie.production import Production
from airflow_brayns.movie.rendered import just_rendered
from airflow_brayns.movie.specification import MovieSpecification

class Silent:
    def progress(self, *told): pass
    note = said = trouble = used = progress

async def main(folder, plain, endpoints):
    spec = MovieSpecification.check(plain)
    services = [RenderService(one, f"s{number}", f"n{number}", version="3.10.1") for number, one in enumerate(endpoints)]
    store = FolderStore(folder, "bench", "bench")
    outcome = await Production(spec, FixedServices(services), store, Silent()).run()
    files, known = just_rendered(folder, outcome.plan, outcome.header)
    await encode_movie(
        folder, folder / "cover.png", spec.encoding, files=files, metadata=known, tiling=spec.tiling, poster=True, sheet=True
    )
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

asyncio.run(main(Path(sys.argv[1]), *json.loads(sys.argv[2])))
"""


def made(folder: Path, endpoints: list[str], side: int, tiles: tuple[int, int] | None) -> float:
    """Render, join and look into `cover.png`; the megabytes that the worker took at most."""
    plain = {
        "models": [{"path": str(CUBE)}], "frames": 1, "resolution": [side, side], "tiles": tiles, "output": "cover.png",
        "renderer": {"name": "interactive", "samples_per_pixel": 1, "ao_samples": 0},
        "camera": {"path": "still", "start_angle": 35, "elevation": 25, "margin": 0.8},
    }  # fmt: skip
    folder.mkdir()
    text = json.dumps([plain, endpoints])
    command = [sys.executable, "-W", "ignore", "-c", WORKER, str(folder), text]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=REPO)
    return float(done.stdout)


def apart(joined: Path, whole: Path) -> tuple[float, float]:
    """How far the joined picture, made smaller, is from the one that was rendered whole: the mean of 255 at the seams, and
    elsewhere.
    """
    import numpy as np

    from airflow_brayns.movie.images import vips

    small = vips().Image.new_from_file(str(joined), access="sequential").shrink(SMALLER, SMALLER).cast("uchar")
    one, other = (
        np.asarray(picture.extract_band(0, n=3)).astype(int)
        for picture in (small, vips().Image.new_from_file(str(whole)))
    )
    difference = np.abs(one - other).max(2)
    at_seams = np.zeros(difference.shape, bool)
    for number in range(1, ACROSS):
        place = number * len(difference) // ACROSS
        at_seams[place - _NEAR : place + _NEAR] = at_seams[:, place - _NEAR : place + _NEAR] = True
    return float(difference[at_seams].mean()), float(difference[~at_seams].mean())


def measure_tiles(row: Callable[..., dict[str, Any]], side: int = SIDE) -> dict[str, Any]:
    """A picture from 16 tiles on 4 services, compared with a tenth of it that one of them renders whole."""
    folder = Path(tempfile.mkdtemp(prefix="airflow-brayns-bench-"))
    try:
        with emulators(["snapshot_seconds=0"] * SERVICES) as services:
            endpoints = [one.endpoint for one in services]
            before = made(folder / "whole", endpoints[:1], side // SMALLER, None)
            megabytes = made(folder / "tiles", endpoints, side, (ACROSS, ACROSS))
        seams, elsewhere = apart(folder / "tiles" / "cover.png", folder / "whole" / "cover.png")
    finally:
        shutil.rmtree(folder)
    unit = f"MB for {side}x{side}; from a whole one {seams:.2f} of 255 at seams, {elsewhere:.2f} elsewhere"
    holds = megabytes <= _MOST_MEGABYTES and seams <= 1.5 * elsewhere + 0.05
    return row("tiles", megabytes, unit, before, f"<= {_MOST_MEGABYTES} MB, no seam", holds)


if __name__ == "__main__":
    from tests.benchmarks.__main__ import row as table_row

    print(measure_tiles(table_row, *map(int, sys.argv[1:])))
