"""The script that encodes on a node, run here by bash."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.codecs import Encoding
from airflow_brayns.movie.ffmpeg import ffmpeg
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.rendering.encode import CHANGED, UNPROVED, Sources, encode_script, kept_name


def script(folder: Path, frames: int) -> str:
    spec = MovieSpecification.check({"models": [{"path": "/m/cell.obj"}], "frames": frames, "output": "movie.mp4"})
    plan = Plan(spec, SceneFacts(Bounds((-1, -1, -1), (1, 1, 1))), "scene")
    lines = []
    for frame in plan.frames:
        (folder / plan.file(frame)).write_bytes(b"%d" % frame)
        lines.append(f"{hashlib.sha256(b'%d' % frame).hexdigest()}  {plan.file(frame)}\n")
    sums = hashlib.sha256("".join(lines).encode()).hexdigest()
    sources = Sources(str(folder), plan, "/bin/false", sums)
    return encode_script(
        sources, str(folder / "out" / "movie.mp4"), Encoding("h264", 25.0), {}, poster=False, sheet=False
    )


@pytest.mark.parametrize("harm", ["missing", "other"])
def test_frames_that_are_not_those_rendered_are_told_before_they_are_encoded(tmp_path: Path, harm: str) -> None:
    """One that was missing ended the script without a word, which was told as 'ffmpeg failed with exit code 123: '."""
    text = script(tmp_path, 5)
    [*_, last] = sorted(tmp_path.glob("*.png"))
    if harm == "missing":
        last.unlink()
    else:
        last.write_bytes(b"x")
    done = subprocess.run(["bash"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == CHANGED, done.stderr
    assert "frames changed" in done.stdout


def test_a_copy_of_ffmpeg_that_was_changed_is_not_run(tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg-0123456789ab"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/evil\n")
    program.chmod(0o700)
    text = script(tmp_path, 2).replace("/bin/false", str(program))
    done = subprocess.run(["bash"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == UNPROVED, done.stderr
    assert not (tmp_path / "evil").exists()


FFMPEG = r"""#!/bin/bash
printf '%s\n' "$*" >>"${0%/*}/calls"
[[ "$*" != *ffmetadata* ]] || cat /dev/fd/3 >>"${0%/*}/metadata"
out=${!#}
[ "$out" = - ] || echo "made of $*" >"$out"
echo frame=3
echo '  Duration: 00:00:00.12, start: 0' >&2
"""


def test_a_movie_and_its_pictures_get_their_names_and_the_frames_folder_may_be_called_anything(tmp_path: Path) -> None:
    folder = tmp_path / "50%d 'frames'"
    folder.mkdir()
    program = tmp_path / "ffmpeg"
    program.write_text(FFMPEG)
    program.chmod(0o755)
    spec = MovieSpecification.check({"models": [{"path": "/m/cell.obj"}], "frames": 3, "output": "movie.mp4"})
    plan = Plan(spec, SceneFacts(Bounds((-1, -1, -1), (1, 1, 1))), "scene")
    movie = tmp_path / "out" / "a$b.mp4"
    movie.parent.mkdir()
    left = movie.with_name(".a$b.00000001-000009.part.mp4")  # by an earlier try of the same
    left.touch()
    text = encode_script(
        Sources(str(folder), plan, str(program)), str(movie), Encoding("h264", 25.0), {"by": "`me`"}, poster=True,
        sheet=True, mark="00000001-000002", keep=True,
    )  # fmt: skip
    done = subprocess.run(["bash"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sha = hashlib.sha256(movie.read_bytes()).hexdigest()
    assert done.stdout.splitlines()[-2:] == [f"sha256 {sha} {movie.stat().st_size}", "movie made"]
    pictures = {"a$b.poster.jpg", "a$b.sheet.jpg"}
    assert {one.name for one in movie.parent.iterdir()} == {
        movie.name,
        *pictures,
        Path(kept_name(str(movie), "00000001-000002")).name,
    }
    assert f"-i {folder.as_posix().replace('%', '%%')}/%05d.png" in (tmp_path / "calls").read_text()
    assert "`me`" in (tmp_path / "metadata").read_text()


def test_every_so_many_th_frame_goes_into_ffmpeg_one_behind_the_other(tmp_path: Path) -> None:
    """By the real one: its pattern reads consecutive numbers only."""
    folder, movie = tmp_path / "frames", tmp_path / "movie.mp4"
    folder.mkdir()
    spec = MovieSpecification.check(
        {"models": [{"path": "/m/cell.obj"}], "frames": 30, "step": 7, "resolution": [96, 64]}
    )
    plan = Plan(spec, SceneFacts(Bounds((-1, -1, -1), (1, 1, 1))), "scene")
    for number in range(30):
        Image.new("RGB", (96, 64), (number * 8, 0, 0)).save(folder / plan.file(number))
    lines = [f"{hashlib.sha256((folder / plan.file(one)).read_bytes()).hexdigest()}  {plan.file(one)}\n" for one in plan.frames]  # fmt: skip
    sums = hashlib.sha256("".join(lines).encode()).hexdigest()
    text = encode_script(
        Sources(str(folder), plan, ffmpeg(), sums), str(movie), Encoding(), {"a": "b"}, poster=True, sheet=True
    )
    done = subprocess.run(["bash"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "frame=5" in done.stdout
    read = [ffmpeg(), "-v", "error", "-i", str(movie), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(read, capture_output=True, check=True).stdout
    reds = [pixels[96 * 64 * 3 * at] for at in range(len(pixels) // (96 * 64 * 3))]
    assert len(reds) == 5
    assert all(abs(red - number * 8) <= 6 for red, number in zip(reds, range(0, 30, 7), strict=True))
