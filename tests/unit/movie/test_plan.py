from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.frame_store import listed
from airflow_brayns.movie.manifest import FrameRecord, Header, Manifest
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash, simulation_frames
from airflow_brayns.movie.specification import MovieSpecification, Simulation
from tests.support.movie import specification

FACTS = SceneFacts(Bounds((-1, -1, -1), (1, 1, 1)))


def plan(facts: SceneFacts = FACTS, **changes: object) -> Plan:
    spec = specification(Path("/a.obj"), **changes)
    return Plan(spec, facts, scene_hash(spec))


def test_a_frame_has_the_key_of_what_it_shows() -> None:
    one = plan()
    assert len({key for _, key in one.keyed_frames()}) == 9
    assert one.key(3) == plan(fps=50, output="other.mp4", codec="h265").key(3), "how it is encoded changes no picture"
    assert one.key(3) == plan(frames=18).key(6), "the same view"
    for change in (
        {"resolution": [98, 64]}, {"renderer": {"name": "production"}}, {"format": "jpg"}, {"camera": {"fovy": 40}},
        {"lights": [{"intensity": 1}]}, {"models": [{"path": "/a.obj", "color": "#fff"}]},
    ):  # fmt: skip
        assert plan(**change).key(3) != one.key(3), change
    assert scene_hash(one.specification, "12 34") != one.scene, "a model's file that has changed"


KEYS = [
    {"frame": 0, "position": [0, 0, 9], "target": [0, 0, 0]},
    {"frame": 9, "position": [5, 0, 9], "target": [0, 0, 0], "fovy": 60},
]


