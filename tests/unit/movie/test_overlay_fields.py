"""The word `overlays` of a specification: what is taken, and what is refused before a node is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.overlay_fields import Legend, Overlays, ScaleBar
from airflow_brayns.movie.script import specification_of
from airflow_brayns.movie.specification import MovieSpecification
from tests.support.schema import published

RAMP = {"range": [-80, -10], "colors": ["#008", "#f00"]}
MODEL: dict[str, Any] = {"path": "/data/a.obj"}
WITH_RAMP = {**MODEL, "color_ramp": RAMP}


def checked(overlays: Any, **changes: Any) -> MovieSpecification:
    return MovieSpecification.check({"models": [MODEL], "frames": 3, **changes, "overlays": overlays})


def test_true_is_the_usual_one_and_false_is_none() -> None:
    found = checked({"scale_bar": True, "legend": True}, models=[WITH_RAMP]).overlays
    assert found == Overlays(scale_bar=ScaleBar(), legend=Legend())
    assert checked({"scale_bar": False, "legend": False}).overlays == Overlays()


def test_what_is_written_into_the_manifest_is_read_back() -> None:
    spec = checked(
        {"title": "µ", "logo": "/l.png", "scale_bar": {"unit": "nm"}, "legend": True, "color": "#000"},
        models=[WITH_RAMP],
    )
    assert specification_of(json.loads(json.dumps(spec.plain()))) == spec


def test_a_relative_logo_lies_beside_the_specification() -> None:
    text = "models: [{path: a.obj}]\nframes: 3\noverlays: {logo: ../logo.png}\n"
    found = MovieSpecification.read(text, folder=Path("/data/movies")).overlays
    assert found is not None
    assert found.logo == "/data/logo.png"
    with pytest.raises(InvalidSetting, match=r"overlays.logo: write the path .*\n +'logo.png' is relative"):
        checked({"logo": "logo.png"})


@pytest.mark.parametrize(
    ("overlays", "changes", "why"),
    [
        ({"titel": "a"}, {}, r"overlays.titel: did you mean title\?"),
        ({"scale_bar": {"units": "nm"}}, {}, r"overlays.scale_bar.units: did you mean unit\?"),
        ({"legend": {"lable": "mV"}}, {}, r"overlays.legend.lable: did you mean label\?"),
        ({"title": True}, {}, "overlays.title: .*true"),
        ({"title": "two\nlines"}, {}, "overlays.title: must be one line"),
        ({"title": "half \ud83d"}, {}, "overlays.title: "),  # no manifest, and no pen, can write it
        ({"title": "x" * 501}, {}, "overlays.title: .*500"),
        ({"size": 0.5}, {}, "overlays.size: .*0.2"),
        ({"scale_bar": {"length": 0}}, {}, "overlays.scale_bar.length: .*greater than 0"),
        ({"scale_bar": "big"}, {}, "overlays.scale_bar: "),
        ({"logo": "/logo.svg"}, {}, "overlays.logo: must be the path of a PNG or JPEG"),
        ({"logo": "/a\0.png"}, {}, "overlays.logo: "),
        ({"color": "white"}, {}, "overlays.color: a colour is"),
        ({"time": True}, {}, "overlays.time: there is no `simulation`"),
        ({"legend": True}, {}, "overlays.legend: no model has a `color_ramp`.*leave it out"),
        ({"legend": {"model": 0}}, {"models": [MODEL, WITH_RAMP]}, "overlays.legend.model: model 0 has no `color_ramp`; take 1"),
        ({"legend": {"model": 7}}, {"models": [WITH_RAMP]}, "overlays.legend.model: there is no model 7; take 0"),
        ({"legend": True}, {"models": [WITH_RAMP, MODEL, WITH_RAMP]}, "overlays.legend.model: say which: models 0 and 2"),
        ({"legend": True}, {"models": [{**MODEL, "color_ramp": {"range": [0, 1]}}]}, "models.0.color_ramp.colors: missing: a legend"),
        ({"legend": True}, {"models": [{**MODEL, "color_ramp": {"colors": ["#000", "#fff"]}}]}, "models.0.color_ramp.range: missing"),
        ({"title": "a"}, {"version": 1}, "overlays: is none of version 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_names_the_field(overlays: Any, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidSetting, match=why):
        checked(overlays, **changes)


@pytest.mark.parametrize("name", ["scale_bar", "legend", "time"])
def test_of_python_nobody_knows_camera_scene_and_time(name: str) -> None:
    plain = {"frames": 3, "script": {"file": "/data/growth.py"}}
    assert specification_of({**plain, "overlays": {"title": "Growth", "frame_number": True}}).overlays is not None
    with pytest.raises(InvalidSetting, match=f"overlays.{name}: cannot be known: .* Python's"):
        specification_of({**plain, "overlays": {name: True}})


def test_the_published_schema_takes_the_switches() -> None:
    value: dict[str, Any] = {"version": 2, "models": [WITH_RAMP], "frames": 3}
    for bar in (True, False, {"unit": "nm"}):
        published().validate({**value, "overlays": {"scale_bar": bar, "legend": bar is True}})
    with pytest.raises(jsonschema.ValidationError):
        published().validate({**value, "overlays": {"scale_bar": "big"}})
