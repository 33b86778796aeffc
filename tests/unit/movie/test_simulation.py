from __future__ import annotations

from typing import Any

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.specification import MovieSpecification

FACTS = SceneFacts(Bounds((-1, -1, -1), (1, 1, 1)), 0, 49, 0.5e-3)


def plan(*keyframes: dict[str, Any], **simulation: Any) -> Plan:
    values = {"models": [{"path": "/a.obj"}], "simulation": {"keyframes": list(keyframes), **simulation}}
    return Plan(MovieSpecification.check(values), FACTS, "s")


def key(frame: int, step: int, **more: Any) -> dict[str, Any]:
    return {"frame": frame, "step": step, **more}


def test_key_frames_slow_down_where_they_say() -> None:
    found = plan(key(0, 0), key(4, 40), key(8, 44))
    assert found.shown == [0, 10, 20, 30, 40, 41, 42, 43, 44]
    assert found.total == 9
    assert plan(key(0, 49), key(3, 46)).shown == [49, 48, 47, 46], "backwards"
    assert plan(key(0, 0), key(2, -1)).shown == [0, 24, 49]
    assert plan(key(0, 7)).shown == [7]


def test_it_eases_to_the_next_key_frame() -> None:
    found = plan(key(0, 0, easing="ease-in"), key(4, 32), key(6, 48)).shown
    assert found == [0, 2, 8, 18, 32, 40, 48]


@pytest.mark.parametrize(
    ("keyframes", "simulation", "field", "says"),
    [
        ([key(0, 0), key(3, 50)], {}, "simulation.keyframes.1.step", "no frame 50: it goes from 0 to 49"),
        ([key(0, -51)], {}, "simulation.keyframes.0.step", "no frame -51"),
        ([key(1, 0)], {}, "simulation.keyframes.0.frame", "is at frame 0"),
        ([key(0, 0), key(0, 3)], {}, "simulation.keyframes.1.frame", "in order, each frame once"),
        ([key(0, 0)], {"start": 3}, "simulation.start", "follows from `keyframes`"),
        ([key(0, 0)], {"slowing_factor": 3}, "simulation.slowing_factor", "follows from `keyframes`"),
        ([key(0, 0, easing="slow")], {}, "simulation.keyframes.0.easing", "'ease-in-out'"),
    ],
)
def test_what_cannot_be_shown_is_told_at_its_key(
    keyframes: list[dict[str, Any]], simulation: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(InvalidSetting, match=says) as error:
        assert plan(*keyframes, **simulation).shown
    assert error.value.field == field


@pytest.mark.parametrize(
    ("start", "end", "taken"), [(100, 50, False), (-1, -5, False), (5, 5, True), (-5, -1, True), (40, -1, True), (-10, 45, True)]
)  # fmt: skip
def test_an_end_before_the_start_is_refused_before_the_simulation_is_known(start: int, end: int, taken: bool) -> None:
    """Of a short simulation it was one frame, of a long one it failed behind the load."""
    values = {"models": [{"path": "/a.obj"}], "simulation": {"start": start, "end": end}}
    if taken:
        assert MovieSpecification.check(values)
    else:
        with pytest.raises(InvalidSetting, match=f"give one behind the start: {end} is before {start}") as error:
            MovieSpecification.check(values)
        assert error.value.field == "simulation.end"
