"""Rules of the protocol beyond the single requests that were recorded, each from the recorded schemas or the released source."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from airflow_brayns.emulator.faults import Faults
from airflow_brayns.emulator.requests import parsed
from airflow_brayns.emulator.rpc import Call, Reply, RpcError
from airflow_brayns.emulator.service import BraynsState
from tests.unit.emulator.test_recorded import ALL_PLUGINS

SHEAR = {"rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}
VIEW = {"position": [0, 0, 9], "target": [0, 0, 0], "up": [0, 1, 0]}


@pytest.fixture
def state() -> BraynsState:
    return BraynsState((3, 10, 1), list(ALL_PLUGINS), Faults(snapshot_seconds=0))


def ask(state: BraynsState, method: str, params: Any = None, binary: bytes = b"") -> Any:
    reply = state.handle(method, Call(params, binary, lambda what, part: None, lambda: False))
    assert isinstance(reply, Reply)
    return reply if reply.binary is not None else reply.result


def refusal(state: BraynsState, method: str, params: Any = None, binary: bytes = b"") -> tuple[int, str, list[str]]:
    with pytest.raises(RpcError) as error:
        ask(state, method, params, binary)
    return error.value.code, error.value.message, error.value.data or []


def box(state: BraynsState) -> int:
    shape = {"geometry": {"min": [0, 0, 0], "max": [1, 2, 3]}, "color": [1, 0, 0, 1]}
    model_id: int = ask(state, "add-boxes", [shape])["model_id"]
    return model_id


def test_every_method_of_the_registry_is_there(state: BraynsState) -> None:
    registry = ask(state, "registry")
    assert len(registry) == 90
    assert set(registry) == set(state._methods)
    for method in registry:
        assert ask(state, "schema", {"endpoint": method})["title"] == method


def test_methods_of_a_plugin_come_with_it() -> None:
    bare = BraynsState((3, 10, 1), [], Faults())
    assert len(ask(bare, "registry")) == 84
    assert refusal(bare, "set-circuit-thickness", {}) == (-32601, "Method 'set-circuit-thickness' not found", [])
    assert (
        refusal(bare, "snapshot", {"camera": {"name": "cylindric", "params": {}}})[1] == "Unknown type name cylindric"
    )


@pytest.mark.parametrize(
    ("method", "params", "code", "words"),
    [
        ("add-light-quad", {"edge1": [1, 0]}, -32602, "edge1: item count below minimum 2 < 3"),
        ("add-light-sphere", {"radius": "3"}, -32602, "radius: invalid type, expected number got string"),
        ("add-capsules", [{"geometry": {}, "color": [1, 1, 1, 1]}], -32602, "[0].geometry: missing required property 'p0'"),
        ("add-clipping-boxes", {"primitives": [{}]}, -32602, "primitives[0]: missing required property 'max'"),
        ("add-clipping-planes", {"primitives": []}, -32603, "OSPData: shared buffer is NULL"),
        ("set-material-metal", {"model_id": 0, "material": {"roughness": 0}}, -32602, "material.roughness: value below minimum 0 < 0.01"),
        ("set-material-principled", {"model_id": 0, "material": {"ior": 0.5}}, -32602, "material.ior: value below minimum 0.5 < 1"),
        ("set-camera-orthographic", {"height": 0}, -32603, "Orthographic height must be greater than 0"),
        ("set-camera-cylindric", {"fovy": -1}, -32603, "Fovy must be greater than 0"),
        ("set-camera-view", {**VIEW, "up": [0, 0, 0]}, -32603, "View up cannot be zero length"),
        ("set-camera-view", {**VIEW, "up": [0, 0, -2]}, -32603, "View direction and up cannot be aligned"),
        ("set-renderer-production", {"ao_samples": 1}, -32602, "unknown property 'ao_samples'"),
        ("set-application-parameters", {"plugins": []}, -32602, "read only property 'plugins'"),
        ("update-model", {"model_id": 0, "model": {"bounds": {}}}, -32602, "model: read only property 'bounds'"),
        ("get-scene", {}, -32602, "This method takes no params"),
        ("schema", {"endpoint": "nope"}, -32601, "Method 'nope' not found"),
        ("add-model", {"path": "", "loader_name": "mesh", "loader_properties": {}}, -32602, "Missing model path"),
        ("add-model", {"path": "/x.stp", "loader_name": "", "loader_properties": {}}, -32602, "Unsupported file format: 'stp'"),
        ("instantiate-model", {"model_id": 0, "transforms": []}, 0, "transforms list cannot be empty"),
        ("set-circuit-thickness", {"model_id": 7, "radius_multiplier": 2}, -32602, "No model found with ID 7"),
        ("visualize-atlas-usecase", {"model_id": 0, "use_case": "x", "params": {}}, -32602, "The requested model does not have an Atlas component"),
        ("snapshot", {"camera": {"name": "orthographic", "params": {}}}, -32602, "missing required property 'height'"),
        ("snapshot", {"camera": {"name": "perspective", "params": {"fovy": 0}}}, -32603, "Perspective fovy must be greater than 0"),
        ("snapshot", {"camera_view": {**VIEW, "target": [0, 0, 9]}}, -32603, "View position cannot be equal to view target"),
        ("snapshot", {"camera_near_clip": -1}, -32603, "Near clipping distance cannot be < 0"),
        ("snapshot", {"image_settings": {"quality": -1}}, -32602, "image_settings.quality: value below minimum -1 < 0"),
        ("export-gbuffers", {}, -32602, "missing required property 'channels'"),
        ("render-image", {"format": "gif", "force": True}, -32603, "Format not supported: 'gif'"),
        ("upload-model", {"type": "", "loader_name": "mesh", "loader_properties": {}}, -32602, "No model type"),
        ("cancel", {"id": 1.5}, -32602, "id: invalid oneOf, no schemas match input"),
    ],
)  # fmt: skip
def test_what_is_refused(state: BraynsState, method: str, params: Any, code: int, words: str) -> None:
    box(state)
    told = refusal(state, method, params)
    assert told[0] == code
    assert words in (told[1], *told[2])


@pytest.mark.parametrize("kind", ["ambient", "directional", "quad", "sphere"])
def test_lights_have_neither_surface_nor_colours(state: BraynsState, kind: str) -> None:
    light = ask(state, f"add-light-{kind}", {})["model_id"]
    assert refusal(state, "set-material-matte", {"model_id": light, "material": {}}) == (
        0,
        "The model does not have material",
        [],
    )
    assert ask(state, "get-color-methods", {"id": light}) == []


def test_null_stands_for_a_default_and_only_where_there_is_one(state: BraynsState) -> None:
    ask(state, "add-light-ambient", {"intensity": None, "color": None})
    assert refusal(state, "set-camera-near-clip", {"distance": None})[2] == [
        "distance: invalid type, expected number got null"
    ]


def test_part_of_a_transform_leaves_the_rest_as_it_was_made(state: BraynsState) -> None:
    model = box(state)
    ask(state, "update-model", {"model_id": model, "model": {"transform": {"scale": [2, 2, 2]}}})
    moved = ask(state, "update-model", {"model_id": model, "model": {"transform": {"translation": [5, 0, 0]}}})
    assert moved["transform"] == {**SHEAR, "translation": [5, 0, 0]}
    assert moved["bounds"] == {"min": [5, 0, 0], "max": [6, 2, 3]}
    assert ask(state, "get-scene")["models"] == [moved], "later calls work"


def test_instances_share_what_they_look_like_and_not_where_they_are(state: BraynsState) -> None:
    model = box(state)
    (copy,) = ask(state, "instantiate-model", {"model_id": model, "transforms": [{"translation": [9, 0, 0]}]})
    ask(state, "set-material-glass", {"model_id": copy["model_id"], "material": {}})
    assert ask(state, "get-material-type", {"id": model}) == "glass"
    ask(state, "update-model", {"model_id": model, "model": {"is_visible": False}})
    assert ask(state, "get-model", {"id": copy["model_id"]})["is_visible"]
    ask(state, "remove-model", {"ids": [model]})
    assert ask(state, "get-material-type", {"id": copy["model_id"]}) == "glass"


def test_removing_is_all_or_nothing_and_ids_come_back_last_first(state: BraynsState) -> None:
    for _ in range(3):
        box(state)
    assert refusal(state, "remove-model", {"ids": [0, 99]})[:2] == (-32603, "No instance with id 99 was found")
    assert len(ask(state, "get-scene")["models"]) == 3
    ask(state, "remove-model", {"ids": [0, 2]})
    assert [box(state), box(state), box(state)] == [2, 0, 3]
    ask(state, "clear-models")
    assert box(state) == 0


def test_a_projection_keeps_what_it_had_only_while_it_is_in_use(state: BraynsState) -> None:
    ask(state, "set-camera-perspective", {"fovy": 30, "focus_distance": 7})
    ask(state, "set-camera-perspective", {"fovy": 31})
    assert ask(state, "get-camera-perspective") == {"fovy": 31, "aperture_radius": 0, "focus_distance": 7}
    ask(state, "set-camera-orthographic", {"height": 3})
    ask(state, "set-camera-perspective", {})
    assert ask(state, "get-camera-perspective")["fovy"] == 45


def test_settings_without_values_are_those_of_the_service(state: BraynsState) -> None:
    ask(state, "set-application-parameters", {"viewport": [80, 70]})
    picture = ask(state, "snapshot", {}).binary
    assert struct.unpack(">2I", picture[16:24]) == (80, 70)
    assert ask(state, "snapshot", {"camera": {}, "renderer": {"name": ""}}).binary == picture


def test_one_layer_is_one_part_of_an_exr_and_several_are_several(state: BraynsState) -> None:
    box(state)
    one = ask(state, "export-gbuffers", {"channels": ["depth"], "resolution": [64, 70]}).binary
    several = ask(state, "export-gbuffers", {"channels": ["depth", "normal"], "resolution": [64, 70]}).binary
    assert one[:8].hex() == "762f310102000000"
    assert several[:8].hex() == "762f310102100000"
    row = 8 + 64 * 4  # its number, its length, a float a pixel
    rows, table = len(one) - 70 * row, 70 * 8
    offsets = struct.unpack("<70Q", one[rows - table : rows])
    assert offsets == tuple(range(rows, len(one), row))
    assert [struct.unpack("<2i", one[at : at + 8]) for at in offsets] == [(number, 64 * 4) for number in range(70)]


def test_a_region_is_a_part_of_the_whole_picture(state: BraynsState) -> None:
    """Four quarters, each a service's frame of its own, are the whole, but for where in a pixel a sample is taken."""
    box(state)
    ask(state, "add-light-ambient", {})
    ask(state, "set-camera-view", VIEW)
    whole = {"image_start": [0, 1], "image_end": [1, 0]}
    pictures = []
    for region in (
        whole,
        {"image_start": [0.5, 1], "image_end": [1, 0.5]},
        {"image_start": [0, 0.5], "image_end": [0.5, 0]},
    ):
        ask(state, "set-camera-region", region)
        pictures.append(ask(state, "render-image", {"format": "png", "force": True}).binary)
    assert len({*pictures}) == 3
    ask(state, "set-camera-region", whole)
    assert ask(state, "render-image", {"format": "png", "force": True}).binary == pictures[0]


