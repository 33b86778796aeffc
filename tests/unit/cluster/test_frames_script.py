"""The script that keeps frames on the cluster, where its folder is full: nothing half-written counts, and no frame is blamed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from airflow_brayns.cluster.keeper import shell_text

SHELLS = {"dash": ["/bin/dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}
LIMIT = "ulimit -f 2"  # 1 KiB


@pytest.fixture(params=sorted(SHELLS))
def run(request: pytest.FixtureRequest, tmp_path: Path):
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (apt-get install {command[0]})")
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho 'Stream #0: Video: png, rgb24, 4x3, 25 fps'\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    head = f"dir={tmp_path}/frames\ntoken=me\nffmpeg={tmp_path}/ffmpeg\n{shell_text('frames')}\n"

    def call(body: str, before: str = "", **environment: str) -> list[str]:
        script = f"{before}\n{head}{body}\n"
        done = subprocess.run(
            command, input=script, capture_output=True, text=True, check=False, env={**os.environ, **environment}
        )
        assert not done.returncode, done.stderr
        return done.stdout.splitlines()

    return call


def manifest(folder: Path) -> Path:
    return folder / "frames" / "manifest.jsonl"


def test_a_line_that_was_cut_off_is_told_and_swallows_no_other(run, tmp_path: Path) -> None:
    assert run("open_frames bW92aWU= 60")[0] == "opened"
    assert run(f"begin_frames '{'a' * 900}'") == ["begun"]
    assert run(f"begin_frames '{'b' * 900}'", LIMIT)[0].startswith("unwritable ")
    assert run("begin_frames '{\"c\":1}'") == ["begun"]
    first, cut, last = manifest(tmp_path).read_text().splitlines()
    assert (first, last) == ("a" * 900, '{"c":1}')
    assert set(cut) == {"b"}
    assert len(cut) < 900


def test_a_claim_that_cannot_be_written_opens_nothing(run, tmp_path: Path) -> None:
    long = "bW92" * 1000
    assert [line.split(" ")[0] for line in run(f"open_frames {long} 60", LIMIT)] == ["unwritable"]
    assert not list((tmp_path / "frames").iterdir()), "neither a claim nor the lock"


def test_a_frame_whose_record_has_no_room_is_not_kept(run, tmp_path: Path) -> None:
    run("open_frames bW92aWU= 60")
    run(f"begin_frames '{'a' * 1000}'")
    (tmp_path / "frames" / ".0001.me.part.png").write_bytes(b"frame")
    words = f'1 .0001.me.part.png 0001.png {{"frame":1,"note":"{"n" * 300}"'
    found = run(f"check_frames 4 3 <<'END'\n{words}\nEND", LIMIT)
    assert [line.split(" ")[0] for line in found] == ["unwritable"]
    run("begin_frames '{\"d\":1}'")
    assert manifest(tmp_path).read_text().splitlines()[-1] == '{"d":1}'


def test_a_frame_is_not_blamed_for_a_full_tmp(run, tmp_path: Path) -> None:
    """What was found of it could not be written down."""
    run("open_frames bW92aWU= 60")
    part = tmp_path / "frames" / ".0001.me.part.png"
    part.write_bytes(b"frame")
    found = run(
        "check_frames 4 3 <<'END'\n1 .0001.me.part.png 0001.png {\"frame\":1\nEND", "ulimit -f 0", TMPDIR=str(tmp_path)
    )
    assert [line.split(" ")[0] for line in found] == ["unwritable"]
    assert part.exists()
    found = run("check_frames 4 3 <<'END'\n1 .0001.me.part.png 0001.png {\"frame\":1\nEND")
    assert found == ["kept 1"]
