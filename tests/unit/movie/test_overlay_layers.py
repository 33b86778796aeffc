"""What each overlay shows in each frame, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.overlay_layers import Layer, check_overlays, check_scale, layers_of
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.specification import MovieSpecification

MODEL: dict[str, Any] = {"path": "/data/a.obj"}
WITH_RAMP = {**MODEL, "color_ramp": {"range": [-80, -10], "colors": ["#008", "#f00"]}}
FACTS = SceneFacts(Bounds((-100, -100, -100), (100, 100, 100)), 0, 100, 0.0005)
WAY = [
    {"frame": 0, "position": [0, 0, 900], "target": [0, 0, 0]},
    {"frame": 9, "position": [0, 0, 90], "target": [0, 0, 0]},
]


def spec(overlays: Any = None, **changes: Any) -> MovieSpecification:
    plain = {"models": [MODEL], "resolution": [1280, 720], "overlays": overlays, **changes}
    return MovieSpecification.check(
        plain if {"frames", "simulation", "shots"} & changes.keys() else {**plain, "frames": 10}
    )


def layers(overlays: Any = None, **changes: Any) -> dict[str, Layer]:
    plan = Plan(spec(overlays, **changes), FACTS, "scene")
    return {one.field.removeprefix("overlays."): one for one in layers_of(plan)}


# ---- what is shown ---------------------------------------------------------------------------------------------
def test_a_turntables_scale_bar_stays_as_it_is() -> None:
    """Its distance differs in the last digits from frame to frame."""
    found = layers({"scale_bar": True}, frames=360)["scale_bar"]
    assert not found.moves
    assert len(list(found.encoded())) == 1


def test_an_orthographic_cameras_bar_is_exact() -> None:
    camera = {"projection": "orthographic", "height": 360}
    assert set(layers({"scale_bar": True}, camera=camera)["scale_bar"].shown) == {(200, "100 µm")}  # 0.5 a pixel


def test_on_a_flight_the_bar_tells_the_scale_of_each_frame() -> None:
    shown = layers({"scale_bar": {"unit": "nm"}}, camera={"path": "keyframes", "keyframes": WAY})["scale_bar"].shown
    assert shown[0] == (193, "200 nm")  # 900 * 2 * tan(22.5 degrees) / 720 = 1.0355 a pixel
    assert shown[9] == (193, "20 nm")
    assert all(100 <= pixels <= 256 for pixels, _ in shown)


def test_a_bar_of_a_length_that_was_asked_for_is_that_long_or_refused() -> None:
    camera = {"projection": "orthographic", "height": 360}
    assert layers({"scale_bar": {"length": 37}}, camera=camera)["scale_bar"].shown[0] == (74, "37 µm")
    for length in (1000, 0.1):
        plan = Plan(spec({"scale_bar": {"length": length}}, camera=camera), FACTS, "scene")
        with pytest.raises(
            InvalidSetting, match=r"overlays.scale_bar.length: take one that fits.*\n.*pixels in frame 0"
        ):
            check_scale(plan)
    check_scale(Plan(spec(None), FACTS, "scene"))


@pytest.mark.parametrize(
    ("dt", "steps", "last"),
    [
        (0.0005, 100, "t = 50.0 ms"), (0.001, 100, "t = 100 ms"), (0.025e-3, 100, "t = 2.500 ms"), (0.01, 100, "t = 1.00 s"),
        (1e-7, 100, "t = 10.0 µs"), (1 / 3000, 100, "t = 33.333 ms"),
    ],
)  # fmt: skip
def test_the_time_is_the_simulations_in_the_unit_that_suits(dt: float, steps: int, last: str) -> None:
    facts = SceneFacts(FACTS.bounds, 0, steps, dt)
    keyframes = [{"frame": 0, "step": 0}, {"frame": 9, "step": -1}]
    plan = Plan(spec({"time": True}, simulation={"keyframes": keyframes}), facts, "scene")
    [found] = layers_of(plan)
    assert found.shown[-1] == last
    assert float(found.shown[0].split(" ")[2]) == 0
    assert len({one.split(" ")[3] for one in found.shown}) == 1


def test_the_frames_number_is_its_own_also_of_a_part() -> None:
    assert layers({"frame_number": True}, frame_range=(4, 6))["frame_number"].shown == ["frame 4", "frame 5", "frame 6"]
    assert layers({"frame_number": True}, frames=20, step=7)["frame_number"].shown == ["frame 0", "frame 7", "frame 14"]


def test_each_shot_may_have_a_title_of_its_own() -> None:
    shots = [{"frames": 2}, {"frames": 2, "title": "Close"}, {"frames": 1, "title": ""}]
    found = layers({"title": "All"}, shots=shots)["title"]
    assert found.shown == ["All", "All", "Close", "Close", None]
    assert len(list(found.encoded())) == 5
    assert found.picture(None).getchannel("A").getbbox() is None
    assert layers(None, shots=shots)["title"].shown == [None, None, "Close", "Close", None]


def test_a_legend_goes_with_its_model() -> None:
    shots = [{"frames": 2}, {"frames": 1, "hide": [1]}]
    assert layers({"legend": True}, models=[MODEL, WITH_RAMP], shots=shots)["legend"].shown == [1, 1, None]


# ---- where it is -----------------------------------------------------------------------------------------------
def everything(tmp_path: Path) -> dict[str, Any]:
    Image.new("RGB", (300, 100)).save(tmp_path / "logo.png")
    return {
        "title": "A title", "logo": str(tmp_path / "logo.png"), "scale_bar": True, "legend": {"label": "mV"}, "time": True,
        "frame_number": True,
    }  # fmt: skip


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (1080, 1920), (7680, 4320)])
def test_everything_has_a_place_of_its_own_in_the_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    found = layers(everything(tmp_path), models=[WITH_RAMP], simulation={}, resolution=size)
    assert list(found) == ["title", "logo", "legend", "time", "frame_number", "scale_bar"]
    assert found["title"].box[1] < size[1] / 5 < found["time"].box[1]
    assert found["frame_number"].box[1] < found["time"].box[1]
    for layer in found.values():
        for what in dict.fromkeys(layer.shown):
            assert layer.picture(what).size == layer.box[2:]


def test_a_wide_logo_leaves_three_quarters_of_the_pictures_width(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 100)).save(tmp_path / "wide.png")
    assert layers({"logo": str(tmp_path / "wide.png")})["logo"].box[2] == 1280 // 4


@pytest.mark.parametrize(
    ("overlays", "changes", "why"),
    [
        ({"title": "A title that is long " * 8}, {}, r"overlays.title: shorten it, .*\n.*longer than the picture: \d+ of its 168"),
        ({"title": "語"}, {}, r"overlays.title: write it without.*\n.*Source Sans, has no '語'"),
        ({"scale_bar": {"unit": "語"}}, {}, "overlays.scale_bar.unit: "),
        ({"legend": {"label": "語"}}, {"models": [WITH_RAMP]}, "overlays.legend.label: "),
        ({"logo": "/nowhere/logo.png"}, {}, r"overlays.logo: give the path .*\n.*there is no /nowhere/logo.png"),
        (None, {"shots": [{"frames": 1}, {"frames": 1, "title": "long " * 90}]}, "shots.1.title: shorten it"),
        ({"legend": True}, {"models": [WITH_RAMP], "resolution": [64, 64], "frames": 3}, "overlays.legend: .*"),
        ({"frame_number": True, "size": 0.2}, {"resolution": [128, 720]}, "overlays.frame_number: take a smaller `size`"),
        ({"title": "as wide as it can be" * 2, "logo": "LOGO", "size": 0.05}, {}, r"overlays.title: .*\n.*run into overlays.logo"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_told_before_a_node_is_asked_for(
    tmp_path: Path, overlays: Any, changes: dict[str, Any], why: str
) -> None:
    Image.new("RGB", (300, 100)).save(tmp_path / "logo.png")
    if overlays and overlays.get("logo") == "LOGO":
        overlays = {**overlays, "logo": str(tmp_path / "logo.png")}
    if "64" in str(changes.get("resolution")):
        overlays = {**overlays, "scale_bar": True, "size": 0.2}
    with pytest.raises(InvalidSetting, match=why):
        check_overlays(spec(overlays, **changes))


def test_what_can_be_drawn_is_taken(tmp_path: Path) -> None:
    check_overlays(spec(everything(tmp_path), models=[WITH_RAMP], simulation={}))
    check_overlays(spec(None))
    check_overlays(spec({}))


# ---- the frames stay clean -------------------------------------------------------------------------------------
def test_no_frames_key_depends_on_what_is_drawn_over_it(tmp_path: Path) -> None:
    shots = [{"frames": 2}, {"frames": 2}]
    titled = [{"frames": 2, "title": "One"}, {"frames": 2, "title": "Two"}]
    for clean, drawn in (
        (spec(None, models=[WITH_RAMP], simulation={}), spec(everything(tmp_path), models=[WITH_RAMP], simulation={})),
        (spec(None, shots=shots), spec({"scale_bar": True}, shots=titled)),
    ):
        keys = [list(Plan(one, FACTS, scene_hash(one)).keyed_frames()) for one in (clean, drawn)]
        assert keys[0] == keys[1]