@pytest.mark.parametrize(
    ("kind", "shape", "gone"),
    [
        ("planes", {"coefficients": [0, 1, 0, 5]}, True),
        ("planes", {"coefficients": [0, 1, 0, -5]}, False),
        ("spheres", {"center": [0, 0, 0], "radius": 9}, True),
        ("boxes", {"min": [5, 5, 5], "max": [9, 9, 9]}, False),
        ("capsules", {"p0": [-9, 0, 0], "r0": 6, "p1": [9, 0, 0], "r1": 6}, True),
    ],
)
@pytest.mark.parametrize("inverted", [False, True])
def test_clippers_take_away_what_is_inside(
    state: BraynsState, kind: str, shape: dict[str, Any], gone: bool, inverted: bool
) -> None:
    box(state)
    ask(state, "set-camera-view", VIEW)
    assert ask(state, "inspect", {"position": [0.51, 0.49]})["hit"]
    ask(state, f"add-clipping-{kind}", {"primitives": [shape], "invert_normals": inverted})
    assert ask(state, "inspect", {"position": [0.51, 0.49]})["hit"] is (gone is inverted)
    ask(state, "clear-clipping-geometries")
    assert ask(state, "inspect", {"position": [0.51, 0.49]})["hit"]


def test_a_report_colours_its_cells_and_its_last_colours_stay(state: BraynsState, data: Path) -> None:
    """The camera stands still while the simulation runs: each frame is another picture."""
    pytest.importorskip("h5py", reason="it loads a circuit")
    asked = {"node_population": "All", "node_percentage": 1, "report_type": "compartment", "report_name": "soma"}
    settings = {"node_population_settings": [{**asked, "neuron_morphology_parameters": {"load_soma": True}}]}
    path = str(data / "recorded" / "sonata" / "simulation_config.json")
    ask(state, "add-model", {"path": path, "loader_name": "SONATA loader", "loader_properties": settings})
    ask(state, "add-light-ambient", {})
    ask(state, "set-camera-view", {"position": [100, 0, 900], "target": [100, 0, 0], "up": [0, 1, 0]})
    ask(state, "set-application-parameters", {"viewport": [160, 90]})

    def picture(frame: int) -> bytes:
        ask(state, "set-simulation-parameters", {"current": frame})
        data: bytes = ask(state, "render-image", {"format": "png", "force": True}).binary
        assert ask(state, "snapshot", {}).binary == data
        return data

    frames = [picture(frame) for frame in (0, 5, 9)]
    assert len({*frames}) == 3
    ask(state, "enable-simulation", {"model_id": 0, "enabled": False})
    assert picture(0) == frames[2]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ("", "unexpected end of text"),
        ('{"jsonrpc": nul}', "expected 'l' instead of byte '}'"),
        ('{"jsonrpc": NaN}', "unexpected byte 'N' in value"),
        ('{"id": 1.5, "jsonrpc": "2.0", "method": "x"}', "id: invalid oneOf, no schemas match input"),
        ('{"id": 1, "method": "x"}', "missing required property 'jsonrpc'"),
        ('{"id": 1, "jsonrpc": "2.0", "method": "x", "more": 1}', "unknown property 'more'"),
        (b"", "Invalid JSON: 'Invalid binary packet, expected at least 4 bytes for the JSON size.'"),
    ],
)
def test_what_is_no_request(sent: str | bytes, words: str) -> None:
    with pytest.raises(RpcError) as error:
        parsed(sent)
    assert words in " ".join((error.value.message, *(error.value.data or [])))


