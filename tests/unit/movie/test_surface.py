from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.emulator.schemas import params_of
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.scene import prepare
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.surface import MATERIALS, Material, Transform
from tests.support.emulators import Emulator
from tests.support.movie import specification

CUBE = Path(__file__).parents[2] / "data" / "cube.obj"


def model(**words: Any) -> dict[str, Any]:
    return {"models": [{"path": "/a.obj", **words}], "frames": 1}


@pytest.mark.parametrize("kind", MATERIALS)
def test_a_material_has_the_parameters_that_the_service_tells_of(kind: str) -> None:
    """No more, no fewer, each with its limits."""
    told = params_of(f"set-material-{kind}")["properties"]["material"].get("properties", {})
    assert sorted(MATERIALS[kind]) == sorted(told)
    for name, schema in told.items():
        for limit, beyond in (("minimum", -1), ("maximum", 1)):
            if limit in schema:
                with pytest.raises(InvalidSetting) as error:
                    MovieSpecification.check(model(material={"kind": kind, name: schema[limit] + beyond * 0.001}))
                assert error.value.field == f"models.0.material.{name}"
        good = {"array": [0.5, 0.5, 0.5], "boolean": True}.get(schema["type"], schema.get("minimum", 0.5))
        assert Material.model_validate({"kind": kind, name: good}).parameters() == {name: good}


@pytest.mark.parametrize(
    ("words", "field", "says"),
    [
        ({"transform": {"translation": [0, float("nan"), 0]}}, "models.0.transform.translation.1", "finite"),
        ({"transform": {"rotation": [0, 0, float("inf")]}}, "models.0.transform.rotation.2", "finite"),
        ({"transform": {"scale": float("nan")}}, "models.0.transform.scale.0", "finite"),
        ({"transform": {"rotation": [0, 90]}}, "models.0.transform.rotation", "at least 3"),
        ({"transform": {"rotation": [0, 0, 0, 0]}}, "models.0.transform.rotation", r"quaternion without length.*\[0, 0, 0, 1\]"),
        ({"transform": {"scale": [1, 0, 1]}}, "models.0.transform.scale", "visible: false"),
        ({"transform": {"scale": True}}, "models.0.transform.scale", "must be a number"),
        ({"transform": {"rotate": [0, 0, 1]}}, "models.0.transform.rotate", "did you mean rotation"),
        ({"material": {"kind": "chrome"}}, "models.0.material.kind", "'phong'.*'carpaint'"),
        ({"material": {"kind": "matte", "opacity": float("nan")}}, "models.0.material.opacity", "nan"),
        ({"material": {"kind": "metal", "opacity": 0.5}}, "models.0.material.opacity", "metal takes roughness; leave it out, or take phong, matte, plastic"),
        ({"material": {"kind": "ghost", "thin": True}}, "models.0.material.thin", "ghost takes nothing; .* principled"),
        ({"material": {"kind": "metal", "roughness": 0}}, "models.0.material.roughness", "0 is below 0.01"),
        ({"material": {"opacity": 0.5}}, "models.0.material.kind", "required"),
        ({"color_ramp": {}}, "models.0.color_ramp", "give `range`, `colors` or both"),
        ({"color_ramp": {"range": [3, 3]}}, "models.0.color_ramp.range", "the first must be below the last"),
        ({"color_ramp": {"range": [0, float("nan")]}}, "models.0.color_ramp.range.1", "finite"),
        ({"color_ramp": {"colors": ["#fff"]}}, "models.0.color_ramp.colors", "at least 2"),
        ({"color_ramp": {"colors": ["#fff"] * 257}}, "models.0.color_ramp.colors", "at most 256"),
        ({"visible": "perhaps"}, "models.0.visible", "boolean"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused_at_its_key(words: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidSetting, match=says) as error:
        MovieSpecification.check(model(**words))
    assert error.value.field == field


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the official client does not import on Python 3.13")
@pytest.mark.parametrize("angles", [(0, 0, 90), (90, 0, 0), (10, 20, 30), (-170, 45, 300)])
def test_degrees_are_counted_as_the_official_client_does(angles: tuple[float, float, float]) -> None:
    from brayns import Rotation, Vector3

    official = Rotation.from_euler(Vector3(*angles), degrees=True).quaternion
    assert Transform(rotation=angles).quaternion == pytest.approx([official.x, official.y, official.z, official.w])


def test_a_quaternion_is_of_length_1_and_one_scale_is_for_all_axes() -> None:
    found = Transform.model_validate({"rotation": [0, 0, 2, 2], "scale": 0.5}).parameters()
    half = math.sqrt(0.5)
    assert found["rotation"] == pytest.approx([0, 0, half, half])
    assert found["scale"] == [0.5, 0.5, 0.5]


async def test_a_service_shows_what_was_asked_for(emulator: Callable[..., Emulator]) -> None:
    service = emulator()
    spec = specification(
        CUBE,
        models=[
            {
                "path": str(CUBE),
                "color": "#f00",
                "transform": {"translation": [10, 0, 0], "rotation": [0, 0, 90], "scale": 2},
                "material": {"kind": "glass", "index_of_refraction": 1.3},
            },
            {"path": str(CUBE), "visible": False, "material": {"kind": "emissive", "color": "#0f0", "intensity": 3}},
        ],
    )
    async with BraynsClient(service.endpoint) as client:
        facts = await prepare(client, spec)
        scene = (await client.call("get-scene")).result["models"]
        moved, hidden = (one for one in scene if one["model_type"] == "mesh")
        glass = (await client.call("get-material-glass", {"id": moved["model_id"]})).result
        emissive = (await client.call("get-material-emissive", {"id": hidden["model_id"]})).result
    assert facts.bounds.high == pytest.approx((12, 2, 2))
    assert moved["transform"]["translation"] == [10, 0, 0]
    assert (moved["is_visible"], hidden["is_visible"]) == (True, False)
    assert glass == {"index_of_refraction": pytest.approx(1.3)}
    assert emissive == {"color": [0, 1, 0], "intensity": 3}


def test_what_is_written_comes_back_the_same() -> None:
    found = MovieSpecification.check(
        model(
            transform={"rotation": [0, 0, 0, 1], "scale": 3}, material={"kind": "principled", "thin": True, "coat": 1}
        )
    )
    assert MovieSpecification.check(json.loads(json.dumps(found.plain()))) == found
