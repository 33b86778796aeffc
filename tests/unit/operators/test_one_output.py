"""Two that write to one output do not disturb one another, and what killed ones have left goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from PIL import Image

from airflow_brayns.movie import encode as encoding
from airflow_brayns.movie.ffmpeg import look_into
from airflow_brayns.movie.parts import Parts, mark_of
from tests.support.pictures import left, shown

pytestmark = pytest.mark.slow

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
QUICK = {"environment": {"BRAYNS_EMULATOR": "snapshot_seconds=0"}}


async def test_two_that_encode_to_one_output_are_both_right_and_the_last_stays_whole(tmp_path: Path) -> None:
    folders = []
    for color, number in (((255, 0, 0), 30), ((0, 0, 255), 40)):
        folder = tmp_path / f"{color[0]}"
        folder.mkdir()
        for frame in range(number):
            Image.new("RGB", (96, 64), color).save(folder / f"{frame:05d}.png")
        folders.append(folder)
    output = tmp_path / "movie.mp4"
    for _ in range(3):
        one, other = await asyncio.gather(
            *(encoding.encode_movie(f, output, poster=True, sheet=True, owner=f.name) for f in folders)
        )
        assert (one.frames, other.frames) == (30, 40)
        made = await look_into(output)
        color = {30: "red", 40: "blue"}[made.frames]
        assert (
            shown(output)
            == shown(output.with_suffix(".poster.jpg"))
            == shown(output.with_suffix(".sheet.jpg"))
            == color
        )
        assert not list(tmp_path.glob(".*"))


async def test_cancelling_one_does_not_disturb_the_other(tmp_path: Path) -> None:
    for frame in range(200):
        Image.new("RGB", (640, 360), (frame, 0, 0)).save(tmp_path / f"{frame:05d}.png")
    output = tmp_path / "movie.mp4"
    begun = asyncio.Event()
    ways = [asyncio.create_task(encoding.encode_movie(tmp_path, output, owner="a", progress=lambda *_: begun.set())),
            asyncio.create_task(encoding.encode_movie(tmp_path, output, owner="b"))]  # fmt: skip
    await asyncio.wait_for(begun.wait(), 60)
    ways[0].cancel()
    await asyncio.gather(ways[0], return_exceptions=True)
    assert (await ways[1]).frames == 200
    assert not list(tmp_path.glob(".*"))


def test_what_killed_runs_have_left_is_taken_away(tmp_path: Path) -> None:
    """An earlier try of the same task at once, another's when nobody has touched it for two minutes."""
    output = tmp_path / "movie [x].mp4"
    mine = mark_of("run/task")
    earlier, other = mark_of("run/task"), mark_of("other")
    gone = [
        left(tmp_path, f".movie [x].{earlier}.part.mp4", 1),
        left(tmp_path, f".movie [x].poster.{earlier}.part.jpg", 1),
        left(tmp_path, f".movie [x].{mark_of('dead')}.part.mp4", 300),
        left(tmp_path, ".movie [x].part.mp4", 7200),
    ]
    stays = [
        left(tmp_path, f".movie [x].{other}.part.mp4", 30),
        left(tmp_path, ".movie [x].part.mp4.txt", 7200),
        left(tmp_path, f".movie.{other}.part.mp4", 300),
        left(tmp_path, f".movie [x].more.{other}.part.mp4", 300),
        left(tmp_path, "movie [x].mp4", 7200),
    ]
    parts = Parts(output, mine)
    assert sorted(parts.clean()) == sorted(gone)
    assert sorted(tmp_path.iterdir()) == sorted(stays)


async def test_a_name_of_the_longest_length_has_part_files_too(tmp_path: Path) -> None:
    for frame in range(2):
        Image.new("RGB", (96, 64)).save(tmp_path / f"{frame:05d}.png")
    output = tmp_path / f"{'ü' * 120}.mp4"
    assert (await encoding.encode_movie(tmp_path, output, owner="a")).frames == 2
    assert output.exists()


async def test_a_writer_that_lives_is_not_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_brayns.movie.parts.BEAT_SECONDS", 0.02)
    parts = Parts(tmp_path / "movie.mp4", mark_of("a"))
    async with parts.held():
        part = parts.part(parts.output)
        left(tmp_path, part.name, 500)
        before = part.stat().st_mtime
        async with asyncio.timeout(20):
            while part.stat().st_mtime == before:
                await asyncio.sleep(0.02)
        assert Parts(parts.output, mark_of("b")).clean() == []
    assert not part.exists()
