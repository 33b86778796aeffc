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

from airflow_brayns.emulator.faults import Faults
from airflow_brayns.emulator.render import Tracer
from airflow_brayns.emulator.service import BraynsState
from tests.truth.compare import differences
from tests.truth.recordings import NAMES, make_files, recording
from tests.truth.replay import REASONS, answer, replay

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


def receive(socket: ClientConnection) -> tuple[str, dict[str, Any], bytes]:
    message = socket.recv(timeout=60)
    if isinstance(message, str):
        return "text", json.loads(message), b""
    size = struct.unpack("<I", message[:4])[0]
    return "binary", json.loads(message[4 : 4 + size]), message[4 + size :]


# The pictures of the scenes cost 20 s, those of the passes 5; `make truth` and `make test` take them too.
@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow if one.endswith(("passes", "scenes")) else ()) for one in NAMES]
)
def test_a_recording_is_answered_as_it_was(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All requests of all four, and all kept pictures; what is not alike has a reason, and what has a reason is not alike."""
    if name.endswith("-scenes"):
        pytest.importorskip("h5py", reason="it loads a circuit")
    if not name.endswith(("-passes", "-scenes")):  # only there pictures are compared; `make truth` traces all of them
        monkeypatch.setattr(
            Tracer, "_sample", lambda self, width, height, *_: np.zeros((width * height, 4), np.float32)
        )
    outcomes = replay(name, tmp_path)
    kept = [outcome.likeness for outcome in outcomes if outcome.likeness is not None]
    assert len(kept) == (36 if name.endswith("-scenes") else 0)
    unlike = [outcome for outcome in outcomes if outcome.differences]
    unknown = [(one.exchange.index, one.exchange.name, one.differences[:3]) for one in unlike if not one.reason]
    assert not unknown
    assert {number for recording, number in REASONS if recording == name} == {one.exchange.index for one in unlike}


def test_the_replay_tells_what_is_not_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong word in one message, and the same picture where another was recorded, are found."""
    monkeypatch.setattr("airflow_brayns.emulator.engine._POSITIVE", {"perspective": ("fovy", "Fovy is too small")})
    make_files(tmp_path)
    wanted = next(one for one in recording("conversation-3.10.1-wide", tmp_path) if one.index == 172)
    reply, data, told = answer(BraynsState((3, 10, 1), [], Faults()), wanted)
    assert differences(wanted, reply, data, told) == [
        ".error.message: 'Fovy is too small', recorded 'Perspective fovy must be greater than 0'"
    ]


@pytest.mark.slow
def test_over_the_wire_as_in_process(service, tmp_path: Path) -> None:
    """The first recording through a socket: what the replay in process leaves out (frames, ids, JSON) is alike, too."""
    make_files(tmp_path)
    found = []
    with connect(f"ws://{service.endpoint}", ping_interval=None, max_size=None, proxy=None) as socket:
        for wanted in recording("conversation-3.10.1", tmp_path):
            socket.send(wanted.sent)
            told: list[dict[str, Any]] = []
            while True:
                kind, content, binary = receive(socket)
                if "result" in content or "error" in content:
                    break
                told.append(content["params"])
            first = (told[0]["operation"], told[0]["amount"]) if told else ()
            data = binary if kind == "binary" else None
            found += [(wanted.index, line) for line in differences(wanted, content, data, first)]
    assert not found


def silhouette(picture: Image.Image) -> Any:
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    return np.abs(pixels - pixels[0, 0]).sum(2) > 100


@pytest.mark.parametrize(
    ("name", "renderer", "lights"),
    [
        ("neuron-interactive-1spp", {"name": "interactive", "params": {"samples_per_pixel": 1}}, 2),
        pytest.param("neuron-production-32spp", {"name": "production", "params": {"samples_per_pixel": 32, "max_ray_bounces": 3}}, 2, marks=pytest.mark.slow),
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
        for line in (data / "recorded" / "conversation-3.10.1.jsonl").read_text().splitlines()
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
