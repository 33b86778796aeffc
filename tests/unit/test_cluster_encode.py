"""The script that encodes on a node, run here by bash."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from airflow_brayns.cluster_encode import CHANGED, Sources, encode_script
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.encode import Encoding
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.specification import MovieSpecification


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
