"""The script that keeps frames on the cluster, where its folder is full: nothing half-written counts, and no frame is blamed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from airflow_brayns.cluster import protocol
from airflow_brayns.cluster.answers import decode
from airflow_brayns.movie.frame_store import claim_text
from airflow_brayns.rendering.frames_script import ANSWERS, file_text, frames_script
from tests.support.shell_calls import assigned, missing

SHELLS = {"dash": ["/bin/dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}
LIMIT = "ulimit -f 2"  # 1 KiB


@pytest.fixture(params=sorted(SHELLS))
def run(request: pytest.FixtureRequest, tmp_path: Path):
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (apt-get install {command[0]})")
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho 'Stream #0: Video: png, rgb24, 4x3, 25 fps'\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    head = (
        f"dir={tmp_path}/frames\ntoken=me\nffmpeg={tmp_path}/ffmpeg\nproved=\nlook=\n{frames_script('ffmpeg', 'check')}"
    )

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


def test_a_last_line_that_was_cut_off_is_read_and_so_is_the_end_of_the_answer(run, tmp_path: Path) -> None:
    """The folder was full: without an end of that line the manifest counted as not read to its own, at each later try."""
    run("open_frames bW92aWU= 60")
    manifest(tmp_path).write_text('{"a":1}\n{"b":')
    for body in ("open_frames bW92aWU= 60", "read_frames"):
        assert run(body)[-3:] == ['line {"a":1}', 'line {"b":', "read"]


def test_a_manifest_that_cannot_be_read_is_not_taken_for_an_empty_one(run, tmp_path: Path) -> None:
    """All frames would be rendered anew; and of the folder it was said that nothing was ever rendered there."""
    run("open_frames bW92aWU= 60")
    manifest(tmp_path).write_text('{"a":1}\n')
    assert "read" not in run("read_frames", 'awk() { echo "line 1"; return 2; }')
    assert run("read_frames")[-1] == "read"


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


@pytest.mark.parametrize(
    ("claim", "whose"),
    [
        (json.dumps({"movie": "dag/other", "host": "w1", "pid": 7}), "dag/other"),  # as 0.2.0 wrote it
        (claim_text("dag/other", "w1", 7), "dag/other"),
        (base64.b64encode(b"dag/other").decode(), "dag/other"),
        (json.dumps({"movie": 'dag/"ü"', "host": "w1", "pid": 7}), ""),
        ("a text\nof two lines", ""), ("", ""),
    ],
)  # fmt: skip
def test_whoever_has_the_folder_is_told_in_a_line_that_can_be_read(run, tmp_path: Path, claim: str, whose: str) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / ".driver-other").write_text(f"{claim}\n")
    for body, word in (("open_frames bW92aWU= 60", "busy"), ("begin_frames '{}'", "superseded")):
        [(found, fields)] = protocol.read(ANSWERS, "\n".join(run(body)))
        assert (found, [decode(one) for one in fields]) == (word, [whose])


def test_a_claim_of_0_2_0_for_the_same_movie_is_taken_over(run, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / ".driver-other").write_text(json.dumps({"movie": "movie", "host": "w1", "pid": 7}))
    assert run("open_frames bW92aWU= 60")[0] == "opened"
    assert [one.name for one in (tmp_path / "frames").glob(".driver-*")] == [".driver-me"]


def test_it_defines_every_function_that_it_calls() -> None:
    assert not missing(frames_script())
    assert not missing(frames_script("ffmpeg", "check"))


@pytest.mark.parametrize("name", ["frames", "check", "ffmpeg", "encode"])
def test_a_file_is_one_idea_and_keeps_its_names_to_itself(name: str) -> None:
    text = file_text(name)
    assert len(text.splitlines()) <= 150
    shared = re.findall(r"[a-z_]+", " ".join(re.findall(r"^# Shared: (.*)", text, re.MULTILINE)))
    for function, names in assigned(text):
        assert names <= set(shared), function


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of ffmpeg as `install` makes it: its name tells its digest."""
    text = b"#!/bin/sh\nprintf x >>'%s/ran'\necho 'Stream #0: Video: png, rgb24, 4x3, 25 fps'\n" % os.fsencode(tmp_path)
    path = tmp_path / f"ffmpeg-v7-{hashlib.sha256(text).hexdigest()[:12]}"
    path.write_bytes(text)
    path.chmod(0o700)
    return path


def checked(run, tmp_path: Path, copy: Path, proved: str = "") -> list[str]:
    (tmp_path / "frames" / ".00001.me.part.png").write_bytes(b"picture")
    body = (
        f"ffmpeg={copy}\nproved='{proved}'\ncheck_frames 4 3 <<'END'\n1 .00001.me.part.png 00001.png {{\"frame\":1\nEND"
    )
    return run(body)


