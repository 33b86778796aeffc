"""Passes of `render-image` beside those recorded of braynsService 3.10.1, and what they take."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from airflow_brayns.emulator.faults import Faults
from airflow_brayns.emulator.pictures import Studio, Wanted

RECORDED = "conversation-3.10.1-passes.jsonl"
Ask = Callable[[dict[str, Any]], tuple[dict[str, Any], bytes, float]]


@pytest.fixture
def ask_of(emulator) -> Any:
    """Connects to an emulator; what asks it and gives the reply, the bytes behind it and the seconds."""
    opened = ExitStack()

    def connected(**faults: Any) -> Ask:
        service = emulator("--plugin", "braynsCircuitExplorer", **faults)
        client = opened.enter_context(
            connect(f"ws://{service.endpoint}", ping_interval=None, max_size=None, proxy=None)
        )

        def ask(request: dict[str, Any]) -> tuple[dict[str, Any], bytes, float]:
            client.send(json.dumps(request))
            began = time.monotonic()
            while True:
                message = client.recv(timeout=60)
                size = 0 if isinstance(message, str) else int.from_bytes(message[:4], "little")
                reply = json.loads(message if isinstance(message, str) else message[4 : 4 + size])
                if "id" in reply:
                    return reply, b"" if isinstance(message, str) else message[4 + size :], time.monotonic() - began

        return ask

    with opened:
        yield connected


def conversation(data: Path, size: tuple[int, int]) -> list[dict[str, Any]]:
    text = (data / RECORDED).read_text().replace("/data/", f"{data}/").replace("[640, 360]", json.dumps(size))
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    "how", [{}, {"recorded_times": 1}, {"frame_seconds": 0.001}], ids=["traced", "recorded", "fixed"]
)
def test_the_recorded_passes(ask_of: Any, data: Path, how: dict[str, Any]) -> None:
    """The same accumulation in each reply, a picture where there was one, and the same pictures are the same to the bit."""
    ask = ask_of(snapshot_seconds=0, **how)
    pictures: dict[int, bytes] = {}
    for entry in conversation(data, (128, 72)):
        reply, picture, _ = ask(entry["request"])
        number = entry["request"]["id"]
        assert "error" not in reply, (entry["request"], reply)
        assert bool(picture) == bool(entry["bytes"]), entry
        if entry["request"]["method"] == "render-image":
            assert reply["result"] == entry["reply"]["result"], entry
        if picture:
            same = entry.get("same_picture_as")
            if same is not None:
                assert picture == pictures[same], entry
            elif not how:  # pictures that are made beforehand do not show the scene
                assert picture not in pictures.values(), entry
            pictures[number] = picture
    assert len(pictures) == sum(bool(entry["bytes"]) for entry in conversation(data, (1, 1)))


@pytest.fixture
def still(ask_of: Any, data: Path) -> Callable[..., Any]:
    """A scene with production and 16 samples; asks for passes of it."""

    def made(**faults: Any) -> Any:
        ask = ask_of(**faults)
        for entry in conversation(data, (640, 360))[3:10]:
            request = entry["request"]
            if request["method"] == "set-renderer-production":
                request["params"]["samples_per_pixel"] = 16
            ask(request)
        return ask

    return made


def image(**params: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "render-image",
        "params": {"send": True, "force": True, "format": "png", **params},
    }


PROJECTION = {"jsonrpc": "2.0", "id": 1, "method": "set-camera-perspective", "params": {"fovy": 45.0}}
SNAPSHOT = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "snapshot",
    "params": {"image_settings": {"format": "png", "size": [640, 360]}},
}


@pytest.mark.slow
def test_what_passes_take_is_what_was_recorded(still: Any) -> None:
    """One pass 0.35 s, all sixteen 4.5 s, the old picture at once, `snapshot` a whole second."""
    ask = still(recorded_times=1)
    ask(PROJECTION)
    assert 0.3 <= ask(image(accumulate=False))[2] < 0.7
    ask(PROJECTION)
    assert 4.3 <= ask(image(accumulate=True))[2] < 6
    reply, _, old = ask(image(accumulate=False))
    assert reply["result"] == {"accumulation": 16, "max_accumulation": 16} and old < 0.25
    assert 1 <= ask(SNAPSHOT)[2] < 1.6
    ask(PROJECTION)
    assert ask(image(accumulate=False))[1] == ask(SNAPSHOT)[1]


def test_a_snapshot_beside_it_changes_nothing_of_the_frame(still: Any) -> None:
    ask = still(frame_seconds=0.001, snapshot_seconds=0)
    assert ask(image(accumulate=False))[0]["result"]["accumulation"] == 1
    ask(SNAPSHOT)
    assert ask(image(accumulate=False))[0]["result"]["accumulation"] == 2


def test_another_size_that_is_taken_back_goes_on(still: Any) -> None:
    ask = still(frame_seconds=0.001, snapshot_seconds=0)
    ask(image(accumulate=False))
    for size in ([320, 180], [640, 360]):
        ask({"jsonrpc": "2.0", "id": 1, "method": "set-application-parameters", "params": {"viewport": size}})
    assert ask(image(accumulate=False))[0]["result"]["accumulation"] == 2
    ask({"jsonrpc": "2.0", "id": 1, "method": "set-camera-near-clip", "params": {"distance": 0.5}})
    assert ask(image(accumulate=False))[0]["result"]["accumulation"] == 1


def test_a_quality_of_jpeg_is_no_change(still: Any) -> None:
    ask = still(frame_seconds=0.001, snapshot_seconds=0)
    ask(image(accumulate=False))
    reply, picture, _ = ask(
        {**image(), "params": {"send": True, "force": True, "render": False, "format": "jpg", "jpeg_quality": 10}}
    )
    assert reply["result"]["accumulation"] == 1 and picture.startswith(b"\xff\xd8")


@pytest.mark.parametrize("size", [(0, 0), (63, 64), (640, 63)])
def test_a_picture_under_64_dies_whoever_asks_for_it(size: tuple[int, int]) -> None:
    wanted = Wanted(
        size, {"position": [0, 0, 1]}, ("perspective", {}), ("interactive", {"samples_per_pixel": 1}), 0, "png", 100
    )
    studio = Studio(Dying())
    for take in (studio.take, lambda *words: studio.frame.render([], wanted, True)):
        with pytest.raises(Died, match="Frame size must be greather than or equal to 64x64"):
            take([], wanted, lambda amount: None)


class Died(Exception):  # noqa: N818
    pass


class Dying(Faults):
    def abort(self, what: str) -> None:
        raise Died(what)


def test_dying_of_a_size_takes_the_connection_along(emulator) -> None:
    service = emulator(snapshot_seconds=0)
    with connect(f"ws://{service.endpoint}", ping_interval=None, proxy=None) as client:
        request = {"image_settings": {"format": "png", "size": [640, 63]}}
        client.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "snapshot", "params": request}))
        with pytest.raises(ConnectionClosed):
            list(iter(lambda: client.recv(timeout=20), ""))
    assert service.wait(10) == -6
    assert "Frame size must be greather than or equal to 64x64" in "\n".join(service.lines)
