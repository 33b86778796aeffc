"""The emulator held against what a running braynsService 3.10.1 answered, request by request, and by eye."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import ClientConnection, connect

ALL_PLUGINS = (
    "braynsCircuitExplorer",
    "braynsAtlasExplorer",
    "braynsCylindricCamera",
    "braynsDTI",
    "braynsMoleculeExplorer",
)


@pytest.fixture
def service(emulator):
    return emulator(*(word for plugin in ALL_PLUGINS for word in ("--plugin", plugin)), snapshot_seconds=0.1)


def shape(value: Any) -> Any:
    """Keys and types; int and float are one, since whole floats are printed as ints."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def receive(socket: ClientConnection) -> tuple[str, dict[str, Any], bytes]:
    message = socket.recv(timeout=60)
    if isinstance(message, str):
        return "text", json.loads(message), b""
    size = struct.unpack("<I", message[:4])[0]
    return "binary", json.loads(message[4 : 4 + size]), message[4 + size :]


def test_the_recorded_conversation(service, data: Path, tmp_path: Path) -> None:
    """The same frames, keys, types and error codes for each of the 55 requests."""
    conversation = [
        json.loads(line.replace("/data/f.png", str(tmp_path / "f.png")).replace("/data/", f"{data}/"))
        for line in (data / "conversation-3.10.1.jsonl").read_text().splitlines()
    ]
    assert len(conversation) == 55
    differences = []
    with connect(f"ws://{service.endpoint}", ping_interval=None, max_size=None, proxy=None) as socket:
        for entry in conversation:
            request = entry["request"]
            text = request if isinstance(request, str) else json.dumps(request)
            if entry["request_frame"] == "binary":
                body = text.encode()
                socket.send(struct.pack("<I", len(body)) + body + (data / "cube.obj").read_bytes())
            else:
                socket.send(text)
            expected = [reply for reply in entry["replies"]]
            found = []
            while True:
                kind, content, binary = receive(socket)
                found.append((kind, content, binary))
                if "result" in content or "error" in content:
                    break
            differences += compare(text[:100], expected, found)
    assert not differences, "\n".join(differences)


def compare(request: str, expected: list[dict[str, Any]], found: list[tuple[str, Any, bytes]]) -> list[str]:
    def steps(contents: list[Any]) -> list[Any]:
        # how many progress messages a picture gets depends on how long it takes; their form does not
        seen = [shape(one) for one in contents if "params" in one]
        return seen[:1]

    wanted, got = expected[-1], found[-1]
    result = []
    if wanted["frame"] != got[0]:
        result.append(f"{request}: frame {got[0]}, recorded {wanted['frame']}")
    if bool(wanted.get("bytes_after_json")) != bool(got[2]) or not got[2].hex().startswith(wanted.get("magic", "")):
        result.append(f"{request}: {len(got[2])} bytes {got[2][:4].hex()}, recorded {wanted.get('bytes_after_json')}")
    if steps([reply["json"] for reply in expected]) != steps([content for _, content, _ in found]):
        result.append(f"{request}: progress {found[:-1]}")
    if "error" in wanted["json"]:
        error = got[1].get("error", {})
        if error.get("code") != wanted["json"]["error"]["code"]:
            result.append(f"{request}: {got[1]}, recorded {wanted['json']['error']}")
        if shape(error) != shape(wanted["json"]["error"]):
            result.append(f"{request}: the error is {error}")
    elif '"schema"' in request or '"get-loaders"' in request:
        if not set(flat(shape(wanted["json"]))) <= set(flat(shape(got[1]))):
            result.append(f"{request}: {shape(got[1])}")
    elif shape(got[1]) != shape(wanted["json"]):
        result.append(f"{request}: {shape(got[1])}, recorded {shape(wanted['json'])}")
    return result


def flat(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in flat(item, f"{path}.{key}")]
    if isinstance(value, list):
        return [line for item in value for line in flat(item, f"{path}[]")]
    return [f"{path}={value}"]


def test_exact_texts_of_errors(service, data: Path) -> None:
    lines = [json.loads(line) for line in (data / "conversation-3.10.1.jsonl").read_text().splitlines()]
    wrong = [
        line for line in lines if line.get("note") in ("wrong type", "out of range", "no such loader", "unknown method")
    ]
    assert len(wrong) >= 4
    with connect(f"ws://{service.endpoint}", ping_interval=None, proxy=None) as socket:
        for line in wrong:
            socket.send(json.dumps(line["request"]).replace("/data/", f"{data}/"))
            assert receive(socket)[1]["error"] == line["replies"][-1]["json"]["error"]


def silhouette(picture: Image.Image) -> Any:
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    return np.abs(pixels - pixels[0, 0]).sum(2) > 100


@pytest.mark.parametrize(
    ("name", "renderer", "lights"),
    [
        ("neuron-interactive-1spp", {"name": "interactive", "params": {"samples_per_pixel": 1}}, 2),
        ("neuron-production-32spp", {"name": "production", "params": {"samples_per_pixel": 32, "max_ray_bounces": 3}}, 2),
    ],
)  # fmt: skip
def test_the_neuron_beside_the_real_one(
    service,
    data: Path,
    tmp_path: Path,
    name: str,
    renderer: dict[str, Any],
    lights: int,
    record_property,
) -> None:
    """The same shape at the same place: the silhouettes overlap by at least 0.9."""
    lines = [
        json.loads(line.replace("/data/", f"{data}/"))
        for line in (data / "conversation-3.10.1.jsonl").read_text().splitlines()
    ]
    requests = [line["request"] for line in lines if isinstance(line["request"], dict)]
    view = next(one["params"] for one in requests if one["method"] == "set-camera-view" and "target" in one["params"])
    background = {"background_color": [0.05, 0.08, 0.2, 1.0]}
    with connect(f"ws://{service.endpoint}", ping_interval=None, max_size=None, proxy=None) as socket:

        def ask(method: str, params: Any) -> bytes:
            socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
            while True:
                _, content, binary = receive(socket)
                assert "error" not in content, content
                if "result" in content:
                    return binary

        for wanted in ("Neuron Morphology loader", "add-light-directional", "add-light-ambient"):
            for one in requests:
                chosen = one["method"] == wanted or one.get("params", {}).get("loader_name") == wanted
                if chosen and one.get("params", {}).get("intensity", 1) > 0:
                    ask(one["method"], one["params"])
                    break
        color = next(one for one in requests if one["method"] == "color-model" and one["params"]["method"] == "solid")
        ask("color-model", {**color["params"], "id": 0})
        renderer["params"].update(background)
        picture = ask(
            "snapshot",
            {
                "image_settings": {"format": "png", "size": [640, 360]},
                "camera": {"name": "perspective", "params": {"fovy": 45.0}},
                "camera_view": view,
                "renderer": renderer,
            },
        )
    (tmp_path / "ours.png").write_bytes(picture)
    ours, real = silhouette(Image.open(tmp_path / "ours.png")), silhouette(Image.open(data / f"{name}.png"))
    overlap = (ours & real).sum() / (ours | real).sum()
    print(f"{name}: overlap of the silhouettes {overlap:.3f}")
    record_property("overlap", float(overlap))
    assert overlap >= 0.9
