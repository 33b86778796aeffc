"""A movie of 100,000 frames on the cluster: a triggerer renders it, whose loop is everybody's."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.movie.interfaces import FixedServices
from airflow_brayns.movie.manifest import NAME, FrameRecord, Header
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.production import Production
from airflow_brayns.movie.queue import FrameQueue
from airflow_brayns.movie.script import without_values
from airflow_brayns.rendering.cluster_frames import ClusterFrames
from tests.support.loop import watched_loop
from tests.support.movie import Remembers, produce, specification

pytestmark = pytest.mark.slow
FRAMES = 100_000
FACTS = {"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0}
LONGEST = 0.1  # seconds for which nobody else gets a turn


def rendered(folder: Path) -> tuple[Plan, Header]:
    """All frames of a movie, as a try has left them: here two files by 50,000 names each."""
    asked = specification(Path("/a.obj"), frames=FRAMES)
    plan = Plan(asked, SceneFacts.from_plain(FACTS), scene_hash(asked))
    header = Header(plan.scene, FACTS, "snapshot", "3.10.1", without_values(asked.plain()), {})
    files = [folder / ".first", folder / ".second"]  # a file may have 65,000 names
    for one in files:
        one.write_bytes(b"a picture\n")
        os.utime(one, (1_700_000_000, 1_700_000_000))
    made = FrameRecord(0, "", "", "0" * 64, 10, 1_700_000_000 * 10**9, node="n1", job="7", holder="try1")
    with (folder / NAME).open("w") as lines:
        lines.write(header.line())
        for frame, key in plan.keyed_frames():
            os.link(files[frame % 2], folder / plan.file(frame))
            lines.write(replace(made, frame=frame, key=key, file=plan.file(frame)).line())
    return plan, header


async def test_a_resume_of_a_hundred_thousand_frames_holds_the_loop_for_no_moment(tmp_path: Path) -> None:
    """Of a million frames the survey alone took 11 s, in which nothing else of that triggerer moved."""
    plan, header = rendered(tmp_path)
    (tmp_path / f"{FRAMES:06d}.png").write_bytes(b"another movie's\n")
    cluster = SlurmCluster(LocalShell(), state_dir=str(tmp_path / "state"))
    store = ClusterFrames(cluster, str(tmp_path), "/ffmpeg", "dag/run/render", "try2", list)
    async with watched_loop() as held:
        outcome = await Production(plan.specification, FixedServices([]), store, Remembers()).look()
    assert outcome is not None and outcome.header == header
    assert len(outcome.survey.done) == FRAMES
    assert (tmp_path / "set-aside" / f"{FRAMES:06d}.png").is_file()
    assert held.longest < LONGEST


async def test_a_loop_that_is_held_is_noticed() -> None:
    async with watched_loop() as held:
        sum(number for number in range(5_000_000))
    assert held.longest > LONGEST


async def test_frames_are_put_in_order_beside_the_loop(
    tmp_path: Path, emulator, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    queue_of = FrameQueue.of

    def noted(plan: Plan, survey):
        threads.append(threading.current_thread())
        return queue_of(plan, survey)

    monkeypatch.setattr(FrameQueue, "of", noted)
    await produce(specification(data / "cube.obj", frames=4), [emulator()], tmp_path)
    assert threads and threading.main_thread() not in threads
