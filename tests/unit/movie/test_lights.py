from __future__ import annotations

from typing import Any

import pytest

from airflow_brayns.emulator.schemas import params_of
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.lights import LIGHTS, Light, Turned
from airflow_brayns.movie.specification import MovieSpecification


def check(light: dict[str, Any]) -> Light:
    spec = MovieSpecification.check({"models": [{"path": "/a.obj"}], "frames": 1, "lights": [light]})
    assert spec.lights is not None
    return spec.lights[0]


@pytest.mark.parametrize("kind", LIGHTS)
def test_a_light_takes_what_the_service_tells_of(kind: str) -> None:
    assert {"intensity", "color", *LIGHTS[kind]} == {*params_of(f"add-light-{kind}")["properties"]}


@pytest.mark.parametrize(
    ("light", "field", "says"),
    [
        ({"kind": "ambient", "direction": [0, 0, 1]}, "lights.0.direction", "an ambient light has no direction; it takes none"),
        ({"position": [0, 0, 1]}, "lights.0.position", "a directional light has no position; it takes direction"),
        ({"kind": "sphere", "radius": 1, "edge1": [0, 0, 1]}, "lights.0.edge1", "it takes position, radius"),
        ({"kind": "sphere"}, "lights.0.radius", "missing: a sphere light needs it"),
        ({"kind": "quad", "edge1": [1, 0, 0]}, "lights.0.edge2", "missing: a quad light needs it"),
        ({"kind": "quad", "edge1": [1, 0, 0], "edge2": [2, 0, 0]}, "lights.0.edge2", "no surface"),
        ({"kind": "sphere", "radius": float("nan")}, "lights.0.radius", "nan"),
        ({"kind": "sphere", "radius": 0}, "lights.0.radius", "greater than 0"),
        ({"direction": [0, 0, 0]}, "lights.0.direction", "has no length"),
        ({"kind": "ambient", "follow_camera": True}, "lights.0.follow_camera", "comes from everywhere"),
        ({"visible": False}, "lights", "without a light the production renderer kills"),
        ({"kind": "spot"}, "lights.0.kind", "'sphere' or 'quad'"),
    ],
)  # fmt: skip
def test_what_is_no_light_is_refused_at_its_key(light: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidSetting, match=says) as error:
        check(light)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("position", "target", "up", "direction"),
    [
        ((0, 0, 9), (0, 0, 0), (0, 1, 0), (0, 0, -1)), ((9, 0, 0), (0, 0, 0), (0, 1, 0), (-1, 0, 0)), ((0, 5, 0), (0, 9, 0), (0, 0, 1), (0, 1, 0)),
    ],
)  # fmt: skip
def test_a_light_without_a_direction_goes_where_the_camera_looks(
    position: Any, target: Any, up: Any, direction: Any
) -> None:
    found = check({"follow_camera": True}).parameters(Turned(position, target, up))
    assert found["direction"] == pytest.approx(direction)


def test_what_goes_with_the_camera_is_as_the_camera_sees_it() -> None:
    """From the right: what is right in the picture is -z, what is up stays y, and what is towards the camera is x."""
    camera = Turned((9, 2, 0), (0, 2, 0), (0, 1, 0))
    quad = check({"kind": "quad", "position": [1, 0, 2], "edge1": [1, 0, 0], "edge2": [0, 1, 0], "follow_camera": True})
    found = quad.parameters(camera)
    assert found["position"] == pytest.approx([11, 2, -1])
    assert (found["edge1"], found["edge2"]) == (pytest.approx([0, 0, -1]), pytest.approx([0, 1, 0]))
    lamp = check({"kind": "sphere", "radius": 2, "follow_camera": True}).parameters(camera)
    assert (lamp["position"], lamp["radius"]) == ([9, 2, 0], 2)


def test_a_light_that_stays_is_sent_as_it_is() -> None:
    assert check({"kind": "sphere", "radius": 2, "color": [1, 0.5, 0, 1]}).parameters() == {
        "intensity": 1.0, "color": [1, 0.5, 0], "radius": 2,
    }  # fmt: skip
