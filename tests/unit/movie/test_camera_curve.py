from __future__ import annotations

from typing import Any

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.camera_curve import first_problem
from airflow_brayns.movie.specification import Camera, Keyframe, MovieSpecification


def stop(frame: int, position: Any, target: Any = (0, 0, 0), **more: Any) -> dict[str, Any]:
    return {"frame": frame, "position": position, "target": target, **more}


def camera(*keyframes: dict[str, Any]) -> MovieSpecification:
    values = {
        "models": [{"path": "/x.obj"}],
        "frames": 30,
        "camera": {"path": "keyframes", "keyframes": list(keyframes)},
    }
    return MovieSpecification.check(values)


@pytest.mark.parametrize(
    ("keyframes", "says"),
    [
        ([stop(0, [0, 0, 5]), stop(10, [0, 0, -5])], r"keyframes\.0: .*between frames 4 and 5, the camera passes through its target"),
        ([stop(0, [0, 0, 5]), stop(9, [0, 0, -5])], r"keyframes\.0: .*between frames 4 and 5, the camera passes through its target"),
        ([stop(0, [0, 0, 5]), stop(4, [0, 0, 5]), stop(9, [0, 0, 5], [0, 0, 9])], r"keyframes\.1: .*passes through its target"),
        ([stop(0, [0, 0, 5]), stop(9, [0, 0, 6], up=[0, -1, 0])], r"keyframes\.0: .*`up` has no length"),
        ([stop(0, [0, 0, 1]), stop(3, [0, 0, -20])], r"keyframes\.0: .*between frames 0 and 1, the camera passes through its target"),
        ([stop(0, [0, 0, 5], up=[0, 0, 0])], r"keyframes\.0\.up: up has no length"),
        ([stop(0, [0, 5, 0])], r"keyframes\.0\.up: up is the way that the camera looks"),
        ([stop(0, [0, 0, 5], up=[0, 0, -2])], r"keyframes\.0\.up: up is the way that the camera looks"),
        ([stop(0, [0, 5, 5]), stop(10, [0, 5, -5])], r"keyframes\.0: .*at frame 5: up is the way that the camera looks"),
        ([stop(0, [0, 0, 5]), stop(9, [0, 0, 5], [0, 0, 5])], r"keyframes\.1.*: position and target are the same"),
    ],
)  # fmt: skip
def test_a_camera_that_shows_nothing_on_its_way_is_refused(keyframes: list[dict[str, Any]], says: str) -> None:
    """It was rendered: pictures of one colour, or a picture that jumps."""
    with pytest.raises(InvalidSetting, match=says):
        camera(*keyframes)


@pytest.mark.parametrize(
    "keyframes",
    [
        [stop(0, [0, 0, 5]), stop(1, [0, 0, -5])],  # a cut
        [stop(0, [0, 0, 5]), stop(5, [5, 0, 0]), stop(10, [0, 0, -5])],
        [stop(0, [0, 0, 5]), stop(5, [0, 0, 5], up=[1, 0, 0]), stop(10, [0, 0, 5], up=[0, -1, 0])],
        [stop(0, [0, 0, 1e-3]), stop(10, [0, 0, 1e9])],
        [stop(0, [0, 5, 0], up=[0, 0, 1])],
    ],
)
def test_a_camera_that_goes_around_is_taken(keyframes: list[dict[str, Any]]) -> None:
    camera(*keyframes)


def test_a_long_way_costs_no_more_than_some_thousand_looks() -> None:
    way = tuple(Keyframe(frame=frame, position=(0, 0, 5), target=(0, 0, 0)) for frame in (0, 9_000_000))
    assert first_problem(way) is None


def test_a_camera_that_would_stand_in_its_target_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing beside the target's place"):
        Camera(target=(1e12, 0, 0), distance=1e-3)
