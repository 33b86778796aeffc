from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.codecs import EncodingChoice
from airflow_brayns.movie.encode import encode_movie
from airflow_brayns.movie.ffmpeg import ffmpeg
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.shots import shot_at
from airflow_brayns.movie.specification import MovieSpecification
from tests.support.scripted import Service, serving
from tests.unit.movie.test_render_call import movie

FACTS = SceneFacts(Bounds((-1, -1, -1), (1, 1, 1)), 0, 49, 0.5e-3)
TWO = [{"path": "/a.obj"}, {"path": "/b.obj"}]


def check(*shots: dict[str, Any], **words: Any) -> MovieSpecification:
    return MovieSpecification.check({"models": TWO, "resolution": [96, 64], "shots": list(shots), **words})


def plan(*shots: dict[str, Any], **words: Any) -> Plan:
    spec = check(*shots, **words)
    return Plan(spec, FACTS, scene_hash(spec))


def test_each_shot_has_its_camera_counted_from_its_own_first_frame() -> None:
    found = plan(
        {"frames": 3, "camera": {"path": "still", "view": "top"}}, {"frames": 8}, {"frames": 2, "camera": {"fovy": 20}}
    )
    alone = plan({"frames": 8})
    assert found.total == 13
    assert [shot_at(found.specification.shots, frame)[1] for frame in (0, 2, 3, 10, 11, 12)] == [0, 2, 0, 7, 0, 1]
    assert [found.pose(frame + 3) for frame in range(8)] == [alone.pose(frame) for frame in range(8)]
    assert found.pose(0).up == pytest.approx((0, 0, -1))
    assert found.pose(12).fovy == 20
    assert MovieSpecification.check(json.loads(json.dumps(found.specification.plain()))) == found.specification


def test_a_shot_that_changes_renders_its_own_frames_anew() -> None:
    first, other = {"frames": 3}, {"frames": 2, "camera": {"fovy": 20}}
    one = plan(first, other)
    for change in ({"camera": {"fovy": 25}}, {"hide": [1]}, {"lights": [{"kind": "ambient"}]}):
        changed = plan(first, {**other, **change})
        assert changed.scene == one.scene
        assert [changed.key(frame) == one.key(frame) for frame in range(5)] == [True] * 3 + [False] * 2
    faded = plan(first, {**other, "fade": 2})
    assert [faded.key(frame) for frame in range(5)] == [one.key(frame) for frame in range(5)], "it is faded at encoding"


@pytest.mark.parametrize("way", ["one-pass", "snapshot"])
async def test_what_a_shot_hides_is_shown_in_the_next(tmp_path: Path, way: str) -> None:
    ids = iter([[{"model_id": 7}], [{"model_id": 8}]])
    service = Service(add_model=lambda params: (next(ids), b""))
    spec = check({"frames": 1, "hide": [1]}, {"frames": 1, "lights": [{"kind": "ambient", "intensity": 9}]})
    async with serving(service):
        outcome, _ = await movie(service, tmp_path, spec, way=way)
    assert outcome.rendered == 2
    shown = [
        (params["model_id"], params["model"]["is_visible"])
        for method, params in service.asked
        if method == "update-model"
    ]
    assert shown == [(8, False), (8, False), (8, True)], "the scene, then each frame"
    lights = [params["intensity"] for method, params in service.asked if method == "add-light-ambient"]
    assert lights[-1] == 9


@pytest.mark.parametrize(
    ("shots", "words", "field", "says"),
    [
        ([{"frames": 2}], {"frames": 3}, "frames", "follows from `shots`"),
        ([{"frames": 2}], {"camera": {"fovy": 20}}, "camera", "each of the `shots` has its own"),
        ([{"frames": 2}], {"per_frame": "a.csv"}, "per_frame", "leave one of them out"),
        ([{"frames": 2, "hide": [2]}], {}, "shots.0.hide.0", "no model 2; the last one is 1"),
        ([{"frames": 2, "camera": {"fit": 2}}], {}, "shots.0.camera.fit", "no model 2"),
        ([{"frames": 2, "lights": []}], {}, "shots.0.lights", "without a light"),
        ([{"frames": 2, "fade": 1}], {}, "shots.0.fade", "nothing is before the first shot"),
        ([{"frames": 2}, {"frames": 9, "fade": 3}], {}, "shots.1.fade", "3 frames are more than the 2"),
        ([{"frames": 9}, {"frames": 5, "fade": 3}, {"frames": 9, "fade": 3}], {}, "shots.2.fade", "3 frames are more than the 2"),
        ([{"frames": 2}, {"frames": 2, "fade": 1}], {"codec": "gif", "output": "a.gif"}, "codec", "gif fades no shots"),
        ([{"frames": 2}, {"frames": 2, "fade": 1}], {"step": 2}, "step", "are encoded whole"),
        ([{"frames": 2}, {"frames": 2, "fade": 1}], {"frame_range": [0, 1]}, "frame_range", "are encoded whole"),
        ([{"frames": 0}], {}, "shots.0.frames", "greater than or equal to 1"),
        ([{"frame": 3}], {}, "shots.0.frames", "required"),
    ],
)  # fmt: skip
def test_what_is_no_shot_is_refused_at_its_key(shots: list[Any], words: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidSetting, match=says) as error:
        check(*shots, **words)
    assert error.value.field == field


