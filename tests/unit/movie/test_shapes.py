from __future__ import annotations

from typing import Any

import pytest

from airflow_brayns.emulator.schemas import params_of
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.shapes import SHAPES
from airflow_brayns.movie.specification import MovieSpecification


def check(**words: Any) -> MovieSpecification:
    return MovieSpecification.check({"models": [{"path": "/a.obj"}], "frames": 1, **words})


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_takes_what_the_service_tells_of(kind: str) -> None:
    name, takes = SHAPES[kind]
    clipped = params_of(f"add-clipping-{name}")["properties"]["primitives"]["items"]
    shown = params_of(f"add-{name}")["items"]["properties"]["geometry"]
    assert sorted(takes) == sorted(clipped["required"]) == sorted(shown["required"])


@pytest.mark.parametrize("word", ["primitives", "clipping"])
@pytest.mark.parametrize(
    ("shape", "key", "says"),
    [
        ({"kind": "sphere", "center": [0, 0, 0]}, "radius", "missing: a sphere takes center, radius"),
        ({"kind": "sphere", "center": [0, 0, 0], "radius": 0}, "radius", "nothing would be there"),
        ({"kind": "sphere", "center": [0, 0, 0], "radius": -1}, "radius", "greater than or equal to 0"),
        ({"kind": "sphere", "center": [0, float("nan"), 0], "radius": 1}, "center.1", "finite"),
        ({"kind": "capsule", "p0": [0, 0, 0], "r0": 0, "p1": [0, 1, 0], "r1": 0}, "r0", "nothing would be there"),
        ({"kind": "box", "min": [0, 0, 0], "max": [1, 0, 1]}, "max", "must be above `min`"),
        ({"kind": "box", "min": [0, 0, 0], "max": [1, 1, 1], "radius": 2}, "radius", "a box has none: a box takes min, max"),
        ({"kind": "plane", "coefficients": [0, 0, 0, 5]}, "coefficients", "nothing tells how the plane lies"),
        ({"kind": "plane", "coefficients": [0, 1, 0]}, "coefficients", "missing: it has 3 of 4 values"),
        ({"kind": "cone"}, "kind", "'sphere', 'capsule', 'box' or 'plane'"),
    ],
)  # fmt: skip
def test_what_is_no_shape_is_refused_at_its_key(word: str, shape: dict[str, Any], key: str, says: str) -> None:
    good = {"kind": "sphere", "center": [0, 0, 0], "radius": 1}
    with pytest.raises(InvalidSetting, match=says) as error:
        check(**{word: [good, shape]})
    assert error.value.field == f"{word}.1.{key}"


def test_what_cuts_has_no_colour_and_what_is_shown_no_other_side() -> None:
    ball = {"kind": "sphere", "center": [0, 0, 0], "radius": 1}
    for word, other in (("clipping", {"color": "#fff"}), ("primitives", {"invert_normals": True})):
        with pytest.raises(InvalidSetting, match="is not known here"):
            check(**{word: [{**ball, **other}]})
