"""A movie that is gone on with: what was rendered before is looked at, and only what is not as it should be is rendered."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from PIL import Image

from airflow_brayns.errors import InvalidSetting
from tests.support.movie import check_whole, produce, records, specification

pytestmark = pytest.mark.slow

QUICK = {"snapshot_seconds": 0, "frame_seconds": 0.02}


async def test_a_resume_renders_what_is_missing_damaged_or_swapped_and_nothing_else(
    emulator, data: Path, tmp_path: Path
) -> None:
    spec = specification(data / "cube.obj", frames=12)
    service = emulator(**QUICK)
    await produce(spec, [service], tmp_path)
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    (tmp_path / "00001.png").write_bytes(whole["00001.png"][:-30])
    (tmp_path / "00003.png").write_bytes(b"")
    (tmp_path / "00005.png").unlink()
    (tmp_path / "00007.png").rename(tmp_path / "x")
    (tmp_path / "00008.png").rename(tmp_path / "00007.png")
    (tmp_path / "x").rename(tmp_path / "00008.png")
    with Image.open(tmp_path / "00010.png") as picture:
        small = picture.resize((48, 32))
    small.save(tmp_path / "00010.png")
    (tmp_path / ".00011.other.part").write_bytes(b"half")
    outcome, told = await produce(spec, [service], tmp_path, token="try2")
    assert outcome.survey.left == [1, 3, 5, 7, 8, 10]
    assert outcome.rendered == 6
    assert "1 missing (5)" in told.text
    assert "5 damaged (1, 3, 7-8, 10)" in told.text
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == whole
    check_whole(tmp_path, 12, doubles=6)


async def test_a_file_that_was_only_touched_counts(emulator, data: Path, tmp_path: Path) -> None:
    spec = specification(data / "cube.obj", frames=3)
    service = emulator(**QUICK)
    await produce(spec, [service], tmp_path)
    os.utime(tmp_path / "00001.png")
    outcome, told = await produce(spec, [], tmp_path, token="try2")
    assert outcome.rendered == 0
    assert "All 3 frames are there already" in told.text


async def test_a_changed_specification_renders_again_what_it_changes(emulator, data: Path, tmp_path: Path) -> None:
    service = emulator(**QUICK)
    keyframes = [{"frame": n, "position": [5, n, 9], "target": [0, 0, 0]} for n in (0, 4, 8)]
    camera = {"path": "keyframes", "keyframes": keyframes}
    await produce(specification(data / "cube.obj", camera=camera), [service], tmp_path)
    moved = {"path": "keyframes", "keyframes": [*keyframes[:2], {**keyframes[2], "position": [5, 9, 9]}]}
    outcome, told = await produce(specification(data / "cube.obj", camera=moved), [service], tmp_path, token="2")
    assert outcome.survey.changed == [1, 2, 3, 5, 6, 7, 8], "frames 0 and 4 are where they were"
    assert "7 changed" in told.text
    outcome, _ = await produce(specification(data / "cube.obj", camera=moved, fps=50), [service], tmp_path, token="3")
    assert outcome.rendered == 0, "how it is encoded changes no frame"
    outcome, _ = await produce(
        specification(data / "cube.obj", camera=moved, frames=12), [service], tmp_path, token="4"
    )
    assert outcome.survey.missing == [9, 10, 11]
    assert not outcome.survey.changed


async def test_versions_and_ways_are_not_mixed(emulator, data: Path, tmp_path: Path) -> None:
    service = emulator(**QUICK)
    spec = specification(data / "cube.obj", frames=4)
    await produce(spec, [service], tmp_path)
    (tmp_path / "00002.png").unlink()
    with pytest.raises(InvalidSetting, match=r"rendered by braynsService 3\.10\.1, .* is 3\.9\.0: mixing"):
        await produce(spec, [service], tmp_path, token="2", render_service={"version": "3.9.0"})
    way = records(tmp_path)[0]["way"]
    other = "snapshot" if way == "one-pass" else "one-pass"
    with pytest.raises(InvalidSetting, match="would flicker"):
        await produce(spec, [service], tmp_path, token="2", way=other)


async def test_another_movie_in_the_same_folder_is_refused(emulator, data: Path, tmp_path: Path) -> None:
    spec = specification(data / "cube.obj", frames=60)
    first = asyncio.create_task(produce(spec, [emulator(**QUICK)], tmp_path, movie="one"))
    while not list(tmp_path.glob("*.png")):
        await asyncio.sleep(0.01)
    with pytest.raises(InvalidSetting, match="in use by one"):
        await produce(spec, [emulator(**QUICK)], tmp_path, movie="two", token="2")
    await first
    check_whole(tmp_path, 60)
