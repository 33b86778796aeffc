"""What is sent for a scene's words, held against what was sent to a running braynsService 3.10.1 and taken (recorded)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from airflow_brayns.emulator.schemas import params_of
from airflow_brayns.movie.lights import Light, Turned
from airflow_brayns.movie.model import Model
from airflow_brayns.movie.scene_calls import (
    SceneCall,
    clipping_calls,
    light_calls,
    model_calls,
    primitive_calls,
    ramp_call,
)
from airflow_brayns.movie.shapes import Clipping, Primitive
from airflow_brayns.movie.surface import ColorRamp

_SCENES = Path(__file__).parents[2] / "data" / "recorded" / "conversation-3.10.1-scenes.jsonl"
RECORDED = [json.loads(line)["request"] for line in _SCENES.read_text().splitlines()]


def recorded(method: str) -> list[Any]:
    """What the method was called with, call by call."""
    return [one["params"] for one in RECORDED if one["method"] == method]


def taken(calls: Iterable[SceneCall]) -> list[SceneCall]:
    """The calls, each of which the service's own schema takes."""
    found = list(calls)
    for call in found:
        jsonschema.validate(call.params, _without_read_only(params_of(call.method)))
    return found


def _without_read_only(schema: Any) -> Any:
    """A model that is updated is described with what is read, too, as if it were needed (3.10.1, recorded)."""
    if not isinstance(schema, dict):
        return schema
    properties = schema.get("properties", {})
    needed = [name for name in schema.get("required", []) if not properties[name].get("readOnly")]
    inside = {name: _without_read_only(one) for name, one in properties.items()}
    return {**schema, "required": needed, **({"properties": inside} if properties else {})}


def model(**words: Any) -> Model:
    return Model.model_validate({"path": "/a.swc", **words})


@pytest.mark.parametrize(
    ("words", "number"),
    [({"rotation": [0, 0, 90]}, 0), ({"rotation": [0, 0, 1, 1]}, 0), ({"translation": [200, 0, 0], "scale": 0.5}, 1)],
)
def test_a_model_is_moved_as_it_was(words: dict[str, Any], number: int) -> None:
    (call,) = taken(model_calls(model(transform=words), 2, "models.0"))
    sent, was = call.params["model"]["transform"], recorded("update-model")[number]["model"]["transform"]
    assert (call.method, call.params["model_id"], call.field) == ("update-model", 2, "models.0.transform")
    assert {name: pytest.approx(value) for name, value in was.items()} == sent


def test_a_model_is_hidden_as_it_was() -> None:
    (call,) = taken(model_calls(model(visible=False), 2, "models.0"))
    assert call.params in recorded("update-model")


@pytest.mark.parametrize(
    "words",
    [
        {"kind": "matte", "opacity": 0.3}, {"kind": "phong", "opacity": 1.0}, {"kind": "plastic", "opacity": 1.0},
        {"kind": "metal", "roughness": 0.3}, {"kind": "glass", "index_of_refraction": 1.5}, {"kind": "ghost"},
        {"kind": "emissive", "intensity": 2.0, "color": "#f00"}, {"kind": "carpaint", "flake_density": 0.5},
        {"kind": "principled", "metallic": 0.5, "roughness": 0.2},
    ],
)  # fmt: skip
def test_a_material_is_set_as_it_was(words: dict[str, Any]) -> None:
    (call,) = taken(model_calls(model(material=words), 2, "models.0"))
    assert call.params in recorded(call.method)
    assert call.field == "models.0.material"


def test_a_ramp_is_set_as_it_was() -> None:
    colors = [[0, 0, 0.5], [1, 1, 0], [1, 0, 0]]
    has = {"range": [0, 1], "colors": [[0, 0, 0, 1], [1, 1, 1, 1]]}
    whole = ramp_call(ColorRamp.model_validate({"range": [-80, -10], "colors": colors}), 2, has)
    assert whole in recorded("set-color-ramp")
    assert ramp_call(ColorRamp(range=(-80, -10)), 2, has)["color_ramp"] == {**has, "range": [-80, -10]}
    jsonschema.validate(whole, params_of("set-color-ramp"))


