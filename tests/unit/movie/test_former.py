"""Frames that 0.2.0 rendered are kept while no file of their scene is newer than they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_brayns.movie.former import scene_beside
from airflow_brayns.movie.manifest import Header, Known, Manifest
from airflow_brayns.movie.plan import scene_hash
from tests.support.movie import specification

SPEC = specification(Path("/c.obj"))
OWN = "12 1000"  # the file that the specification names, as 0.2.0 told it
TODAY = f"{OWN}\n/c/cells.h5 9 1500\n/c/report.h5 9 1400"


def manifest(scene: str, *seconds: float) -> Manifest:
    frames = {n: Known("k", f"{n}.png", "s", 1, int(one * 1e9)) for n, one in enumerate(seconds)}
    return Manifest(Header(scene, {}, "snapshot", "3.10.1", {}, {}), frames)


@pytest.mark.parametrize(
    ("before", "now", "seconds", "kept"),
    [
        (OWN, TODAY, (1600.5, 1501.0), True),
        (OWN, TODAY, (1600.5, 1500.9), False),  # a report was written after the first frame, or as it was
        (OWN, TODAY, (), False),
        ("", TODAY, (1600.0,), True),  # rendered on `endpoints`
        ("", OWN, (999.0, 1600.0), False),
        ("", "unknown", (5.0,), True),  # nobody could tell then, and nobody can now
        ("12 900", TODAY, (1600.0,), False),  # the model's own file is another one
        ("unknown", TODAY, (1600.0,), False),
        (TODAY, "", (1600.0,), False),
    ],
)
def test_frames_of_a_former_version_are_kept_while_no_file_is_newer(
    before: str, now: str, seconds: tuple[float, ...], kept: bool
) -> None:
    former = scene_hash(SPEC, before)
    assert scene_beside(manifest(former, *seconds), SPEC, now) == (former if kept else scene_hash(SPEC, now))


@pytest.mark.parametrize("there", [Manifest(None, {}), manifest(scene_hash(SPEC, TODAY), 1.0)])
def test_else_a_scene_is_told_by_all_of_its_files(there: Manifest) -> None:
    assert scene_beside(there, SPEC, TODAY) == scene_hash(SPEC, TODAY)
    other = specification(Path("/other.obj"))
    assert scene_beside(there, other, TODAY) == scene_hash(other, TODAY)
