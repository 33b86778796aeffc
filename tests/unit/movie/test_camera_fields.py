from __future__ import annotations

from typing import Any

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.specification import MovieSpecification

WAY: dict[str, Any] = {"path": "keyframes", "keyframes": [{"frame": 0, "position": [0, 0, 5], "target": [0, 0, 0]}]}


@pytest.mark.parametrize(
    ("camera", "key", "says"),
    [
        ({**WAY, "view": "top"}, "view", "the key frames say where the camera is"),
        ({**WAY, "fit": 0}, "fit", "the key frames say where the camera is"),
        ({"view": "top", "elevation": 3}, "elevation", "90 degrees at view top"),
        ({"view": "above"}, "view", "'top' or 'bottom'"),
        ({"projection": "orthographic", "aperture_radius": 2}, "aperture_radius", "no depth of field.*`perspective`"),
        ({"projection": "orthographic", "focus_distance": 2}, "focus_distance", "no depth of field"),
        ({"projection": "orthographic", "fovy": 30}, "fovy", "no field of view; give `height`"),
        ({"projection": "orthographic", "path": "keyframes", "keyframes": [{**WAY["keyframes"][0], "fovy": 30}]}, "fovy", "no field of view"),
        ({"projection": "orthographic", "height": 0}, "height", "greater than 0"),
        ({"projection": "fisheye"}, "projection", "'perspective' or 'orthographic'"),
        ({"height": 3}, "height", "is for `projection: orthographic`"),
        ({"focus_distance": 3}, "focus_distance", "everything is sharp as long as `aperture_radius` is 0"),
        ({"aperture_radius": float("nan")}, "aperture_radius", "nan"),
        ({"near_clip": -1}, "near_clip", "greater than or equal to 0"),
        ({"easing": "bounce"}, "easing", "'ease-in-out'"),
        ({"fit": -1}, "fit", "greater than or equal to 0"),
        ({"fit": 1}, "fit", "there is no model 1; the last one is 0"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_at_its_key(camera: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(InvalidSetting, match=says) as error:
        MovieSpecification.check({"models": [{"path": "/a.obj"}], "frames": 9, "camera": camera})
    assert error.value.field == f"camera.{key}"