def test_a_model_that_may_look_otherwise_by_an_earlier_frame_is_told_all() -> None:
    (call,) = taken(model_calls(model(), 2, "models.0", anew=True))
    assert call.params["model"] == {
        "transform": {"translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}, "is_visible": True,
    }  # fmt: skip


def test_a_model_without_such_words_needs_no_call() -> None:
    assert not list(model_calls(model(color="#fff"), 2, "models.0"))


@pytest.mark.parametrize(
    "words",
    [
        {"intensity": 5, "direction": [-0.5, -0.7, -0.9]}, {"kind": "ambient", "intensity": 0.5},
        {"kind": "quad", "intensity": 50, "position": [-300, 600, 300], "edge1": [600, 0, 0], "edge2": [0, 0, -600]},
        {"kind": "sphere", "intensity": 200000, "position": [0, 300, 300], "radius": 50, "color": [1, 0.9, 0.8]},
    ],
)  # fmt: skip
def test_a_light_is_added_as_it_was(words: dict[str, Any]) -> None:
    (call,) = taken(light_calls([Light.model_validate(words)]))
    assert call.params in recorded(call.method)
    assert call.field == "lights.0"


def test_lights_that_go_with_the_camera_wait_for_a_frame_and_those_switched_off_for_nothing() -> None:
    lights = [Light(kind="ambient"), Light(follow_camera=True), Light(visible=False, intensity=3)]
    assert [call.method for call in light_calls(lights)] == ["add-light-ambient"]
    placed = taken(light_calls(lights, Turned((0, 0, 9), (0, 0, 0), (0, 1, 0))))
    assert [(call.method, call.field) for call in placed] == [("add-light-ambient", "lights.0"), ("add-light-directional", "lights.1")]  # fmt: skip


def test_shapes_are_added_as_they_were() -> None:
    shapes = [
        {"kind": "sphere", "center": [-200, 300, 0], "radius": 40, "color": "#f00"},
        {"kind": "sphere", "center": [200, 300, 0], "radius": 25, "color": [0, 1, 0, 0.5]},
        {"kind": "box", "min": [150, -50, -30], "max": [250, 50, 30], "color": "#ff0"},
        {"kind": "capsule", "p0": [-250, 0, 0], "r0": 20, "p1": [-150, 100, 0], "r1": 5, "color": "#f0f"},
        {"kind": "plane", "coefficients": [0, 1, 0, 200]},
    ]
    calls = taken(primitive_calls([Primitive.model_validate(one) for one in shapes]))
    assert [call.method for call in calls] == ["add-spheres", "add-boxes", "add-capsules", "add-planes"]
    for call in calls[:3]:
        assert call.params in recorded(call.method)
    assert [call.field for call in calls] == ["primitives.0", "primitives.2", "primitives.3", "primitives.4"]


@pytest.mark.parametrize(
    "words",
    [
        {"kind": "plane", "coefficients": [0, 1, 0, -150]}, {"kind": "plane", "coefficients": [0, 1, 0, -150], "invert_normals": True},
        {"kind": "sphere", "center": [0, 0, 0], "radius": 120}, {"kind": "box", "min": [-1000, 0, -1000], "max": [0, 1000, 1000]},
    ],
)  # fmt: skip
def test_what_cuts_is_added_as_it_was(words: dict[str, Any]) -> None:
    (call,) = taken(clipping_calls([Clipping.model_validate(words)]))
    assert call.params in recorded(call.method)


def test_a_capsule_cuts_too() -> None:
    rod = {"kind": "capsule", "p0": [0, 0, 0], "r0": 2, "p1": [0, 50, 0], "r1": 1}
    (call,) = taken(clipping_calls([Clipping.model_validate(rod)]))
    assert (call.method, call.field) == ("add-clipping-capsules", "clipping.0")
