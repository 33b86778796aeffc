from __future__ import annotations

import itertools
import math
import sys
from typing import Any

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


def test_a_swing_goes_to_one_side_and_back_and_to_the_other() -> None:
    """Its full angle after a quarter and after three, straight ahead at half."""
    x, _, z = BOX.center
    angles = [
        math.degrees(math.atan2(pose.position[0] - x, pose.position[2] - z))
        for pose in poses(Camera(path="swing", swing=30), 8)
    ]
    assert angles == pytest.approx(
        [0, 30 * math.sqrt(0.5), 30, 30 * math.sqrt(0.5), 0, -30 * math.sqrt(0.5), -30, -30 * math.sqrt(0.5)], abs=1e-9
    )


def test_a_turntable_turns_as_often_as_it_is_told_from_where_it_is_told() -> None:
    x, _, z = BOX.center
    found = poses(Camera(turns=2, start_angle=80), 8)
    angles = [math.degrees(math.atan2(pose.position[0] - x, pose.position[2] - z)) % 360 for pose in found]
    assert angles == pytest.approx([80, 170, 260, 350, 80, 170, 260, 350], abs=1e-6)


def test_a_scene_that_is_one_point_is_seen_from_close_by() -> None:
    point = Bounds((1, 2, 3), (1, 2, 3))
    assert 0 < math.dist(camera_path(Camera(), 8, point, WIDE)(0).position, (1, 2, 3)) < 1e-4


@pytest.mark.parametrize(("moved", "same"), [(0.004, True), (0.006, False)])
def test_two_services_see_the_same_scene_within_a_ten_thousandth_of_its_size(moved: float, same: bool) -> None:
    assert Bounds((-10, -50 + moved, -10), (10, 50, 30)).agrees_with(BOX) is same
    assert BOX.half_height == 50
    assert BOX.radius_around_y == pytest.approx(math.hypot(20, 40) / 2)


def test_distance_and_target_are_taken_as_they_are_given() -> None:
    pose = poses(Camera(distance=10, target=(1, 2, 3), elevation=30), 4)[1]
    assert pose.target == (1, 2, 3)
    assert pose.position == pytest.approx((1 + 10 * math.sqrt(0.75), 7, 3))
    assert pose.view() == {"position": list(pose.position), "target": [1, 2, 3], "up": [0, 1, 0]}


VIEWS = ("front", "back", "left", "right", "top", "bottom")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the official client does not import on Python 3.13")
@pytest.mark.parametrize("aspect", [WIDE, 0.5])
@pytest.mark.parametrize("view", VIEWS)
def test_a_named_view_is_the_official_clients(view: Any, aspect: float) -> None:
    from brayns import Bounds as Box
    from brayns import CameraController, CameraRotation, OrthographicProjection, Vector3

    target = Box(Vector3(*BOX.low), Vector3(*BOX.high))
    for projection, extra in ((None, {}), (OrthographicProjection, {"projection": OrthographicProjection})):
        official = CameraController(target, aspect, rotation=getattr(CameraRotation, view), **extra).camera
        camera = Camera(path="still", view=view, margin=1.0, projection="orthographic" if projection else "perspective")
        pose = camera_path(camera, 1, BOX, aspect)(0)
        assert pose.target == pytest.approx(tuple(official.view.target))
        assert pose.up == pytest.approx(tuple(official.view.up), abs=1e-9)
        if projection:
            assert pose.projection() == ("orthographic", {"height": pytest.approx(official.projection.height)})
        else:
            assert pose.position == pytest.approx(tuple(official.view.position))


@pytest.mark.parametrize("view", VIEWS)
def test_a_turntable_from_a_named_side_begins_there_and_comes_back(view: Any) -> None:
    still, turning = Camera(path="still", view=view), Camera(view=view)
    first, around = poses(still, 1)[0], poses(turning, 8)
    there = [part - middle for part, middle in zip(first.position, BOX.center, strict=True)]
    begins = [part - middle for part, middle in zip(around[0].position, BOX.center, strict=True)]
    assert [part / math.hypot(*begins) for part in begins] == pytest.approx(
        [part / math.hypot(*there) for part in there]
    )
    assert around[0].up == pytest.approx(first.up)
    assert len({(pose.position, pose.up) for pose in around}) == 8, "from above and below the picture turns"


@pytest.mark.parametrize("path", ["turntable", "still"])
def test_an_orthographic_camera_has_the_whole_box_in_its_picture(path: Any) -> None:
    for pose in poses(Camera(path=path, projection="orthographic", margin=1.0), 8):
        name, params = pose.projection()
        assert name == "orthographic"
        assert params["height"] >= 100
        assert params["height"] * WIDE >= 40
    fixed = poses(Camera(path=path, projection="orthographic", height=7), 1)[0]
    assert fixed.projection() == ("orthographic", {"height": 7})


def test_depth_of_field_is_sharp_at_the_target_or_where_it_is_told() -> None:
    pose = poses(Camera(aperture_radius=2), 4)[1]
    assert pose.projection() == (
        "perspective", {"fovy": 45, "aperture_radius": 2, "focus_distance": pytest.approx(math.dist(pose.position, pose.target))},
    )  # fmt: skip
    assert poses(Camera(aperture_radius=2, focus_distance=9), 1)[0].projection()[1]["focus_distance"] == 9
    way = Camera(path="keyframes", keyframes=KEYFRAMES, aperture_radius=2)
    assert [round(pose.projection()[1]["focus_distance"]) for pose in poses(way, 21)[::20]] == [100, 104]
    assert poses(Camera(), 1)[0].projection() == (
        "perspective", {"fovy": 45, "aperture_radius": 0, "focus_distance": 1},
    )  # fmt: skip


def test_a_turntable_that_eases_in_begins_slowly() -> None:
    even, eased = poses(Camera(), 36), poses(Camera(easing="ease-in"), 36)
    assert eased[0].position == even[0].position
    steps = [[math.dist(a.position, b.position) for a, b in itertools.pairwise(found)] for found in (even, eased)]
    assert steps[1][0] < steps[0][0] / 10
    assert steps[1][-1] > steps[0][-1] * 1.5


def test_key_frames_that_ease_are_gone_through_straight() -> None:
    stops = tuple(
        Keyframe(frame=frame, position=position, target=(0, 0, -9))
        for frame, position in ((0, (0, 0, 0)), (10, (8, 0, 0)), (20, (8, 8, 0)))
    )
    straight = poses(Camera(path="keyframes", keyframes=stops, easing="linear"), 21)
    assert straight[5].position == pytest.approx((4, 0, 0))
    assert straight[15].position == pytest.approx((8, 4, 0))
    mixed = (stops[0].model_copy(update={"easing": "ease-in"}), *stops[1:])
    found = poses(Camera(path="keyframes", keyframes=mixed, easing="linear"), 21)
    assert found[5].position == pytest.approx((2, 0, 0)), "its own"
    assert found[15].position == pytest.approx((8, 4, 0)), "the camera's"
    curved = poses(Camera(path="keyframes", keyframes=stops), 21)
    assert curved[5].position[1] != 0, "without easing it is a curve"


def test_two_cameras_have_two_keys() -> None:
    words = ({"height": 2.0}, {"near_clip": 2.0}, {"aperture_radius": 2.0}, {"height": 2.0, "near_clip": 2.0}, {})
    poses = [Pose((0, 0, 1), (0, 0, 0), (0, 1, 0), 45.0, **one) for one in words]
    assert len({pose.numbers() for pose in poses}) == len(poses)
    assert poses[-1].numbers() == (0, 0, 1, 0, 0, 0, 0, 1, 0, 45.0), "as in version 1"
