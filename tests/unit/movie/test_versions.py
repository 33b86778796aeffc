from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.versions import LATEST, schema_file
from tests.support.schema import published

FIRST: dict[str, Any] = {
    "version": 1,
    "models": [{"path": "/a.swc", "color": "#f80"}, {"path": "/b.obj", "colors": {"method": "solid", "values": {"color": [0, 1, 0]}}}],
    "lights": [{"kind": "ambient", "intensity": 2}, {"direction": [0, 0, -1]}],
    "renderer": {"name": "interactive", "ao_samples": 2, "background_color": [0, 0, 0, 0]},
    "camera": {"path": "keyframes", "keyframes": [{"frame": 0, "position": [0, 0, 9], "target": [0, 0, 0], "fovy": 30}]},
    "simulation": {"start": 3, "end": -1, "slowing_factor": 10},
    "codec": "vp9", "crf": 30, "output": "/out/a.webm", "format": "jpg", "quality": 90, "frame_range": [0, 3],
}  # fmt: skip
MODEL = {"path": "/a.obj"}


def test_version_1_is_read_and_stays_version_1() -> None:
    found = MovieSpecification.check(FIRST)
    assert found.plain()["version"] == 1
    assert MovieSpecification.check(json.loads(json.dumps(found.plain()))) == found
    assert MovieSpecification.check({"models": [MODEL], "frames": 1}).version == LATEST


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("models: [{path: /a.obj, transform: {scale: 2}}]", "models.0.transform"),
        ("models: [{path: /a.obj}, {path: /b.obj, material: {kind: ghost}}]", "models.1.material"),
        ("lights: [{kind: ambient}, {kind: quad, edge1: [1, 0, 0], edge2: [0, 1, 0]}]", "lights.1.edge1"),
        ("lights: [{follow_camera: true}]", "lights.0.follow_camera"),
        ("clipping: [{kind: plane, coefficients: [0, 1, 0, 0]}]", "clipping"),
        ("primitives: [{kind: sphere, center: [0, 0, 0], radius: 1}]", "primitives"),
        ("camera: {projection: orthographic}", "camera.projection"),
        ("step: 2", "step"),
    ],
)  # fmt: skip
def test_a_later_word_in_version_1_is_told_with_its_line_and_what_to_write(words: str, key: str) -> None:
    text = f"frames: 1\nversion: 1\n{'' if words.startswith('models') else 'models: [{path: /a.obj}]'}\n{words}\n"
    with pytest.raises(InvalidSetting, match=rf"m line 4, {key}: is none of version 1; write `version: 2`"):
        MovieSpecification.read(text, "m")
    MovieSpecification.read(text.replace("version: 1", "version: 2"), "m")


def test_a_version_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="version: .*1 or 2"):
        MovieSpecification.check({"version": 3, "models": [MODEL], "frames": 1})


def test_every_word_of_the_published_schema_has_a_line_of_help() -> None:
    schema = json.loads(schema_file().read_text())
    parts = {"the movie": schema, **schema["$defs"]}
    bare = [f"{part}.{word}" for part, one in parts.items() for word, told in one["properties"].items() if not told.get("description")]  # fmt: skip
    assert not bare


@pytest.mark.parametrize("version", range(1, LATEST + 1))
def test_the_published_schemas_take_what_is_taken(version: int) -> None:
    published(version).validate({**FIRST, "version": version, "lights": [{"color": "#fff"}]})
    with pytest.raises(jsonschema.ValidationError):
        published(version).validate({**FIRST, "version": version, "fpz": 3})


@pytest.mark.parametrize(
    "words",
    yaml.safe_load("""
- {models: [{path: /a.obj, transform: {rotation: [0, 90, 0], scale: 2}, material: {kind: metal, roughness: 0.2}}]}
- {models: [{path: /a.obj, transform: {rotation: [0, 0, 0, 1], scale: [1, 1, 2]}, visible: false}]}
- {lights: [{kind: sphere, radius: 2}, {kind: quad, edge1: [1, 0, 0], edge2: [0, 1, 0], follow_camera: true}]}
- {clipping: [{kind: plane, coefficients: [0, 1, 0, 0], invert_normals: true}], primitives: [{kind: box, min: [0, 0, 0], max: [1, 1, 1], color: "#f00"}]}
- {camera: {view: top, path: still, projection: orthographic, height: 3, near_clip: 2, fit: 0}}
- {models: [{path: /a.obj, color_ramp: {range: [-80, -10], colors: ["#008", [1, 0, 0, 0.5]]}}], step: 3}
- {frames: null, simulation: {keyframes: [{frame: 0, step: 0}, {frame: 9, step: -1, easing: ease-out}]}}
- {per_frame: {columns: [camera.fovy], rows: [[45]]}, output: cover.png}
- {frames: null, shots: [{frames: 3, camera: {view: left}, hide: [0]}, {frames: 4, fade: 2, lights: [{kind: ambient}]}]}
- {camera: {aperture_radius: 2, focus_distance: 9, easing: ease-in}}
"""),
)
def test_the_schema_takes_the_later_words_as_the_reader_does(words: dict[str, Any]) -> None:
    value = {"models": [MODEL], "frames": 1, **words}
    MovieSpecification.check(value)
    published().validate(value)
