"""What two runs share, on purpose or not: a folder of frames, an output; and the nodes of a mapped task with one release."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from airflow_brayns.movie.ffmpeg import look_into
from tests.system.faults.bench import FOLDER, Run
from tests.system.faults.table import Fault, Row, Scene

OUTPUT = FOLDER / "runs" / "same.mp4"
SLOW = {"emulator": "snapshot_seconds=0,frame_seconds=0.4"}


def second_of(scene: Scene, **changes: object) -> Run:
    """Another run with the same conf but for the changes, begun now."""
    first = scene.only
    run = Run(scene.bench, first.stage, first.dag_id, f"second.{first.run_id}", {})
    conf = {**first.conf, "folder": str(run.folder), "gate": str(run.gate), **changes}
    run.conf = conf
    scene.bench.start(run)
    return run


def same_frames(scene: Scene) -> None:
    """As if the first had not kept a frame for a quarter of an hour; it lives, so it stays its own."""
    first = scene.only
    claim = next(path for path in (first.folder / "frames").glob(".driver-*") if path.is_file())
    old = time.time() - 900
    os.utime(claim, (old, old))
    scene.bench.until(lambda: claim.stat().st_mtime > old + 600, 30, "its claim is renewed")
    second = second_of(scene, folder=str(first.folder))
    scene.bench.until(lambda: second.state() == "failed", 120, f"the second is refused, not {second.state()}")
    if f"is in use by {first.dag_id}/{first.run_id}/movie/-1" not in second.log():
        raise AssertionError("the second was not told whose the frames are")
    if scene.bench.watch.ever(second.names):
        raise AssertionError("nodes were asked for in vain")


def same_output(scene: Scene) -> None:
    """Both are right, and what stays is one of the two, whole."""
    first = scene.only
    second = second_of(scene, specification={**first.conf["specification"], "frames": 81})
    scene.bench.until(lambda: second.state() == "success", 150, f"the second has ended, not {second.state()}")
    scene.bench.until(lambda: first.state() == "success", 150, "the first has ended")
    made = asyncio.run(look_into(Path(OUTPUT)))
    if made.frames not in (80, 81):
        raise AssertionError(f"the movie has {made.frames} frames")
    if left := list(OUTPUT.parent.glob(".same*")):
        raise AssertionError(f"left: {left}")


def nothing(scene: Scene) -> None:
    """That its setup is mapped and its release is not is the fault."""


FAULTS = [
    Fault(
        "same_frames",
        same_frames,
        (Row("movie", "success/success", "The movie is", conf={"frames": 400, **SLOW}, deadline=300),),
    ),
    Fault(
        "same_output",
        same_output,
        (Row("movie", "success/success", "The movie is", conf={"output": str(OUTPUT), **SLOW}, deadline=60),),
    ),
    Fault(
        "one_release_of_mapped",
        nothing,
        (Row("using", "success/success", "has been given back", jobs=(2, 2), dag_id="faults_mapped_whole"),),
    ),
]