def test_shots_are_as_long_as_the_simulation() -> None:
    simulation = {"keyframes": [{"frame": 0, "step": 0}, {"frame": 4, "step": 40}]}
    assert plan({"frames": 3}, {"frames": 2}, simulation=simulation).pose(4)
    with pytest.raises(InvalidSetting, match="shots: have 4 frames, but the simulation makes 5"):
        plan({"frames": 2}, {"frames": 2}, simulation=simulation).pose(0)


async def test_shots_fade_into_each_other_or_are_cut(tmp_path: Path) -> None:
    """Red, faded over four frames into blue, and cut to green."""
    spec = check({"frames": 6}, {"frames": 7, "fade": 4}, {"frames": 3}, fps="30000/1001", output="a.mp4")
    colors = [(200, 0, 0)] * 6 + [(0, 0, 200)] * 7 + [(0, 200, 0)] * 3
    for number, color in enumerate(colors):
        Image.new("RGB", (96, 64), color).save(tmp_path / f"{number:05d}.png")
    made = await encode_movie(tmp_path, tmp_path / "out" / "a.mp4", spec.encoding, frames=16)
    read = [ffmpeg(), "-v", "error", "-i", str(made.path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(read, capture_output=True, check=True).stdout
    seen = [tuple(pixels[96 * 64 * 3 * at :][:3]) for at in range(len(pixels) // (96 * 64 * 3))]
    assert made.frames == len(seen) == 12
    named = ["red" if r > 180 else "blue" if b > 180 else "green" if g > 180 else "between" for r, g, b in seen]
    assert named[:2] == ["red", "red"]
    assert named[-6:] == ["blue"] * 3 + ["green"] * 3
    reds = [red for red, _, _ in seen[1:7]]
    assert reds == sorted(reds, reverse=True)
    assert sum(20 < red < 180 for red in reds) >= 2
    with pytest.raises(InvalidSetting, match="(?s)codec: take another codec.*gif fades no shots"):
        EncodingChoice(codec="gif").over(spec.encoding)


def test_a_part_beyond_the_shots_and_too_many_frames_are_told_before_a_node_is_asked_for() -> None:
    two = [{"frames": 3}, {"frames": 2}]
    assert check(*two, frame_range=[0, 4]).frames == 5
    with pytest.raises(InvalidSetting, match="frame_range: the movie's last frame is 4"):
        check(*two, frame_range=[0, 5])
    with pytest.raises(InvalidSetting, match="frames: 12000000 are more than 10000000"):
        check({"frames": 6_000_000}, {"frames": 6_000_000})


def ways(*frames: int) -> dict[str, Any]:
    keys = [{"frame": one, "position": [0, 0, 9 + one], "target": [0, 0, 0]} for one in frames]
    return {"path": "keyframes", "keyframes": keys}


def test_key_frames_that_count_on_from_the_shot_before_are_refused() -> None:
    """The camera stood still for the whole shot, and the movie was green."""
    with pytest.raises(
        InvalidSetting, match=r"shots\.1\.camera\.keyframes\.1\.frame: is 99, and the shot has 50 frames"
    ):
        check({"frames": 50}, {"frames": 50, "camera": ways(50, 99)})
    with pytest.raises(InvalidSetting, match=r"shots\.1\.camera\.keyframes\.1\.frame: is 129, and the shot has 100"):
        check({"frames": 30}, {"frames": 100, "camera": ways(30, 129)})
    assert check({"frames": 50}, {"frames": 50, "camera": ways(0, 50)}).shots
    assert check({"frames": 50}, {"frames": 50, "camera": ways(0, 99)}).shots, "the shot cuts its movement off"


def test_a_camera_that_would_never_move_is_refused_and_a_part_of_its_way_is_not() -> None:
    movie = {"models": TWO, "frames": 50}
    with pytest.raises(InvalidSetting, match=r"camera\.keyframes\.0\.frame: is 50, and the last frame is 49"):
        MovieSpecification.check({**movie, "camera": ways(50, 99)})
    assert MovieSpecification.check({**movie, "camera": ways(0, 99)}).frames == 50