def send(socket: ClientConnection, number: int, method: str, params: Any = None) -> None:
    socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))


def next_answer(socket: ClientConnection) -> dict[str, Any]:
    while True:
        message = socket.recv(timeout=20)
        if isinstance(message, bytes):
            return dict(json.loads(message[4 : 4 + struct.unpack("<I", message[:4])[0]]))
        content = json.loads(message)
        if "params" not in content:
            return dict(content)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("snapshot", {"image_settings": {"format": "png"}}),
        ("snapshot", {"image_settings": {"size": [64, 63]}}),
        ("export-gbuffers", {"channels": ["color"], "resolution": [10, 100]}),
        ("render-image", {}),
        ("inspect", {"position": [0.5, 0.5]}),
        ("snapshot", {}),
    ],
)
def test_a_frame_under_64_by_64_is_the_end(emulator, method: str, params: dict[str, Any]) -> None:
    """Settings without a size have 0 x 0; those without settings the viewport, which may be set to anything."""
    service = emulator()
    with connect(f"ws://{service.endpoint}", ping_interval=None, proxy=None) as socket:
        send(socket, 1, "set-application-parameters", {"viewport": [63, 64]})
        assert next_answer(socket)["result"] is None
        send(socket, 2, method, params)
        assert service.wait(10) == -6
    assert any("Frame size must be greather than or equal to 64x64" in line for line in service.lines)


