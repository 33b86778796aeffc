"""A budget of node-hours: what is told when it is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.errors import BraynsError, BudgetSpent, RenderingFailed
from airflow_brayns.movie.budget import budget_spent
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.scene_facts import SceneFacts
from airflow_brayns.movie.used import Used
from tests.support.movie import specification

USED = Used(5400, 900, 600, 300, 40)


def plan(**changes: Any) -> Plan:
    facts = SceneFacts(Bounds((0, 0, 0), (1, 1, 1)))
    return Plan(specification(Path("/a.obj"), frames=60, **changes), facts, "scene")


def test_the_remedy_comes_first_and_then_what_was_used_and_which_frames_are_missing() -> None:
    error = budget_spent(2, USED, ([40, 41, 42, 50], plan()))
    assert str(error).split("\n") == [
        "budget: clear the task with a larger one, more than 2.00: it goes on from the frames that are there, and counts what was used.",
        "    the 2 node-hours are spent: 4 of 60 frames are missing (40-42, 50). The movie has used 2.00 node-hours: 1.50 rendering, 0.25 "
        "starting, 0.17 waiting, 0.08 lost to faults; efficiency 75 %.",
    ]  # fmt: skip


def test_of_frames_in_tiles_the_missing_tiles_are_counted() -> None:
    error = budget_spent(2, USED, ([160, 161, 240], plan(resolution=[256, 128], tiles=[4, 1])))
    assert "3 of 240 tiles are missing (3 of frames 40, 60)." in str(error)


def test_programs_find_it_as_fields_and_no_retry_helps() -> None:
    error = budget_spent(2, USED, ([40, 41, 42, 50], plan()))
    assert (error.field, error.retry, error.used, error.missing) == ("budget", False, 2.0, 4)
    assert isinstance(error, RenderingFailed)


def test_a_budget_that_does_not_do_for_the_scene_says_so() -> None:
    error = budget_spent(0.5, USED, None)
    assert "no scene was loaded, so nothing is known of its frames" in str(error)
    assert error.missing is None


def test_it_comes_through_the_triggerer() -> None:
    found = BraynsError.from_json(budget_spent(2, USED, ([40], plan())).to_json())
    assert isinstance(found, BudgetSpent)
    assert (found.retry, found.used, found.missing) == (False, 2.0, 1)


@pytest.mark.parametrize("error", [BraynsError("x"), RenderingFailed("x", frame=3)])
def test_other_errors_know_nothing_of_it(error: BraynsError) -> None:
    assert not {"used", "missing"} & error.to_json().keys()