def test_a_copy_that_is_what_its_name_says_is_run_and_told_of(run, tmp_path: Path, copy: Path) -> None:
    run("open_frames bW92aWU= 60")
    told, kept = checked(run, tmp_path, copy)
    assert (told.split(" ")[0], kept) == ("proved", "kept 1")
    at = copy.stat()
    assert told == f"proved {at.st_ino} {int(at.st_ctime)} {at.st_size}"
    assert (tmp_path / "ran").read_text() == "x"


@pytest.mark.parametrize("harm", ["cut off", "other", "link", "gone", "known before"])
def test_a_copy_that_is_not_is_told_and_not_run(run, tmp_path: Path, copy: Path, harm: str) -> None:
    """It was proved when it was copied, and never again."""
    run("open_frames bW92aWU= 60")
    proved = ""
    if harm == "known before":
        proved = checked(run, tmp_path, copy)[0].removeprefix("proved ")
        (tmp_path / "ran").unlink()
        (tmp_path / "frames" / "00001.png").unlink()
    text = copy.read_bytes()
    copy.unlink()
    other = tmp_path / "other"
    other.write_bytes(text[:-9] if harm == "cut off" else text + b"\necho evil\n")
    other.chmod(0o700)
    if harm == "link":
        other.write_bytes(text + b"\n")
        copy.symlink_to(other)
    elif harm != "gone":
        other.rename(copy)
    assert checked(run, tmp_path, copy, proved) == ["unproved"]
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "frames").glob("00001.*"))


@pytest.mark.parametrize("elsewhere", [True, False], ids=["TMPDIR may run it", "nothing may"])
def test_a_copy_on_a_file_system_that_runs_nothing_is_run_from_another(tmp_path: Path, elsewhere: bool) -> None:
    """It was told as 'what the service wrote is no whole frame'."""
    frames = tmp_path / "frames"
    frames.mkdir()
    text = "#!/bin/sh\necho 'Stream #0: Video: png, rgb24, 4x3, 25 fps'\n"
    name = f"ffmpeg-v7-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    (tmp_path / name).write_text(text)
    lines = [
        f"mount -t tmpfs -o noexec none {frames} || exit 77",
        f"cp {tmp_path}/{name} {frames}/{name}; chmod 700 {frames}/{name}",
    ]
    if not elsewhere:
        lines += [f"mount -t tmpfs -o noexec none {place} || exit 77" for place in ("/dev/shm", "/var/tmp")]
        lines += [f"mkdir {frames}/tmp; export TMPDIR={frames}/tmp"]
    lines += [f"dir={frames} token=me proved='' look='' ffmpeg={frames}/{name}", frames_script("ffmpeg", "check")]
    lines += ['prove_ffmpeg; echo "ended $?"; "$ffmpeg" 2>/dev/null']
    done = subprocess.run(
        ["unshare", "-m", "sh", "-s"], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no file systems can be mounted here: {done.stderr[-100:]}")
    assert done.stdout.splitlines() == (
        ["ended 0", "Stream #0: Video: png, rgb24, 4x3, 25 fps"] if elsewhere else ["ended 2"]
    )


def test_what_was_proved_before_is_not_read_again(run, tmp_path: Path, copy: Path) -> None:
    run("open_frames bW92aWU= 60")
    proved = checked(run, tmp_path, copy)[0].removeprefix("proved ")
    tool = tmp_path / "tools" / "sha256sum"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho read >>{tmp_path}/read\nexec /usr/bin/sha256sum\n")
    tool.chmod(0o755)
    body = "ffmpeg={0}\nproved='{1}'\nprove_ffmpeg && echo ready"
    with_tool = {"PATH": f"{tool.parent}:{os.environ['PATH']}"}
    assert run(body.format(copy, proved), **with_tool) == ["ready"]
    assert not (tmp_path / "read").exists()
    assert run(body.format(copy, "1 2 3"), **with_tool) == ["ready"]
    assert (tmp_path / "read").exists()


def test_pictures_are_looked_at_until_something_is_seen(run, tmp_path: Path) -> None:
    """Only the first was."""
    told = 'echo lavfi.signalstats.YMIN=16; case $(cat "$5") in flat) echo .YMAX=16 ;; *) echo .YMAX=99 ;; esac; exit'
    (tmp_path / "ffmpeg").write_text(
        f"#!/bin/sh\ncase $* in *signalstats*) {told} ;; esac\necho 'Stream #0: Video: png, rgb24, 4x3, 25 fps'\n"
    )
    run("open_frames bW92aWU= 60")
    for number, text in enumerate(["flat", "flat", "seen", "flat"], 1):
        (tmp_path / "frames" / f".000{number}.me.part.png").write_text(text)
    words = "\n".join(f'{n} .000{n}.me.part.png 000{n}.png {{"frame":{n}' for n in range(1, 5))
    found = run(f"look=yes\ncheck_frames 4 3 <<'END'\n{words}\nEND")
    assert found == ["flat 1", "kept 1", "flat 2", "kept 2", "kept 3", "kept 4"]
