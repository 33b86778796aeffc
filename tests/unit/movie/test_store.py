"""A folder of frames belongs to one movie at a time, for as long as its renderer lives."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.cluster.cluster import LocalCluster
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster_store import ClusterStore
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie import store as module
from airflow_brayns.movie.manifest import Header
from airflow_brayns.movie.store import FolderStore, Superseded, remove_frames

pytestmark = pytest.mark.slow

ONE, TWO = "dag/one/render/-1", "dag/two/render/-1"


def here(folder: Path, movie: str, token: str) -> FolderStore:
    return FolderStore(folder, movie, token)


def there(folder: Path, movie: str, token: str) -> ClusterStore:
    return ClusterStore(LocalCluster(LocalShell()), str(folder), "/ffmpeg", movie, token, list)


EITHER = pytest.mark.parametrize("make", [here, there])
HEADER = Header("scene", {"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0}, "snapshot", "3", {}, {})


def age(folder: Path, token: str, seconds: float) -> float:
    """As if nothing had been heard of a driver for so long."""
    claim = folder / f".driver-{token}"
    when = claim.stat().st_mtime - seconds
    os.utime(claim, (when, when))
    return when


@EITHER
async def test_it_is_renewed_by_time_while_its_holder_lives(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that loads, or a slow frame, takes longer than any claim: another run took over."""
    monkeypatch.setattr("airflow_brayns.movie.store._BEAT_SECONDS", 0.05)
    monkeypatch.setattr("airflow_brayns.cluster_store._BEAT_SECONDS", 0.05)
    first = make(tmp_path, ONE, "one")
    await first.open()
    before = age(tmp_path, "one", 1000)
    async with asyncio.timeout(30):
        while (tmp_path / ".driver-one").stat().st_mtime < before + 900:
            await asyncio.sleep(0.02)
    with pytest.raises(
        InvalidSetting, match=f"frames_dir: .* is in use by {ONE}.*wait until that one has ended"
    ) as told:
        await make(tmp_path, TWO, "two").open()
    assert told.value.retry
    await first.begin(HEADER)
    await first.close()
    assert not list(tmp_path.glob(".driver*"))
    second = make(tmp_path, TWO, "two")
    await second.open()
    await second.close()


@EITHER
async def test_the_first_is_told_truly_who_has_taken_over(tmp_path: Path, make: Any) -> None:
    for movie, says in ((TWO, f"{TWO} has taken it over"), (ONE, "another try of this movie has taken over")):
        folder = tmp_path / movie.replace("/", "_")
        first, second = make(folder, ONE, "one"), make(folder, movie, "two")
        await first.open()
        age(folder, "one", 1000)
        await second.open()
        with pytest.raises(Superseded, match=says):
            await first.begin(HEADER)
        await first.close()
        await second.begin(HEADER)
        await second.close()
        third = make(folder, ONE, "three")
        await third.open()
        (folder / ".driver-three").unlink()
        with pytest.raises(Superseded, match="claim on it is gone"):
            await third.begin(HEADER)
        await third.close()


async def test_who_takes_over_is_named_before_the_one_before_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In between, the one before read that 'somebody else' had taken it over."""
    named, unlink = list[str](), Path.unlink

    def watched(path: Path, missing_ok: bool = False) -> None:
        if path.name == ".driver-one":
            named.append(json.loads((tmp_path / ".driver-two").read_text())["movie"])
        unlink(path, missing_ok)

    first, second = FolderStore(tmp_path, ONE, "one"), FolderStore(tmp_path, ONE, "two")
    await first.open()
    monkeypatch.setattr(Path, "unlink", watched)
    await second.open()
    assert named == [ONE]
    await first.close()
    await second.close()


@EITHER
async def test_a_retry_of_the_same_task_takes_over_at_once(tmp_path: Path, make: Any) -> None:
    first, second = make(tmp_path, ONE, "one"), make(tmp_path, ONE, "two")
    await first.open()
    await second.open()
    with pytest.raises(Superseded):
        await first.begin(HEADER)
    for one in (first, second):
        await one.close()


@EITHER
async def test_of_many_movies_at_the_same_moment_one_gets_the_folder(tmp_path: Path, make: Any) -> None:
    stores = [make(tmp_path, f"dag/{number}/render/-1", f"t{number}") for number in range(6)]
    results = await asyncio.gather(*(one.open() for one in stores), return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert all(isinstance(result, InvalidSetting) for result in results if isinstance(result, BaseException))
    for one in stores:
        await one.close()
    assert not list(tmp_path.glob(".driver*"))


@EITHER
async def test_one_that_was_killed_while_it_opened_is_not_waited_for_for_ever(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OPENING_SECONDS", 0.2)
    (tmp_path / ".driver-opening").mkdir()
    one = make(tmp_path, ONE, "one")
    async with asyncio.timeout(60):
        await one.open()
    await one.close()
    assert not list(tmp_path.glob(".driver*"))


async def test_it_is_renewed_while_the_loop_is_busy_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question to Airflow that is asked in the loop can hold it for as long as the API server takes."""
    monkeypatch.setattr(module, "_BEAT_SECONDS", 0.05)
    first = here(tmp_path, ONE, "one")
    await first.open()
    before = age(tmp_path, "one", 1000)
    until = time.monotonic() + 20
    while (tmp_path / ".driver-one").stat().st_mtime < before + 900 and time.monotonic() < until:
        time.sleep(0.02)
    assert (tmp_path / ".driver-one").stat().st_mtime > before + 900
    await first.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("frames claim")]


async def test_frames_of_who_renders_there_by_now_are_not_taken_away(tmp_path: Path) -> None:
    """A run whose movie is made drops its frames: another one may have the folder since."""
    one = here(tmp_path, ONE, "one")
    await one.open()
    (tmp_path / "00000.png").write_bytes(b"frame")
    remove_frames(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".driver-one", "00000.png"}
    age(tmp_path, "one", 1000)
    remove_frames(tmp_path)
    assert not tmp_path.exists()
    await one.close()
