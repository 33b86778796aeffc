from __future__ import annotations

import itertools
import math

import pytest

from airflow_brayns.movie.camera import Bounds, Pose, camera_path
from airflow_brayns.movie.specification import Camera, Keyframe

BOX = Bounds((-10, -50, -10), (10, 50, 30))
WIDE = 16 / 9


def poses(camera: Camera, frames: int) -> list[Pose]:
    path = camera_path(camera, frames, BOX, WIDE)
    return [path(frame) for frame in range(frames)]


def test_a_turntable_closes_without_showing_a_view_twice() -> None:
    found = [pose.position for pose in poses(Camera(), 36)]
    assert len(set(found)) == 36
    steps = [math.dist(a, b) for a, b in zip(found, [*found[1:], found[0]], strict=True)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-6), "from the last frame to the first as between any two"


@pytest.mark.parametrize(
    "camera", [Camera(), Camera(elevation=35), Camera(elevation=-60, fovy=20), Camera(path="swing")]
)
def test_the_whole_box_is_in_sight_from_all_sides(camera: Camera) -> None:
    for pose in poses(camera, 24):
        eye = pose.position
        front = [b - a for a, b in zip(eye, pose.target, strict=True)]
        distance = math.dist(eye, pose.target)
        front = [part / distance for part in front]
        right = [-front[2], 0.0, front[0]]
        length = math.hypot(*right)
        right = [part / length for part in right]
        up = [
            right[1] * front[2] - right[2] * front[1],
            right[2] * front[0] - right[0] * front[2],
            right[0] * front[1] - right[1] * front[0],
        ]
        for x in (-10, 10):
            for y in (-50, 50):
                for z in (-10, 30):
                    offset = [x - eye[0], y - eye[1], z - eye[2]]
                    depth = sum(a * b for a, b in zip(offset, front, strict=True))
                    reach = depth * math.tan(math.radians(pose.fovy / 2))
                    assert abs(sum(a * b for a, b in zip(offset, up, strict=True))) <= reach * 1.001
                    assert abs(sum(a * b for a, b in zip(offset, right, strict=True))) <= reach * WIDE * 1.001


KEYFRAMES = tuple(
    Keyframe(frame=frame, position=position, target=(0, 0, 0), fovy=fovy)
    for frame, position, fovy in (
        (0, (0, 0, 100), 45),
        (20, (80, 30, 60), 30),
        (70, (100, 0, 0), 60),
        (100, (60, 0, -50), 45),
    )
)


def test_key_frames_are_met_and_the_way_between_has_no_kink() -> None:
    found = poses(Camera(path="keyframes", keyframes=KEYFRAMES), 101)
    for one in KEYFRAMES:
        assert found[one.frame].position == pytest.approx(one.position)
        assert found[one.frame].fovy == pytest.approx(one.fovy)
    speeds = [math.dist(a.position, b.position) for a, b in itertools.pairwise(found)]
    changes = [abs(b - a) for a, b in itertools.pairwise(speeds)]
    assert max(changes) < max(speeds) / 5, "no jump, also not where two pieces of the curve meet"
    assert speeds[0] < max(speeds) / 5, "it starts gently"
    assert speeds[-1] < max(speeds) / 5, "and so it ends"


def test_before_the_first_and_after_the_last_key_frame_it_stands_still() -> None:
    keyframes = tuple(one.model_copy(update={"frame": one.frame + 10}) for one in KEYFRAMES)
    found = poses(Camera(path="keyframes", keyframes=keyframes), 150)
    assert found[0] == found[10]
    assert found[120] == found[149]
    assert all(math.hypot(*pose.up) == pytest.approx(1) for pose in found)


def test_one_key_frame_is_a_still() -> None:
    assert len(set(poses(Camera(path="keyframes", keyframes=KEYFRAMES[:1]), 5))) == 1
