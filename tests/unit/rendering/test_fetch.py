"""How a movie is fetched from the cluster."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import ConnectionLost, InvalidSetting, RenderingFailed
from airflow_brayns.movie.parts import mark_of
from airflow_brayns.rendering.fetch import fetch
from tests.support.shell import FakeShell

LOG = logging.getLogger("fetch")
DATA = os.urandom(5000)
SUM = hashlib.sha256(DATA).hexdigest()


class Remote(FakeShell):
    """A cluster with a movie; the connection breaks behind so many bytes."""

    def __init__(self, data: bytes = DATA, breaks: int | None = None) -> None:
        super().__init__(files={"/out/movie.mp4": data})
        self.breaks, self.offsets = breaks, list[int]()

    async def get(self, remote: str, offset: int) -> AsyncIterator[bytes]:
        self.offsets.append(offset)
        data = self.files[remote]
        for at in range(offset, len(data), 1000):
            if self.breaks is not None and at >= self.breaks:
                raise ConnectionLost("broke")
            yield data[at : at + 1000]


async def fetched(remote: Remote, target: Path, *, owner: str = "dag/run/task") -> Path:
    return await fetch(SlurmCluster(remote, state_dir="/s"), "/out/movie.mp4", target, SUM, len(DATA), LOG, owner=owner)


async def test_a_movie_comes_whole_and_under_its_name_only_then(tmp_path: Path) -> None:
    target = tmp_path / "movie.mp4"
    assert await fetched(Remote(), target) == target
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("movie.mp4", DATA)]


async def test_a_fetch_that_broke_goes_on_where_it_was(tmp_path: Path) -> None:
    target = tmp_path / "movie.mp4"
    with pytest.raises(ConnectionLost, match="broke"):
        await fetched(Remote(breaks=3000), target)
    assert not target.exists()
    remote = Remote()
    await fetched(remote, target)
    assert remote.offsets == [3000]
    assert target.read_bytes() == DATA


async def test_less_than_all_is_kept_and_what_is_wrong_is_not(tmp_path: Path) -> None:
    target = tmp_path / "movie.mp4"
    with pytest.raises(ConnectionLost, match="4000 of 5000 bytes came"):
        await fetched(Remote(DATA[:4000]), target)
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(RenderingFailed, match="is not what is there"):
        await fetched(Remote(DATA[:4000] + b"x" * 1000), target)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RenderingFailed, match="5001 bytes"):
        await fetched(Remote(DATA + b"x"), target)


async def test_where_it_cannot_be_written_the_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="(?s)^fetch: .*cannot be written: No such file") as raised:
        await fetched(Remote(), tmp_path / "nowhere" / "movie.mp4")
    assert raised.value.retry


async def test_of_earlier_tries_of_the_same_one_and_what_nobody_came_back_for_is_taken_away(tmp_path: Path) -> None:
    whose = mark_of("dag/run/task").partition("-")[0]
    days = time.time() - 8 * 86400
    names = {
        f".movie.{whose}.{'1' * 12}.part": False, f".movie.{'0' * 8}.{'1' * 12}.part": True, f".movie.{'0' * 8}.{'2' * 12}.part": False,
        f".movie.{'2' * 12}.part": False, f".other.{whose}.{'1' * 12}.part": True, "movie.txt": True,
    }  # fmt: skip
    for name in names:
        (tmp_path / name).write_text("x")
        if "2" * 12 in name:
            os.utime(tmp_path / name, (days, days))
    await fetched(Remote(), tmp_path / "movie.mp4")
    assert {name: (tmp_path / name).exists() for name in names} == names
