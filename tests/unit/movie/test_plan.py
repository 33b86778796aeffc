from __future__ import annotations

from pathlib import Path

import pytest

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.manifest import FrameRecord, Header, Manifest
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash, simulation_frames
from airflow_brayns.movie.specification import Simulation
from airflow_brayns.movie.store import listed
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


def test_a_range_and_a_sample() -> None:
    assert list(plan(frame_range=[2, 4]).frames) == [2, 3, 4]
    spec = specification(Path("/a.obj"), frames=100)
    assert list(Plan(spec, FACTS, "s", 4).frames) == [0, 33, 66, 99]
    assert plan(frames=100_001).file(7) == "000007.png"


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


@pytest.mark.parametrize(
    "bounds",
    [None, [], {}, {"min": [0, 0, 0]}, {"min": [0, 0], "max": [1, 1]}, {"min": ["0", 0, 0], "max": [1, 1, 1]}, {"min": [float("nan")] * 3, "max": [1, 1, 1]},
     {"min": [0, 0, 0], "max": [float("inf"), 1, 1]}, {"min": [0, 0, 0], "max": [10**400, 1, 1]}, {"min": [0, 0, 0], "max": [1e300, 1, 1]}],
)  # fmt: skip
def test_what_is_no_scene_is_told_as_such(bounds: object) -> None:
    """Anything but a TypeError: the service is not one that can be rendered with, and another one may be."""
    with pytest.raises(RenderingFailed, match="which is no scene"):
        SceneFacts.read(bounds, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no facts|finite|size|unpack|enough"):
        SceneFacts.from_plain({"low": (bounds or {}).get("min") if isinstance(bounds, dict) else None, "high": None})


@pytest.mark.parametrize("key", ["start_frame", "end_frame", "dt"])
@pytest.mark.parametrize("value", ["x", [1], float("inf"), float("nan"), pytest.param(10**400, id="huge")])
def test_a_simulation_that_is_none_is_told_as_such(key: str, value: object) -> None:
    with pytest.raises(RenderingFailed, match="no scene"):
        SceneFacts.read({"min": [0, 0, 0], "max": [1, 1, 1]}, {key: value})


@pytest.mark.parametrize("factor", [1e300, 1.7e308])
def test_a_movie_that_would_never_end_is_refused(factor: float) -> None:
    """Beyond the range of floats a step was 0, and the number of frames infinite: errors of arithmetic."""
    facts = SceneFacts.read({"min": [0, 0, 0], "max": [1, 1, 1]}, {"end_frame": 9, "dt": 1.0, "unit": "s"})
    with pytest.raises(InvalidSetting, match="slowing_factor"):
        simulation_frames(Simulation(slowing_factor=factor), 1000, facts)


def test_a_step_that_is_lost_beside_a_large_number_is_refused() -> None:
    """The count went on at the same number until the memory was full."""
    facts = SceneFacts.read({"min": [0, 0, 0], "max": [1, 1, 1]}, {"start_frame": 1e29, "end_frame": 1e30, "dt": 1.0})
    with pytest.raises(InvalidSetting, match="slowing_factor"):
        simulation_frames(Simulation(start=0, end=0), 25, facts)
