"""What a resume found of a movie's frames, and how it is told."""

from __future__ import annotations

from pathlib import Path

from airflow_brayns.movie.frame_store import Survey
from airflow_brayns.movie.plan import Plan, SceneFacts
from tests.support.movie import specification

FACTS = SceneFacts.from_plain({"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0})


def test_whoever_resumes_is_told_why_each_frame_is_rendered_again() -> None:
    """Whether a file was lost, the movie has changed or a frame was edited is looked for in three places."""
    plan = Plan(specification(Path("/a.obj")), FACTS, "scene")
    survey = Survey(done={0, 1}, missing=[8], changed=[2, 3, 4], damaged=[6])
    assert survey.left == [2, 3, 4, 6, 8]
    assert survey.text(plan) == "2 frames are there already; 1 missing (8); 3 changed (2-4); 1 damaged (6)"
    assert Survey().text(plan) == "nothing to render"
