"""Which of the files that a task has recorded are sent: whoever writes XCom may have recorded any path."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.movie.codecs import CODECS
from airflow_brayns.page import media
from airflow_brayns.page.media import _KINDS, BusyError, Shown, found, recorded

JPEG = b"\xff\xd8\xff\xe0 and more"


def test_paths_are_those_that_the_task_has_recorded() -> None:
    facts = {
        "brayns_movie": {"movie": "/data/a.mp4", "poster": "/data/a.poster.jpg"},
        "brayns_progress": {"done": 1, "frames_dir": "/data/frames"},
    }
    assert recorded(facts, Shown.MOVIE) == [Path("/data/a.mp4")]
    assert recorded(facts, Shown.CONTACT_SHEET) == []
    assert recorded(facts, Shown.GLIMPSE) == [Path("/data/frames/glimpse/contact-sheet.jpg")]
    assert [path.name for path in recorded(facts, Shown.NEWEST)] == ["newest.png", "newest.jpg"]


@pytest.mark.parametrize("shown", Shown)
@pytest.mark.parametrize("told", [None, 7, "", "a.mp4", "../a.mp4", "/a\0.mp4", ["/a.mp4"], {"movie": {"movie": "/a"}}])
def test_whatever_else_is_recorded_is_no_path(told: Any, shown: Shown) -> None:
    everywhere = {"brayns_movie": {one.value: told for one in Shown}, "brayns_progress": {"frames_dir": told}}
    assert recorded(everywhere, shown) == []
    assert recorded({"brayns_movie": told, "brayns_progress": told}, shown) == []
    assert recorded({}, shown) == []


def test_a_file_is_sent_that_is_what_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / "a poster.JPG"
    path.write_bytes(JPEG)
    file = found([tmp_path / "gone.png", path])
    assert file is not None and (file.name, file.kind) == ("a poster.JPG", "image/jpeg")
    (tmp_path / "secret.cfg").write_text("a secret")
    path.unlink()
    path.symlink_to(tmp_path / "secret.cfg")
    with os.fdopen(file.descriptor, "rb") as sent:
        assert sent.read() == JPEG, "what was looked at, whatever has its name by now"


def test_a_file_system_that_hangs_takes_some_threads_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "_places", threading.BoundedSemaphore(1))
    monkeypatch.setattr(media, "_PATIENCE", 0.05)
    with media._place(), pytest.raises(BusyError):
        found([tmp_path / "a.jpg"])
    assert found([tmp_path / "a.jpg"]) is None


@pytest.mark.parametrize("name", ["passwd", "a.jpg", "a.svg", "a.html", "a.mp4", "a.png", "a.jpg.txt"])
def test_a_file_that_is_none_is_not_sent(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("root:x:0:0: <script>")
    assert found([path]) is None
    path.write_bytes(JPEG[:2])
    assert found([path]) is None


def test_nothing_but_a_file_is_sent_nor_waited_for(tmp_path: Path) -> None:
    folder, pipe, loop = tmp_path / "folder.jpg", tmp_path / "pipe.jpg", tmp_path / "loop.jpg"
    folder.mkdir()
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    assert found([folder, pipe, loop, Path("/dev/zero.jpg"), Path("/half\ud800.jpg")]) is None


def test_every_ending_that_a_movie_may_have_is_known() -> None:
    endings = {ending for some in CODECS.values() for ending in some}
    assert endings <= _KINDS.keys()