def test_a_cancelled_render_goes_on_until_it_is_done(emulator) -> None:
    service = emulator(frame_seconds=2)
    with connect(f"ws://{service.endpoint}", ping_interval=None, proxy=None) as socket:
        began = time.monotonic()
        send(socket, 1, "snapshot", {"image_settings": {"size": [64, 64]}})
        json.loads(socket.recv(timeout=20))  # its first progress: it runs
        send(socket, 2, "cancel", {"id": 1})
        send(socket, 3, "cancel", {"id": 1})
        assert next_answer(socket) == {"id": 2, "jsonrpc": "2.0", "result": None}
        assert next_answer(socket)["error"]["message"] == "Request 1 already cancelled"
        assert time.monotonic() - began < 1.5
        assert next_answer(socket)["error"] == {"code": 20, "message": "Task has been cancelled"}
        assert time.monotonic() - began >= 2


def test_only_what_tells_progress_can_be_cancelled(emulator) -> None:
    service = emulator(frame_seconds=1)
    with connect(f"ws://{service.endpoint}", ping_interval=None, proxy=None) as socket:
        send(socket, 1, "render-image", {"force": True})
        send(socket, 2, "cancel", {"id": 1})
        send(socket, 3, "cancel", {"id": None})
        assert next_answer(socket)["error"] == {"code": -32602, "message": "Method 'render-image' is not cancellable."}
        assert next_answer(socket)["error"] == {"code": -32602, "message": "Empty task ID"}
        assert next_answer(socket)["result"] == {"accumulation": 1, "max_accumulation": 1}
