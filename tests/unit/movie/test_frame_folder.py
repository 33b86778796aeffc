"""A folder of frames belongs to one movie at a time, for as long as its renderer lives."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import resource
import signal
import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.shell import LocalShell, Shell
from airflow_brayns.errors import InvalidSetting, RenderingFailed, StorageFailed, Superseded
from airflow_brayns.movie import frame_folder as module
from airflow_brayns.movie.frame_folder import FolderStore, remove_frames
from airflow_brayns.movie.frame_store import ASIDE, Made, Survey, listed, superseded
from airflow_brayns.movie.manifest import NAME, Header, Manifest
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.rendering.cluster_frames import ClusterFrames
from tests.support.movie import specification
from tests.support.shell import ShellThrough

ONE, TWO = "dag/one/render/-1", "dag/two/render/-1"


def here(folder: Path, movie: str, token: str) -> FolderStore:
    return FolderStore(folder, movie, token)


def there(folder: Path, movie: str, token: str, shell: Shell | None = None) -> ClusterFrames:
    return ClusterFrames(LocalCluster(shell or LocalShell()), str(folder), "/ffmpeg", movie, token, list)


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
    monkeypatch.setattr("airflow_brayns.movie.frame_folder._BEAT_SECONDS", 0.05)
    monkeypatch.setattr("airflow_brayns.rendering.cluster_frames._BEAT_SECONDS", 0.05)
    first = make(tmp_path, ONE, "one")
    await first.open()
    before = age(tmp_path, "one", 1000)
    async with asyncio.timeout(30):
        while (tmp_path / ".driver-one").stat().st_mtime < before + 900:
            await asyncio.sleep(0.02)
    with pytest.raises(
        InvalidSetting, match=f"(?s)frames_dir: .*wait until that one has ended.* is in use by {ONE}"
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


# Who waits tries 60 times, a quarter of a second apart; on this cluster nobody sleeps.
@pytest.mark.parametrize("make", [here, partial(there, shell=ShellThrough(["/bin/sh"], "sleep() { :; }"))])
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


@pytest.mark.parametrize(("make", "other"), [(here, there), (there, here)])
async def test_one_folder_is_one_whichever_way_its_frames_go(tmp_path: Path, make: Any, other: Any) -> None:
    """Workers that mount the cluster's folder took it from a movie whose frames stay there, which was in use: the claim of
    each was written in a way that the other took for nothing.
    """
    first = make(tmp_path, ONE, "one")
    await first.open()
    age(tmp_path, "one", 50)
    with pytest.raises(InvalidSetting, match=f"is in use by {ONE}"):
        await other(tmp_path, TWO, "two").open()
    (tmp_path / "00000.png").write_bytes(b"frame")
    remove_frames(tmp_path)
    assert (tmp_path / "00000.png").exists()
    await first.begin(HEADER)
    again = other(tmp_path, ONE, "three")  # the next try of the same
    await again.open()
    with pytest.raises(Superseded, match="another try of this movie has taken over"):
        await first.begin(HEADER)
    for one in (first, again):
        await one.close()


async def test_a_claim_made_by_commands_on_the_cluster_is_renewed_less_often(tmp_path: Path) -> None:
    first = there(tmp_path, ONE, "one")
    await first.open()
    age(tmp_path, "one", 120)
    with pytest.raises(InvalidSetting, match=f"is in use by {ONE}"):
        await here(tmp_path, TWO, "two").open()
    age(tmp_path, "one", 120)
    second = here(tmp_path, TWO, "two")
    await second.open()
    for one in (first, second):
        await one.close()


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


# ---- frames ------------------------------------------------------------------------------------------------------------
PLAN = Plan(specification(Path("/a.obj"), frames=4), SceneFacts.from_plain(HEADER.facts), "scene")
MADE = Made(1.23456, "n1", "77", "brayns1", "3.10.1", "snapshot", "one")


def picture(color: str = "red", size: tuple[int, int] = (96, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    one = FolderStore(tmp_path / "frames", ONE, "one")
    await one.open()
    await one.begin(HEADER)
    yield one
    await one.close()


async def kept(store: FolderStore, *frames: int) -> Manifest:
    """With these frames; as a next try finds it."""
    for frame in frames:
        await store.keep(PLAN, frame, picture(), MADE)
    with (store.folder / NAME).open() as lines:
        return Manifest.read(lines).usable()


async def test_a_frame_that_is_kept_is_whole_with_its_line(store: FolderStore) -> None:
    await store.keep(PLAN, 2, picture(), MADE)
    assert (store.folder / "00002.png").read_bytes() == picture()
    header, line = map(json.loads, (store.folder / NAME).read_text().splitlines())
    assert header["scene"] == "scene"
    status = (store.folder / "00002.png").stat()
    assert line == {
        "frame": 2, "key": PLAN.key(2), "file": "00002.png", "sha256": hashlib.sha256(picture()).hexdigest(), "size": len(picture()),
        "mtime": status.st_mtime_ns, "seconds": 1.2346, "node": "n1", "job": "77", "service": "brayns1", "version": "3.10.1",
        "way": "snapshot", "scene": "scene", "holder": "one",
    }  # fmt: skip
    assert store.file_path(PLAN, 2) == "", "the image comes over the connection"


async def test_a_frame_that_is_not_whole_is_not_kept(store: FolderStore) -> None:
    for data in (picture()[:-5], picture(size=(96, 63))):
        with pytest.raises(RenderingFailed):
            await store.keep(PLAN, 2, data, MADE)
    assert sorted(path.name for path in store.folder.iterdir()) == [".driver-one", NAME]


async def test_after_another_one_has_taken_over_nothing_is_written_any_more(store: FolderStore) -> None:
    second = FolderStore(store.folder, ONE, "two")
    await second.open()
    for write in (store.keep(PLAN, 2, picture(), MADE), store.begin(HEADER), store.put_aside(PLAN)):
        with pytest.raises(Superseded, match="another try of this movie has taken over"):
            await write
    assert not (store.folder / "00002.png").exists()
    await second.close()


async def test_a_folder_that_cannot_be_written_says_so_and_keeps_what_is_there(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    await store.keep(PLAN, 1, picture(), MADE)
    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(
        StorageFailed, match=rf"^frames_dir: make it .*\n +{store.folder} cannot be written: No space left on device"
    ) as raised:
        await store.keep(PLAN, 2, picture(), MADE)
    assert raised.value.retry
    assert sorted(path.name for path in store.folder.iterdir()) == [".driver-one", "00001.png", NAME]


async def test_a_line_for_which_there_is_no_room_leaves_nothing_of_it(store: FolderStore) -> None:
    await store.keep(PLAN, 1, picture(), MADE)
    manifest = store.folder / NAME
    before = manifest.read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, limits[1]))  # room for the first half of a line
    try:
        with pytest.raises(StorageFailed, match="File too large"):
            await store.begin(HEADER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert manifest.read_bytes() == before
    await store.begin(HEADER)
    assert manifest.read_bytes() == before + HEADER.line().encode()


async def test_what_a_resume_finds(store: FolderStore) -> None:
    manifest = await kept(store, 0, 1, 2)
    (store.folder / "00001.png").write_bytes(picture("blue"))
    (store.folder / "00002.png").unlink()
    found = await store.survey(PLAN, manifest)
    assert (found.done, found.missing, found.changed, found.damaged, found.left) == ({0}, [2, 3], [], [1], [1, 2, 3])
    assert found.text(PLAN) == "1 frames are there already; 2 missing (2-3); 1 damaged (1)"
    other = Plan(specification(Path("/a.obj"), frames=4, resolution=[96, 66]), PLAN.facts, "scene")
    assert (await store.survey(other, manifest)).changed == [0, 1]


async def test_a_file_that_only_looks_touched_is_read_and_one_that_is_a_link_is_none(
    store: FolderStore, tmp_path: Path
) -> None:
    manifest = await kept(store, 0, 1, 2)
    os.utime(store.folder / "00000.png", (5, 5))
    (store.folder / "00001.png").rename(tmp_path / "elsewhere.png")
    (store.folder / "00001.png").symlink_to(tmp_path / "elsewhere.png")
    (store.folder / "00002.png").unlink()
    (store.folder / "00002.png").mkdir()
    found = await store.survey(PLAN, manifest)
    assert (found.done, found.damaged) == ({0}, [1, 2])


async def test_an_edit_that_keeps_size_and_time_is_found_by_who_reads_all(store: FolderStore) -> None:
    manifest = await kept(store, 0)
    file = store.folder / "00000.png"
    status, data = file.stat(), bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert module.survey_folder(store.folder, PLAN, manifest).done == {0}
    assert module.survey_folder(store.folder, PLAN, manifest, thorough=True).damaged == [0]


async def test_a_line_that_was_cut_off_does_not_swallow_the_next_one(store: FolderStore) -> None:
    await kept(store, 0)
    with (store.folder / NAME).open("ab") as lines:
        lines.write(b'{"frame": 1, "ke')
    await store.close()
    found = await FolderStore(store.folder, ONE, "two").open()
    assert list(found.frames) == [0]
    assert (store.folder / NAME).read_bytes().endswith(b'"ke\n')


async def test_what_is_none_of_this_movies_is_put_aside_each_name_once(store: FolderStore) -> None:
    await kept(store, 0)
    for name in ("00007.png", "00001.jpg", "notes.txt", "1.png"):
        (store.folder / name).write_text(name)
    (store.folder / "00002.png").mkdir()
    assert await store.put_aside(PLAN) == 3
    assert await store.put_aside(PLAN) == 0
    (store.folder / "00007.png").write_text("again")
    assert await store.put_aside(PLAN) == 1
    aside = store.folder / ASIDE
    assert sorted(path.name for path in aside.iterdir()) == ["00001.jpg", "00002.png", "00007.png"]
    assert (aside / "00007.png").read_text() == "again"
    assert (
        (store.folder / "00000.png").exists()
        and (store.folder / "notes.txt").exists()
        and (store.folder / "1.png").exists()
    )


async def test_frames_are_removed_with_all_that_came_with_them_and_nothing_else(store: FolderStore) -> None:
    await kept(store, 0, 1)
    (store.folder / "00007.png").write_text("x")
    await store.put_aside(PLAN)
    remove_frames(store.folder)
    assert (store.folder / "00000.png").exists(), "somebody renders there"
    await store.close()
    (store.folder / "notes.txt").write_text("x")
    remove_frames(store.folder)
    assert [path.name for path in store.folder.iterdir()] == ["notes.txt"]
    (store.folder / "notes.txt").unlink()
    remove_frames(store.folder)
    assert not store.folder.exists()


@pytest.mark.parametrize(
    ("frames", "text"),
    [([], ""), ([3], "3"), ([0, 1, 2], "0-2"), ([9, 0, 1, 7], "0-1, 7, 9"), (range(0, 42, 2), ", ".join(map(str, range(0, 40, 2))) + " …"), (range(0, 40, 2), ", ".join(map(str, range(0, 40, 2))))],
)  # fmt: skip
def test_frames_as_people_write_them(frames: Any, text: str) -> None:
    assert listed(frames) == text


@pytest.mark.parametrize(
    ("by", "why"),
    [
        (ONE, "another try of this movie has taken over"),
        (TWO, "dag/two/render/-1 has taken it over: nothing was heard of this task for 60 s"),
        ("", "this task's claim on it is gone"),
    ],
)
def test_who_has_taken_a_folder_over_is_told(by: str, why: str) -> None:
    error = superseded("/frames", ONE, by)
    assert str(error).startswith(f"frames_dir: /frames: {why}")
    assert not error.retry


def test_nothing_found_is_nothing_to_render() -> None:
    assert Survey().text(PLAN) == "nothing to render"
