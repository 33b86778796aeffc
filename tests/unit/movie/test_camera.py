from __future__ import annotations

import math

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.camera import FOVY, Bounds, angle, view

BOX = Bounds((-10, -50, -10), (10, 50, 30))


def test_a_turntable_closes_without_showing_a_view_twice() -> None:
    angles = [angle("turntable", frame, 36) for frame in range(36)]
    assert angles[0] == 0
    assert angles[-1] == 350
    assert len(set(angles)) == 36


def test_the_whole_box_is_in_sight_from_all_sides() -> None:
    for degrees in range(0, 360, 15):
        seen = view(BOX, degrees, 16 / 9)
        eye, target = seen["position"], seen["target"]
        front = [b - a for a, b in zip(eye, target, strict=True)]
        distance = math.dist(eye, target)
        front = [part / distance for part in front]
        right = [-front[2], 0.0, front[0]]
        for x in (-10, 10):
            for y in (-50, 50):
                for z in (-10, 30):
                    offset = [x - eye[0], y - eye[1], z - eye[2]]
                    depth = sum(a * b for a, b in zip(offset, front, strict=True))
                    reach = depth * math.tan(math.radians(FOVY / 2))
                    assert abs(offset[1]) <= reach
                    assert abs(sum(a * b for a, b in zip(offset, right, strict=True))) <= reach * 16 / 9


def test_an_unknown_path_names_the_known() -> None:
    with pytest.raises(InvalidSetting, match="camera: .*turntable"):
        angle("spiral", 0, 10)
