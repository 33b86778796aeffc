from __future__ import annotations

from typing import Any

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.camera import Bounds, camera_path
from airflow_brayns.movie.camera_fields import Camera
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


def test_frames_of_an_orthographic_camera_with_a_field_of_view_stay_those_of_their_movie() -> None:
    """It says how far away a camera that fits stands, and so what `near_clip` hides. Refused, frames that were whole
    could not be encoded, and without it all of them would be rendered anew.
    """
    camera = {"projection": "orthographic", "fovy": 30}
    values = {"models": [{"path": "/a.obj"}], "frames": 9, "output": "/m.mp4", "camera": camera}
    found = MovieSpecification.check(values)
    assert MovieSpecification.check(found.plain()).camera.fovy == 30
    bounds = Bounds((-1, -1, -1), (1, 1, 1))
    near, far = (camera_path(Camera(**one), 9, bounds, 1.0)(0) for one in ({**camera, "fovy": 60}, camera))
    assert near.position[2] < far.position[2] and near.height == far.height
