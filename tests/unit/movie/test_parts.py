"""Part files: what killed writers leave is taken away, what living ones write is not touched."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path, PurePath

import pytest

from airflow_brayns.movie import parts as module
from airflow_brayns.movie.parts import Parts, beside, mark_of, part_of, stem_of

OWNER = "dag/run/task/-1"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path / "movie.mp4", mark_of(OWNER))


def left(folder: Path, name: str, seconds: float) -> Path:
    """A file that nobody has touched for so long."""
    path = folder / name
    path.write_text("x")
    when = time.time() - seconds
    os.utime(path, (when, when))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_tries_of_one_owner_have_the_same_beginning() -> None:
    one, other, strange = mark_of(OWNER), mark_of(OWNER), mark_of("another")
    assert one != other
    assert one[:8] == other[:8] != strange[:8]
    assert len(one) == len("01234567-012345")
    assert mark_of("")[:8] != mark_of("")[:8], "nobody's tries are not taken for one another's"


def test_a_part_file_lies_hidden_beside_its_file_with_its_ending() -> None:
    assert part_of(PurePath("/out/a.b.mp4"), "m") == PurePath("/out/.a.b.m.part.mp4")
    assert beside(PurePath("/out/a.b.mp4")) == (PurePath("/out/a.b.poster.jpg"), PurePath("/out/a.b.sheet.jpg"))


@pytest.mark.parametrize("length", [180, 181])
def test_a_name_that_would_be_too_long_is_replaced_by_a_hash(length: int) -> None:
    stem = stem_of(PurePath("x" * length + ".mp4"))
    assert stem == "x" * 180 if length == 180 else len(stem) == 16


def test_what_is_there_appears_under_its_name_and_nothing_else(parts: Parts, tmp_path: Path) -> None:
    poster, sheet = map(Path, beside(parts.output))
    parts.part(parts.output).write_text("new")
    parts.part(poster).write_text("new poster")
    parts.output.write_text("old")
    parts.publish()
    assert names(tmp_path) == ["movie.mp4", "movie.poster.jpg"]
    assert (parts.output.read_text(), poster.read_text()) == ("new", "new poster")
    assert not sheet.exists()


def test_of_an_earlier_try_nothing_is_needed_and_of_others_what_is_silent(parts: Parts, tmp_path: Path) -> None:
    mine = left(tmp_path, f".movie.{mark_of(OWNER)}.part.mp4", 0)
    silent = left(tmp_path, f".movie.sheet.{mark_of('another')}.part.jpg", 130)
    living = left(tmp_path, f".movie.poster.{mark_of('another')}.part.jpg", 100)
    ancient = left(tmp_path, ".movie.part.mp4", 3700)
    older = left(tmp_path, ".movie.part.mp4x", 130)
    others = [
        left(tmp_path, name, 10**6) for name in ("movie.mp4", ".other.part.mp4", f".other.{mark_of('a')}.part.mp4")
    ]
    own = parts.part(parts.output)
    own.write_text("x")
    assert sorted(parts.clean()) == sorted([mine, silent, ancient])
    assert {living, older, own, *others} == set(tmp_path.iterdir())


def test_one_of_a_version_that_did_not_say_that_it_lives_has_an_hour(parts: Parts, tmp_path: Path) -> None:
    left(tmp_path, ".movie.part.mp4", 3500)
    assert parts.clean() == []


def test_cleaning_leaves_nothing_behind(parts: Parts, tmp_path: Path) -> None:
    parts.clean()
    assert names(tmp_path) == []
    parts.part(parts.output).write_text("mine")
    parts.clean()
    assert parts.part(parts.output).read_text() == "mine"


async def test_a_living_writer_shows_that_it_lives_and_leaves_nothing(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    gone = left(tmp_path, f".movie.{mark_of('another')}.part.mp4", 130)
    async with parts.held():
        assert not gone.exists()
        mine = left(tmp_path, parts.part(parts.output).name, 1000)
        async with asyncio.timeout(10):
            while mine.stat().st_mtime < time.time() - 500:
                await asyncio.sleep(0.01)
    assert names(tmp_path) == []


async def test_a_writer_that_fails_leaves_nothing_either(parts: Parts, tmp_path: Path) -> None:
    async def write() -> None:
        async with parts.held():
            for final in (parts.output, *map(Path, beside(parts.output))):
                parts.part(final).write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write()
    assert names(tmp_path) == []


def test_where_the_folder_is_not_there_nobody_writes(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "none" / "movie.mp4", mark_of(OWNER))
    assert parts.clean() == []