@pytest.mark.parametrize(
    ("changes", "identity", "keys"),
    [
        ({}, "size 1", ("dfd3ef14e754f872", "517392293a553ca7", "9ef5e55e58f7ca81")),
        (
            {"lights": None, "camera": {"path": "keyframes", "keyframes": KEYS}},
            "",
            ("065029bcc4933e64", "0803dac9dadb4f72", "741f6d2068c3d282"),
        ),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_what_was_rendered_of_a_version_1_keeps_its_keys(
    changes: dict[str, object], identity: str, keys: tuple[str, ...], version: int
) -> None:
    """As the version that had no others made them: or an upgrade renders every movie anew."""
    spec = MovieSpecification.check(
        {
            "version": version,
            "models": [
                {"path": "/a.swc", "color": "#f80", "properties": {"radius_multiplier": 2.0}},
                {"path": "/b.obj", "colors": {"method": "solid", "values": {"color": [0, 1, 0, 0.5]}}},
            ],
            "lights": [{"kind": "ambient", "intensity": 2}, {"direction": [0, 0, -1], "color": [1, 0.5, 0]}],
            "renderer": {"name": "interactive", "samples_per_pixel": 2},
            "camera": {"elevation": 10, "fovy": 30},
            "frames": 20,
            **changes,
        }
    )
    found = Plan(spec, SceneFacts(Bounds((-1, -2, -3), (3, 2, 1))), scene_hash(spec, identity))
    assert (found.scene, found.key(0), found.key(7)) == keys


@pytest.mark.parametrize(
    "words",
    [
        {"transform": {"translation": [0, 0, 1]}}, {"transform": {"scale": 2}}, {"visible": False},
        {"color_ramp": {"range": [0, 1]}}, {"material": {"kind": "matte"}}, {"material": {"kind": "matte", "opacity": 0.5}},
    ],
)  # fmt: skip
def test_another_look_of_a_model_is_another_scene(words: dict[str, object]) -> None:
    scenes = [plan(models=[{"path": "/a.obj", **extra}]).scene for extra in ({}, words, words)]
    assert scenes[0] != scenes[1] == scenes[2]


BALL = {"kind": "sphere", "center": [0, 0, 0], "radius": 1}


@pytest.mark.parametrize(
    "words",
    [
        {"lights": [{"kind": "sphere", "radius": 2}]}, {"lights": [{"kind": "sphere", "radius": 3}]}, {"lights": [{"follow_camera": True}]},
        {"primitives": [BALL]}, {"primitives": [{**BALL, "color": "#f00"}]}, {"clipping": [BALL]}, {"clipping": [{**BALL, "invert_normals": True}]},
    ],
)  # fmt: skip
def test_another_light_or_shape_is_another_scene(words: dict[str, object]) -> None:
    one, other = plan(), plan(**words)
    assert one.scene != other.scene == plan(**words).scene


@pytest.mark.parametrize(
    "camera",
    [
        {"projection": "orthographic"}, {"projection": "orthographic", "height": 9}, {"aperture_radius": 2}, {"aperture_radius": 2, "focus_distance": 3},
        {"near_clip": 1}, {"view": "top"}, {"easing": "ease-in"},
    ],
)  # fmt: skip
def test_another_camera_is_another_picture_of_the_same_scene(camera: dict[str, object]) -> None:
    one, other = plan(), plan(camera=camera)
    assert one.scene == other.scene
    assert one.key(3) != other.key(3) == plan(camera=camera).key(3)


def test_a_camera_that_fits_one_model_needs_to_know_how_large_it_is() -> None:
    boxes = (FACTS.bounds, Bounds((0, 0, 0), (9, 9, 9)))
    facts = SceneFacts(FACTS.bounds, models=boxes)
    two = [{"path": "/a.obj"}, {"path": "/b.obj"}]
    assert SceneFacts.from_plain(json.loads(json.dumps(facts.plain()))) == facts
    assert plan(facts, models=two, camera={"fit": 1}).pose(0).target == (4.5, 4.5, 4.5)
    with pytest.raises(RenderingFailed, match="how large model 1 is"):
        plan(models=two, camera={"fit": 1}).pose(0)
    with pytest.raises(InvalidSetting, match=r"camera\.fit: there is no model 1; the last one is 0"):
        plan(camera={"fit": 1})


def test_lights_that_go_with_the_camera_are_set_anew_for_each_frame() -> None:
    found = plan(lights=[{"kind": "ambient"}, {"follow_camera": True}])
    first, later = found.changes(0), found.changes(3)
    assert [method for method, _ in first] == ["clear-lights", "add-light-ambient", "add-light-directional"]
    assert first[2][1]["direction"] == pytest.approx([0, 0, -1])
    assert later[2][1]["direction"] != first[2][1]["direction"]
    assert found.changes(0) == first, "whatever frame was before"
    assert plan().changes(3) == []


def test_lights_of_a_shot_are_set_anew_in_each_frame_also_behind_it() -> None:
    """Else the shots behind it, and what else its service renders, were lit by its own."""
    shots = [{"frames": 2}, {"frames": 2, "lights": [{"kind": "ambient", "intensity": 7}]}, {"frames": 2}]
    found = plan(shots=shots, frames=None, lights=[{"kind": "ambient", "intensity": 1}])
    intensities = [
        [params["intensity"] for method, params in found.changes(frame) if method == "add-light-ambient"]
        for frame in range(6)
    ]
    assert intensities == [[1], [1], [7], [7], [1], [1]]


def by_data(*rows: list[object], columns: tuple[str, ...] = ("lights.0.intensity",), **changes: object) -> Plan:
    table = {"columns": columns, "rows": rows}
    return plan(lights=[{"kind": "ambient"}], per_frame=table, frames=len(rows), camera={"path": "still"}, **changes)


def test_a_line_that_changes_renders_its_frame_anew_and_no_other() -> None:
    one, other = by_data([1], [2], [3]), by_data([1], [5], [3])
    assert one.scene == other.scene
    assert [one.key(frame) == other.key(frame) for frame in range(3)] == [True, False, True]
    assert len({one.key(frame) for frame in range(3)}) == 3
    turned = by_data([45], [30], columns=("camera.fovy",))
    assert [turned.pose(frame).fovy for frame in range(2)] == [45, 30]
    assert turned.key(0) != turned.key(1)
    assert turned.key(0) == by_data([45], [20], columns=("camera.fovy",)).key(0)


def test_what_differs_by_data_is_set_before_each_frame_whatever_was_before() -> None:
    columns = (
        "models.0.visible",
        "models.0.transform.scale.0",
        "models.0.color",
        "clipping.0.radius",
        "lights.0.intensity",
    )
    found = by_data([True, 1, "#f00", 1, 1], [False, 2, "#0f0", 2, 3], columns=columns, clipping=[BALL])
    calls = found.changes(1, [[4, 5]])
    model = [
        ("color-model", {"id": 4, "method": "solid", "values": {"color": [0, 1, 0, 1]}}),
        ("update-model", {"model_id": 4, "model": {"transform": {"translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [2, 1, 1]}, "is_visible": False}}),
    ]  # fmt: skip
    assert calls[:2] == model
    assert [method for method, _ in calls[2:]] == ["color-model", "update-model", "clear-clipping-geometries", "add-clipping-spheres", "clear-lights", "add-light-ambient"]  # fmt: skip
    assert calls[-1][1]["intensity"] == 3
    assert calls[-3][1]["primitives"] == [{"center": [0, 0, 0], "radius": 2}]
    assert found.changes(1, [[4, 5]]) == calls != found.changes(0, [[4, 5]])
    assert found.changes(0, [[4, 5]])[1][1]["model"]["is_visible"] is True, "shown again"


def test_a_table_must_be_as_long_as_the_simulation() -> None:
    facts = SceneFacts(FACTS.bounds, 0, 9, 1e-3)
    words = {"frames": None, "simulation": {"keyframes": [{"frame": 0, "step": 0}, {"frame": 2, "step": 9}]}}
    spec = specification(Path("/a.obj"), per_frame={"columns": ["camera.fovy"], "rows": [[45], [30]]}, **words)
    with pytest.raises(InvalidSetting, match="lines for 2 frames, but the movie has 3"):
        Plan(spec, facts, "s").pose(0)


def test_every_so_many_th_frame_has_its_own_number_and_key() -> None:
    whole, quick = plan(frames=25), plan(frames=25, step=10)
    assert list(quick.frames) == [0, 10, 20]
    assert quick.file(10) == whole.file(10)
    assert [quick.key(frame) for frame in quick.frames] == [whole.key(frame) for frame in (0, 10, 20)]
    assert list(plan(frames=25, step=10, frame_range=[3, 24]).frames) == [3, 13, 23]


def test_a_range_and_a_sample() -> None:
    assert list(plan(frame_range=[2, 4]).frames) == [2, 3, 4]
    spec = specification(Path("/a.obj"), frames=100)
    assert list(Plan(spec, FACTS, "s", 4).frames) == [0, 33, 66, 99]
    assert plan(frames=100_001).file(7) == "000007.png"


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the official client does not import on Python 3.13")
@pytest.mark.parametrize("fps", [10, 24, 25.0, 60])
@pytest.mark.parametrize(("start", "end", "slow"), [(0, -1, 1.0), (3, 50, 20.0), (-30, -1, 100.0), (0, 10**6, 7.5)])
def test_simulation_frames_are_counted_as_the_official_client_does(
    fps: float, start: int, end: int, slow: float
) -> None:
    from brayns import MovieFrames, TimeUnit
    from brayns import Simulation as Official

    facts = SceneFacts(FACTS.bounds, 0, 100, 0.1e-3)
    spec = specification(
        Path("/a.obj"),
        frames=None,
        fps=fps,
        simulation=Simulation(start=start, end=end, slowing_factor=slow).model_dump(),
    )
    official = MovieFrames(fps, slow, start, end).get_indices(Official(0, 100, 0, 0.1, TimeUnit.MILLISECOND))
    assert Plan(spec, facts, "s").shown == official


def test_a_scene_without_a_simulation_or_without_anything_says_so() -> None:
    with pytest.raises(InvalidSetting, match="has no simulation"):
        assert plan(frames=None, simulation={}).total
    huge = 3.4028235e38
    with pytest.raises(InvalidSetting, match="the scene is empty"):
        SceneFacts.read({"min": [huge] * 3, "max": [-huge] * 3}, {})


def record(frame: int, key: str = "k") -> FrameRecord:
    return FrameRecord(frame, key, f"{frame:05d}.png", "sha", 10, 20)


def test_a_manifest_survives_a_kill_in_the_middle_of_a_line() -> None:
    header = Header("s", FACTS.plain(), "snapshot", "3.10.1", {}, {})
    lines = [header.line(), record(1).line(), record(2).line()[:30] + "\n", record(1, "later").line(), "null\n", "[]\n"]
    found = Manifest.read(lines)
    assert found.header == Header(
        "s", {**FACTS.plain(), "low": [-1, -1, -1], "high": [1, 1, 1]}, "snapshot", "3.10.1", {}, {}
    )
    assert {frame: known.key for frame, known in found.frames.items()} == {1: "later"}
    assert found.damaged == 3


def test_frames_of_another_way_or_version_do_not_count() -> None:
    first = Header("s", FACTS.plain(), "snapshot", "3.10.1", {}, {})
    for second in (
        Header("s", FACTS.plain(), "render-image", "3.10.1", {}, {}),
        Header("s", FACTS.plain(), "snapshot", "3.9.0", {}, {}),
    ):
        assert not Manifest.read([first.line(), record(1).line(), second.line()]).frames
    assert Manifest.read([first.line(), record(1).line(), first.line()]).frames


def test_numbers_are_listed_as_people_write_them() -> None:
    assert listed([9, 3, 4, 5, 1]) == "1, 3-5, 9"
    assert listed(range(0, 100, 2)).endswith("38 …")


@pytest.mark.parametrize("factor", [1e300, 1.7e308])
def test_a_movie_that_would_never_end_is_refused(factor: float) -> None:
    """Beyond the range of floats a step was 0, and the number of frames infinite: errors of arithmetic."""
    facts = SceneFacts.read({"min": [0, 0, 0], "max": [1, 1, 1]}, {"end_frame": 9, "dt": 1.0, "unit": "s"})
    with pytest.raises(InvalidSetting, match=r"^simulation\.slowing_factor"):
        simulation_frames(Simulation(slowing_factor=factor), 1000, facts)


def test_a_step_that_is_lost_beside_a_large_number_is_refused() -> None:
    """The count went on at the same number until the memory was full."""
    facts = SceneFacts.read({"min": [0, 0, 0], "max": [1, 1, 1]}, {"start_frame": 1e29, "end_frame": 1e30, "dt": 1.0})
    with pytest.raises(InvalidSetting, match=r"^simulation\.slowing_factor"):
        simulation_frames(Simulation(start=0, end=0), 25, facts)
