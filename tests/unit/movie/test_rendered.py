"""What a movie is made of: frames that are as their manifest says, all of them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.manifest import NAME, FrameRecord, Header, digest
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.rendered import just_rendered, known_of, plan_of, rendered_in
from airflow_brayns.movie.specification import MovieSpecification
from tests.support.movie import specification

SPECIFICATION = specification(Path("/a.obj"), frames=3)
PLAN = Plan(SPECIFICATION, SceneFacts(Bounds((-1, -1, -1), (1, 1, 1))), scene_hash(SPECIFICATION))
HEADER = Header(PLAN.scene, PLAN.facts.plain(), "one-pass", "3.10.1", SPECIFICATION.plain(), {})


def write(folder: Path) -> None:
    lines = [HEADER.line()]
    for frame, key in PLAN.keyed_frames():
        path, data = folder / PLAN.file(frame), f"frame {frame}".encode()
        path.write_bytes(data)
        lines.append(FrameRecord(frame, key, path.name, digest(data), len(data), path.stat().st_mtime_ns, 1.0).line())
    (folder / NAME).write_text("".join(lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def test_the_files_are_the_manifests_and_the_movie_tells_what_rendered_them(folder: Path) -> None:
    (folder / "00003.png").write_bytes(b"of another movie")
    files, known = rendered_in(folder, 3)
    assert files is not None
    assert [path.name for path in files.paths] == ["00000.png", "00001.png", "00002.png"]
    assert known == {
        "specification": SPECIFICATION.plain(), "braynsService": "3.10.1", "way": "one-pass",
        "manifest_sha256": digest((folder / NAME).read_bytes()),
    }  # fmt: skip


def test_of_what_differs_by_data_the_movie_tells_the_digest() -> None:
    """The table may be longer than the movie, and whoever encodes reads the rest as a specification."""
    told = [
        known_of(replace(HEADER, specification=specification(Path("/a.obj"), frames=2, per_frame=table).plain()), "")
        for table in ({"columns": ["camera.fovy"], "rows": [[45], [fovy]]} for fovy in (30, 31))
    ]
    assert told[0]["per_frame_sha256"] != told[1]["per_frame_sha256"]
    assert told[0]["specification"] == told[1]["specification"]
    assert MovieSpecification.check(told[0]["specification"]).frames == 2


def test_without_a_manifest_all_that_lies_there_is_taken(tmp_path: Path) -> None:
    assert rendered_in(tmp_path, None) == (None, {"manifest_sha256": ""})


def test_a_movie_of_another_length_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidSetting, match="(?s)^frames: .* holds a movie of 3, not of 4"):
        rendered_in(folder, 4)


def test_a_changed_frame_is_no_movies_and_the_next_survey_reads_it(folder: Path) -> None:
    """Its size and time are as they were: who renders would take it for whole."""
    frame = folder / PLAN.file(1)
    before = frame.stat()
    frame.write_bytes(b"FRAME 1")
    os.utime(frame, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(RenderingFailed, match=r"1 of 3 in .* cannot be encoded") as told:
        rendered_in(folder, None)
    assert not told.value.retry, "another task renders them"
    assert frame.stat().st_mtime_ns != before.st_mtime_ns
    with pytest.raises(RenderingFailed) as told:
        just_rendered(folder, PLAN, HEADER)
    assert told.value.retry, "the next try renders them"


@pytest.mark.parametrize("text", ["", "{}\n", '{"manifest": 1, "scene": "\n'])
def test_a_manifest_that_tells_of_no_movie_says_what_to_do(folder: Path, text: str) -> None:
    (folder / NAME).write_text(text)
    with pytest.raises(RenderingFailed, match="(?s)clear the task .*does not tell of which movie its frames are"):
        rendered_in(folder, None)


def test_a_manifest_that_tells_of_no_movie_is_not_retried() -> None:
    with pytest.raises(
        RenderingFailed, match=r"^frames_dir: clear the task that renders\.\n +the manifest tells of no movie"
    ) as raised:
        plan_of(replace(HEADER, specification={"models": []}))
    assert not raised.value.retry
    assert plan_of(HEADER).frames == PLAN.frames


def test_a_movie_of_python_tells_neither_what_its_arguments_are_nor_where_its_files_lie() -> None:
    def told(token: str) -> str:
        source = {"file": "/home/ada/growth.py", "arguments": {"token": token}, "inputs": ["/home/ada/a.csv"],
                  "digests": {"growth.py": "a", "/home/ada/a.csv": "b"}}  # fmt: skip
        return json.dumps(known_of(replace(HEADER, specification={"frames": 3, "script": source}), ""))

    assert "hunter2" not in told("hunter2") and "/home/ada" not in told("hunter2")
    assert "growth.py" in told("hunter2") and "a.csv" in told("hunter2")
    assert told("hunter2") != told("hunter3")
