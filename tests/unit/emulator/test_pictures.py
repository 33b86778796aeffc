"""What each call does in the picture: where something is seen, and in which colour."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from airflow_brayns.emulator.faults import Faults
from airflow_brayns.emulator.service import BraynsState
from tests.truth.pictures import likeness
from tests.unit.emulator.test_protocol import ask, refusal, state

__all__ = ["state"]

SIZE = 96
VIEW = {"position": [0, 0, 10], "target": [0, 0, 0], "up": [0, 1, 0]}
FLAT = {"name": "orthographic", "params": {"height": 8}}  # 12 pixels for 1
LENS = {"name": "perspective", "params": {"fovy": 45}}
CLEAR = [0, 0, 0, 0]


def renderer(name: str = "interactive", samples: int = 4, background: Any = CLEAR, **params: Any) -> dict[str, Any]:
    more = {"enable_shadows": False, **params} if name == "interactive" else params
    return {"name": name, "params": {"samples_per_pixel": samples, "background_color": background, **more}}


def shot(state: BraynsState, camera: dict[str, Any] = FLAT, **params: Any) -> Any:
    """A snapshot's pixels, RGBA."""
    settings = {"format": "png", "size": [SIZE, SIZE]}
    wanted = {"image_settings": settings, "camera": camera, "camera_view": VIEW, "renderer": renderer(), **params}
    return np.asarray(Image.open(io.BytesIO(ask(state, "snapshot", wanted).binary))).astype(int)


def extent(pixels: Any) -> tuple[float, ...]:
    """Left, right, bottom and top end of what is more than half seen, in the scene's units of the flat camera."""
    seen = pixels[..., 3] > 127
    if not seen.any():
        return ()
    columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
    ends = columns[0], columns[-1] + 1, SIZE - rows[-1] - 1, SIZE - rows[0]
    return tuple(round((float(end) - SIZE / 2) / 12 * 2) / 2 for end in ends)


