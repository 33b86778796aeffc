"""A movie of Python whose driver is killed at five moments goes on each time, and every frame is there once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.movie.script_file import ScriptFile
from tests.support.bounds import until
from tests.support.cluster import REPO
from tests.support.movie import check_whole, produce, records
from tests.support.script import FRAME, HEAD, NEEDS_CLIENT, script

pytestmark = [pytest.mark.slow, NEEDS_CLIENT]
FRAMES, MOMENTS = 120, (1, 20, 45, 80, 115)
DRIVER = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
from airflow_brayns.movie.script_file import ScriptFile
from tests.support.movie import produce
file, folder, token, *endpoints = sys.argv[1:]
spec = ScriptFile(Path(file)).specification()
services = [SimpleNamespace(endpoint=one) for one in endpoints]
asyncio.run(produce(spec, services, Path(folder), token=token, script=ScriptFile.of(spec.script)))
"""


def rendered(folder: Path) -> int:
    return len(records(folder)) if (folder / "manifest.jsonl").exists() else 0


def killed_at(frames: int, folder: Path, *words: str) -> None:
    driver = subprocess.Popen([sys.executable, "-W", "ignore", "-c", DRIVER, *words], cwd=REPO)
    try:
        until(lambda: rendered(folder) >= frames or driver.poll() is not None, 300)
    finally:
        driver.kill()
        assert driver.wait() == -9, "it was killed in the middle"


async def test_a_movie_that_is_killed_again_and_again_is_whole(emulator: Any, tmp_path: Path) -> None:
    services = [emulator(snapshot_seconds=0, frame_seconds=0.05) for _ in range(2)]
    file, folder = script(tmp_path, head=HEAD.replace("= 4, 25", f"= {FRAMES}, 25")), tmp_path / "f"
    for number, frames in enumerate(MOMENTS):
        killed_at(frames, folder, str(file), str(folder), f"try{number}", *(one.endpoint for one in services))
    spec = ScriptFile(file).specification()
    last = {"token": "last", "script": ScriptFile.of(spec.script)}
    outcome, told = await produce(spec, services, folder, **last)
    assert outcome.rendered <= FRAMES - MOMENTS[-1]
    [(used, total)] = told.uses
    assert (used.frames, total.frames) == (outcome.rendered, len(records(folder))), (
        "also those of tries that were killed"
    )
    check_whole(folder, FRAMES, doubles=2 * 2 * len(MOMENTS))
    changed = ScriptFile(
        script(tmp_path, FRAME.replace("3, 5", "2, 5"), head=HEAD.replace("= 4, 25", f"= {FRAMES}, 25"))
    )
    spec = changed.specification()
    outcome, told = await produce(spec, services, folder, token="changed", script=ScriptFile.of(spec.script))
    assert outcome.rendered == FRAMES
    assert f"{FRAMES} frames are rendered anew, since growth.py has changed." in told.notes