def middle(pixels: Any) -> tuple[int, ...]:
    return tuple(pixels[SIZE // 2 - 2 : SIZE // 2 + 2, SIZE // 2 - 2 : SIZE // 2 + 2].mean((0, 1)).round().astype(int))


def box(state: BraynsState, low: Any = (-1, -1, -1), high: Any = (1, 1, 1), color: Any = (1, 0, 0, 1)) -> int:
    shape = {"geometry": {"min": list(low), "max": list(high)}, "color": list(color)}
    model_id: int = ask(state, "add-boxes", [shape])["model_id"]
    return model_id


@pytest.fixture
def lit(state: BraynsState) -> BraynsState:
    ask(state, "add-light-ambient", {"intensity": 1})
    return state


# ---- where things are --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("transform", "ends"),
    [
        ({}, (-1, 1, -2, 2)),
        ({"translation": [1, -1, 0]}, (0, 2, -3, 1)),
        ({"scale": [2, 0.5, 1]}, (-2, 2, -1, 1)),
        ({"rotation": [0, 0, 0.7071068, 0.7071068]}, (-2, 2, -1, 1)),
        ({"rotation": [0, 0, 0.7071068, 0.7071068], "translation": [1, 0, 0], "scale": [0.5, 0.5, 1]}, (0, 2, -0.5, 0.5)),
    ],
)  # fmt: skip
def test_a_model_stands_where_its_transform_says(
    lit: BraynsState, transform: dict[str, Any], ends: tuple[float, ...]
) -> None:
    model = box(lit, (-1, -2, -1), (1, 2, 1))
    ask(lit, "update-model", {"model_id": model, "model": {"transform": transform}})
    assert extent(shot(lit)) == ends


def test_hidden_and_removed_models_are_not_seen_and_instances_are(lit: BraynsState) -> None:
    model = box(lit)
    ask(lit, "instantiate-model", {"model_id": model, "transforms": [{"translation": [2, 0, 0]}]})
    assert extent(shot(lit)) == (-1, 3, -1, 1)
    ask(lit, "update-model", {"model_id": model, "model": {"is_visible": False}})
    assert extent(shot(lit)) == (1, 3, -1, 1)
    ask(lit, "update-model", {"model_id": model, "model": {"is_visible": True}})
    ask(lit, "remove-model", {"ids": [model + 1]})
    assert extent(shot(lit)) == (-1, 1, -1, 1)
    ask(lit, "clear-renderables")
    assert extent(shot(lit)) == ()


@pytest.mark.parametrize(
    ("kind", "shape", "left", "right"),
    [
        ("planes", {"coefficients": [1, 0, 0, 0]}, (0, 2, -2, 2), (-2, 0, -2, 2)),
        ("boxes", {"min": [-9, -9, -9], "max": [0.5, 9, 9]}, (0.5, 2, -2, 2), (-2, 0.5, -2, 2)),
        ("spheres", {"center": [-4, 0, 2], "radius": 4}, (-1.5, 2, -2, 2), (-2, 0, -2, 2)),
        ("capsules", {"p0": [-2, -9, 2], "r0": 1, "p1": [-2, 9, 2], "r1": 1}, (-2, 2, -2, 2), (-2, -1, -2, 2)),
    ],
)
def test_a_clipper_cuts_through_a_face(
    lit: BraynsState, kind: str, shape: dict[str, Any], left: tuple[float, ...], right: tuple[float, ...]
) -> None:
    """Not whole triangles go: the edge is where the shape ends. Behind what is gone, the back of the box is seen."""
    box(lit, (-2, -2, -2), (2, 2, 2))
    ask(lit, f"add-clipping-{kind}", {"primitives": [shape]})
    assert extent(shot(lit)) == (left if kind in ("planes", "boxes") else (-2, 2, -2, 2))
    ask(lit, "clear-clipping-geometries")
    ask(lit, f"add-clipping-{kind}", {"primitives": [shape], "invert_normals": True})
    assert extent(shot(lit)) == right


def test_through_a_clipped_front_the_inside_is_seen(lit: BraynsState) -> None:
    box(lit, (-2, -2, -2), (2, 2, 2))
    box(lit, (-1, -1, -1), (1, 1, 1), (0, 1, 0, 1))
    assert middle(shot(lit))[1] == 0
    ask(lit, "add-clipping-boxes", {"primitives": [{"min": [-9, -9, 1.5], "max": [9, 9, 9]}]})
    assert middle(shot(lit))[0] == 0 and extent(shot(lit)) == (-2, 2, -2, 2)


# ---- cameras -----------------------------------------------------------------------------------------------------------
def test_only_perspective_makes_what_is_nearer_larger(lit: BraynsState) -> None:
    model = box(lit)
    far, far_flat = (int((shot(lit, camera)[..., 3] > 127).sum()) for camera in (LENS, FLAT))
    ask(lit, "update-model", {"model_id": model, "model": {"transform": {"translation": [0, 0, 4]}}})
    near, near_flat = (int((shot(lit, camera)[..., 3] > 127).sum()) for camera in (LENS, FLAT))
    assert near > 2 * far and near_flat == far_flat


def test_a_lens_blurs_what_is_not_in_focus(lit: BraynsState) -> None:
    box(lit)
    soft = []
    for focus in (9, 3):
        lens = {"name": "perspective", "params": {"fovy": 45, "aperture_radius": 0.5, "focus_distance": focus}}
        alpha = shot(lit, lens, renderer=renderer(samples=16))[..., 3]
        soft.append(int(((alpha > 10) & (alpha < 245)).sum()))
    sharp = shot(lit, LENS, renderer=renderer(samples=16))[..., 3]
    assert soft[0] < 2 * int(((sharp > 10) & (sharp < 245)).sum()) and soft[1] > 4 * soft[0]


def test_what_is_nearer_than_the_near_clip_is_not_seen(lit: BraynsState) -> None:
    box(lit)
    box(lit, (-3, -3, -3), (3, 3, -2), (0, 1, 0, 1))
    assert middle(shot(lit))[0] > 0
    assert middle(shot(lit, camera_near_clip=11.5))[:2] == middle(shot(lit, camera_near_clip=11.9))[:2]
    assert middle(shot(lit, camera_near_clip=11.5))[0] == 0
    assert extent(shot(lit, camera_near_clip=14)) == ()


def test_a_region_shows_its_part_enlarged(lit: BraynsState) -> None:
    """x to the right and y upwards: the upper right quarter holds only what is there."""
    box(lit, (1, 1, 0), (3, 3, 0.5))
    quarter = shot(lit, image_start=[0.5, 1], image_end=[1, 0.5])
    assert extent(quarter) == (-2, 2, -2, 2)
    assert extent(shot(lit, image_start=[0, 0.5], image_end=[0.5, 0])) == ()


def test_tiles_joined_are_the_whole_picture(lit: BraynsState) -> None:
    """By a region and a frame of its own for each of four, as a huge picture is made: no seam, and no other samples."""
    box(lit, (-3, -2, 0), (2, 3, 1))
    ask(lit, "set-camera-view", VIEW)
    ask(lit, "set-renderer-interactive", renderer(samples=4)["params"])

    def frame(size: int, start: list[float], end: list[float]) -> Any:
        ask(lit, "set-application-parameters", {"viewport": [size, size]})
        ask(lit, "set-camera-region", {"image_start": start, "image_end": end})
        ask(lit, "set-camera-perspective", {"fovy": 45})
        data = ask(lit, "render-image", {"format": "png", "force": True}).binary
        return np.asarray(Image.open(io.BytesIO(data))).astype(int)

    whole = frame(128, [0, 1], [1, 0])
    rows = [[frame(64, [x, y], [x + 0.5, y - 0.5]) for x in (0, 0.5)] for y in (1, 0.5)]
    apart = np.abs(np.vstack([np.hstack(row) for row in rows]) - whole).max(2)
    assert whole[..., 3].min() == 0 and whole[..., 3].max() == 255
    assert (apart > 2).mean() < 0.001  # a ray that meets an edge may meet it from the other side


def test_a_huge_picture_is_traced_by_bands_of_rows(lit: BraynsState, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would be at once, whatever the number of rows is divided by."""
    box(lit, (-3, -2, 0), (2, 3, 1))
    whole = shot(lit, LENS, image_start=[0.1, 0.9], image_end=[0.8, 0.3])
    monkeypatch.setattr("airflow_brayns.emulator.render._BAND", SIZE * 7)
    parts = shot(lit, LENS, image_start=[0.1, 0.9], image_end=[0.8, 0.3])
    assert 0 < (whole[..., 3] > 127).mean() < 1
    assert (np.abs(parts - whole).max(2) > 2).mean() < 0.001


def test_a_service_before_3_9_knows_no_region() -> None:
    for version, known in (((3, 8, 0), False), ((3, 9, 0), True), ((2, 0, 0), False)):
        service = BraynsState(version, [], Faults())
        assert ("set-camera-region" in ask(service, "registry")) is known
        if not known:
            told = (-32601, "Method 'set-camera-region' not found", [])
            assert refusal(service, "set-camera-region", {"image_start": [0, 1], "image_end": [1, 0]}) == told


def test_a_cylindric_camera_sees_half_a_turn(lit: BraynsState) -> None:
    """What is straight to the right is at the right edge, and what is behind is not seen."""
    box(lit, (9, -1, 9), (11, 1, 11))
    box(lit, (-1, -1, 19), (1, 1, 21), (0, 1, 0, 1))
    pixels = shot(lit, {"name": "cylindric", "params": {"fovy": 45}})
    assert pixels[SIZE // 2, -2, 0] > 100 and pixels[..., 1].max() == 0
    assert np.flatnonzero((pixels[..., 3] > 127).any(0))[0] > SIZE * 0.9


# ---- surfaces ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def veiled(lit: BraynsState) -> tuple[BraynsState, int]:
    """A red sheet in front of a blue one."""
    front = box(lit, (-1, -1, 1), (1, 1, 1.001))
    box(lit, (-3, -3, -2), (3, 3, -1), (0, 0, 1, 1))
    return lit, front


@pytest.mark.parametrize("material", ["matte", "phong", "plastic"])
def test_opacity_lets_see_what_is_behind(veiled: tuple[BraynsState, int], material: str) -> None:
    state, front = veiled
    blues = []
    for opacity in (1, 0.5, 0.1):
        ask(state, f"set-material-{material}", {"model_id": front, "material": {"opacity": opacity}})
        blues.append(middle(shot(state, renderer=renderer("production")))[2])
    assert blues[0] + 40 < blues[1] < blues[2] - 40


def test_the_interactive_renderer_knows_only_the_opacity_of_phong(veiled: tuple[BraynsState, int]) -> None:
    state, front = veiled
    plain = middle(shot(state))
    for name, values, same in (
        ("matte", {"opacity": 0.3}, True),
        ("ghost", {}, True),
        ("emissive", {"color": [0, 1, 0]}, True),
        ("phong", {"opacity": 0.3}, False),
    ):
        ask(state, f"set-material-{name}", {"model_id": front, "material": values})
        assert (middle(shot(state)) == plain) is same, name


def test_the_fourth_part_of_a_colour_is_opacity(veiled: tuple[BraynsState, int]) -> None:
    state, front = veiled
    ask(state, "color-model", {"id": front, "method": "solid", "values": {"color": [1, 1, 0, 0.25]}})
    red, green, blue, alpha = middle(shot(state))
    assert red == green > 0 and blue > 100 and alpha == 255


def test_emission_is_its_own_light(state: BraynsState) -> None:
    """Of no light that falls on it, and of its own colour, not the model's."""
    ask(state, "add-light-directional", {"direction": [0, 0, 1], "intensity": 1})  # from behind
    model = box(state)
    assert middle(shot(state, renderer=renderer("production")))[:3] == (0, 0, 0)
    greens = []
    for intensity in (0.2, 0.8):
        ask(
            state,
            "set-material-emissive",
            {"model_id": model, "material": {"color": [0, 1, 0], "intensity": intensity}},
        )
        red, green, blue, _ = middle(shot(state, renderer=renderer("production")))
        assert (red, blue) == (0, 0)
        greens.append(green)
    assert 80 < greens[0] < greens[1] - 60


def test_each_material_has_its_own_brightness(lit: BraynsState) -> None:
    model, shown = box(lit, color=(1, 0.6, 0.2, 1)), {}
    for name in ("phong", "metal", "carpaint", "glass", "plastic", "emissive"):
        ask(lit, f"set-material-{name}", {"model_id": model, "material": {}})
        shown[name] = middle(shot(lit, renderer=renderer("production")))[:3]
    assert len({*shown.values()}) == 6
    assert shown["metal"][0] < shown["phong"][0] and shown["glass"][0] < shown["metal"][0]
    assert shown["carpaint"][2] > shown["phong"][2]  # whiter


def test_the_background_is_as_transparent_as_it_says_and_a_jpeg_never_is(lit: BraynsState) -> None:
    box(lit)
    for alpha in (0, 0.5, 1):
        pixels = shot(lit, renderer=renderer(background=[0, 0, 0, alpha]))
        assert pixels[0, 0, 3] == round(alpha * 255) and middle(pixels)[3] == 255
    settings = {"format": "jpg", "size": [SIZE, SIZE]}
    data = ask(lit, "snapshot", {"image_settings": settings, "camera_view": VIEW}).binary
    assert Image.open(io.BytesIO(data)).mode == "RGB"


# ---- lights ------------------------------------------------------------------------------------------------------------
def test_a_quad_shines_to_one_side_and_is_seen_from_there(state: BraynsState) -> None:
    box(state)
    for turned, lit_up in ((False, True), (True, False)):
        edges = ([1, 0, 0], [0, 1, 0]) if turned else ([0, 1, 0], [1, 0, 0])  # towards -z: away from the camera
        light = {"position": [-0.5, -0.5, 5], "edge1": edges[0], "edge2": edges[1], "intensity": 10}
        ask(state, "add-light-quad", light)
        pixels = shot(state, renderer=renderer("production"))
        seen_lamp = middle(pixels)[:3] == (255, 255, 255)
        assert seen_lamp is turned
        assert bool(pixels[SIZE // 2, SIZE // 2 + 9, 0] > 0) is lit_up
        ask(state, "clear-lights")


def test_a_sphere_is_seen_by_the_production_renderer_only(state: BraynsState) -> None:
    ask(state, "add-light-sphere", {"position": [0, 0, 0], "radius": 2, "intensity": 500})
    assert extent(shot(state, renderer=renderer("production"))) == (-2, 2, -2, 2)
    assert extent(shot(state)) == ()


def test_what_stands_behind_a_lamp_takes_none_of_its_light(state: BraynsState) -> None:
    box(state)
    box(state, (-9, -9, 20), (9, 9, 21))  # behind the lamp, and behind the camera
    ask(state, "add-light-sphere", {"position": [3, 0, 6], "radius": 0.1, "intensity": 50})
    assert middle(shot(state, renderer=renderer(enable_shadows=True)))[0] > 0


# ---- what is refused ---------------------------------------------------------------------------------------------------
def test_a_volume_is_refused_where_a_picture_would_have_to_show_it(lit: BraynsState, tmp_path: Path) -> None:
    properties = {"dimensions": [2, 2, 2], "spacing": [1, 1, 1], "data_type": "unsinged_char"}
    (tmp_path / "v.raw").write_bytes(bytes(range(8)))
    model = {"path": str(tmp_path / "v.raw"), "loader_name": "raw-volume", "loader_properties": properties}
    ask(lit, "add-model", model)
    told = (-32603, "The emulator draws no volumes: hide or remove model 1", [])
    assert refusal(lit, "snapshot", {"image_settings": {"size": [SIZE, SIZE]}}) == told
    assert refusal(lit, "render-image", {"force": True}) == told
    ask(lit, "update-model", {"model_id": 1, "model": {"is_visible": False}})
    shot(lit)


def test_lights_and_clippers_are_not_moved(lit: BraynsState) -> None:
    ask(lit, "add-clipping-spheres", {"primitives": [{"center": [0, 0, 0], "radius": 1}]})
    told = (-32603, "The emulator moves no lights and clippers: remove it, and add another", [])
    for model in (0, 1):
        change = {"is_visible": False, "transform": {"translation": [1, 0, 0]}}
        assert refusal(lit, "update-model", {"model_id": model, "model": change}) == told
        assert ask(lit, "get-model", {"id": model})["is_visible"]
        assert refusal(lit, "instantiate-model", {"model_id": model, "transforms": [{"scale": [2, 2, 2]}]}) == told
        ask(lit, "update-model", {"model_id": model, "model": {"is_visible": False, "transform": {}}})


def test_the_colours_that_were_said_last_are_seen(lit: BraynsState, data: Path) -> None:
    """By cell, then by section, then by cell again: none stays above the one after it."""
    pytest.importorskip("h5py", reason="it loads a circuit")
    settings = {"node_population": "All", "node_ids": [0], "neuron_morphology_parameters": {"load_soma": True}}
    path = str(data / "recorded" / "sonata" / "circuit_config.json")
    properties = {"node_population_settings": [settings]}
    ask(lit, "add-model", {"path": path, "loader_name": "SONATA loader", "loader_properties": properties})
    low, high = (ask(lit, "get-model", {"id": 1})["bounds"][end] for end in ("min", "max"))
    x, y = ((low[axis] + high[axis]) / 2 for axis in (0, 1))
    view = {"position": [x, y, 900], "target": [x, y, 0], "up": [0, 1, 0]}
    flat = {"name": "orthographic", "params": {"height": (high[1] - low[1]) * 2}}
    for method, values, channel in (
        ("id", {"0": [1, 0, 0, 1]}, 0),
        ("morphology section", {"soma": [0, 1, 0, 1]}, 1),
        ("id", {"0": [0, 0, 1, 1]}, 2),
    ):
        ask(lit, "color-model", {"id": 1, "method": method, "values": values})
        seen = middle(shot(lit, flat, camera_view=view))
        assert seen[channel] > 200 and sum(seen[:3]) == seen[channel], method


def test_colours_and_ramps_that_would_change_nothing_are_refused(lit: BraynsState, data: Path) -> None:
    ask(lit, "add-model", {"path": str(data / "cube.obj"), "loader_name": "mesh", "loader_properties": {}})
    by = {"id": 1, "method": "triangle", "values": {"0": [1, 0, 0, 1]}}
    assert refusal(lit, "color-model", by) == (-32603, "The emulator does not colour by 'triangle'", [])
    lit.engine.scene.get(1).content.color_ramp = {"range": [0, 1], "colors": [[0, 0, 0, 1]]}
    for ramp, words in (
        ({"range": [3, 3]}, "Color ramp range must define a non zero positive interval"),
        ({"colors": []}, "A color ramp must have at least one color"),
    ):
        assert refusal(lit, "set-color-ramp", {"id": 1, "color_ramp": ramp}) == (-32603, words, [])


# ---- the measure itself ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda pixels: np.roll(pixels, 12, axis=1), "box"),
        (lambda pixels: pixels[:, ::-1], "shape"),
        (lambda pixels: np.where(np.arange(4) == 0, np.maximum(pixels, 60) - 40, pixels).astype(np.uint8), "colour"),
        (lambda pixels: np.where(np.arange(4) == 3, 250, pixels).astype(np.uint8), "alpha"),
    ],
)
def test_a_picture_that_is_unlike_the_recorded_one_is_told(data: Path, change: Any, word: str) -> None:
    recorded = data / "recorded" / "scenes" / "primitives.png"
    pixels = np.asarray(Image.open(recorded))
    for changed, expected in ((pixels, []), (change(pixels), [word])):
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(changed)).save(buffer, "PNG")
        told = likeness(buffer.getvalue(), recorded).differences()
        assert [line.split(": ")[1].split()[0] for line in told][: len(expected) or None] == expected
