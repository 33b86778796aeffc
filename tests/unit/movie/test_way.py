from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.manifest import NAME
from airflow_brayns.movie.supply import FixedSupply, Station
from airflow_brayns.movie.way import make_way
from tests.support.movie import Remembers, produce, records, specification
from tests.support.scripted import Service, serving

RENDERER = {"name": "production", "samples_per_pixel": 4}
STILL = {"path": "still"}


def still(frames: int = 4, **changes: Any) -> Any:
    return specification(Path("/a.obj"), camera=STILL, renderer=RENDERER, frames=frames, **changes)


async def movie(service: Service, folder: Path, spec: Any, **options: Any) -> Any:
    station = options.pop("station", {})
    supply = FixedSupply([Station(service.endpoint, "brayns1", "node1", version="3.10.1", **station)])
    return await produce(spec, [], folder, supply=supply, **options)


def pictures(folder: Path) -> list[str]:
    return [record["sha256"] for record in sorted(records(folder), key=lambda record: record["frame"])]


# ---- one pass ------------------------------------------------------------------------------------------------------
async def test_a_still_camera_gives_the_first_pass_each_time(tmp_path: Path) -> None:
    """With the view it had the service goes on accumulating: 2 of 4, 3 of 4, and the old picture from there (run)."""
    async with serving(Service()) as service:
        outcome, told = await movie(service, tmp_path / "one", still())
        await movie(service, tmp_path / "snapshot", still(), way="snapshot")
    assert outcome.header.way == "one-pass"
    assert len(set(pictures(tmp_path / "one"))) == 1
    assert pictures(tmp_path / "one") == pictures(tmp_path / "snapshot"), "snapshot's picture"
    asked = [params for method, params in service.asked if method == "render-image"]
    assert len(asked) == 4
    assert not any(params["accumulate"] for params in asked)
    assert "Frames are rendered in one pass of render-image" in told.text


async def test_a_still_camera_shows_each_frame_of_a_simulation(tmp_path: Path) -> None:
    spec = still(frames=None, fps=1000, simulation={"start": 0, "end": 5, "slowing_factor": 1})
    async with serving(Service()) as service:
        service.simulation |= {"dt": 1.0, "end_frame": 9}
        await movie(service, tmp_path / "one", spec)
        await movie(service, tmp_path / "snapshot", spec, way="snapshot")
    assert len(set(pictures(tmp_path / "one"))) == 6
    assert pictures(tmp_path / "one") == pictures(tmp_path / "snapshot")


async def test_the_projection_goes_out_last(tmp_path: Path) -> None:
    async with serving(Service()) as service:
        await movie(service, tmp_path, still(frames=2))
    methods = [method for method, _ in service.asked]
    before = [methods[at - 1] for at, method in enumerate(methods) if method == "render-image"]
    assert before == ["set-camera-perspective"] * 2


async def test_nothing_is_rendered_to_find_the_way(tmp_path: Path) -> None:
    async with serving(Service()) as service:
        await movie(service, tmp_path, still(frames=3))
    rendered = [method for method, _ in service.asked if method in ("snapshot", "render-image")]
    assert rendered == ["render-image"] * 3


async def test_a_service_without_render_image_is_asked_by_snapshot(tmp_path: Path) -> None:
    async with serving(Service(lacks=("render-image",))) as service:
        outcome, told = await movie(service, tmp_path, still(frames=2))
    assert outcome.header.way == "snapshot"
    assert "since brayns1 on node1 has no render-image" in told.text


async def test_a_pass_that_is_not_the_first_is_asked_for_anew_and_not_taken(tmp_path: Path) -> None:
    """Somebody renders between, once: the picture that counts is still the first pass."""
    disturbed = 0

    def render(params: Any) -> None:
        nonlocal disturbed
        if disturbed < 2 and (disturbed := disturbed + 1):
            service.passes = 1

    async with serving(Service(render_image=render)) as service:
        await movie(service, tmp_path / "one", still(frames=1))
        await movie(service, tmp_path / "snapshot", still(frames=1), way="snapshot")
    assert disturbed == 2
    assert pictures(tmp_path / "one") == pictures(tmp_path / "snapshot")


async def test_a_service_that_always_goes_on_is_told_of(tmp_path: Path) -> None:
    def render(params: Any) -> None:
        service.passes = 1

    async with serving(Service(render_image=render)) as service:
        with pytest.raises(RenderingFailed, match=r"pass 2 of 4, 3 times.*way='snapshot'"):
            await movie(service, tmp_path, still(frames=1))
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("name", ["one-pass", "render-image"])
def test_the_former_name_of_the_parameter_still_works(name: str) -> None:
    assert make_way(name).name == "one-pass"


def test_a_way_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="way: 'fast' is none of one-pass, snapshot"):
        make_way("fast")


# ---- what 0.2.0 left -----------------------------------------------------------------------------------------------
async def left_by_0_2_0(folder: Path, service: Service, way: str) -> None:
    """Half a movie, as a manifest of 0.2.0 tells of it."""
    await movie(service, folder, still())
    lines = [json.loads(line) for line in (folder / NAME).read_text().splitlines()]
    for line in lines:
        line["way"] = way
    (folder / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "00002.png").unlink()


async def test_frames_that_were_accumulated_are_not_mixed_with_one_pass(tmp_path: Path) -> None:
    async with serving(Service()) as service:
        await left_by_0_2_0(tmp_path, service, "render-image")
        outcome, told = await movie(service, tmp_path, still(), token="2")
        assert (outcome.rendered, outcome.header.way) == (4, "one-pass")
        assert "all are rendered anew" in told.text
        (tmp_path / "00001.png").unlink()
        outcome, _ = await movie(service, tmp_path, still(), token="3")
        assert outcome.rendered == 1, "from there it is one movie"


async def test_a_movie_of_snapshots_goes_on_by_snapshot(tmp_path: Path) -> None:
    async with serving(Service()) as service:
        await left_by_0_2_0(tmp_path, service, "snapshot")
        outcome, _ = await movie(service, tmp_path, still(), token="2")
    assert (outcome.rendered, outcome.header.way) == (1, "snapshot")


async def test_a_whole_movie_of_the_former_way_needs_nothing(tmp_path: Path) -> None:
    async with serving(Service()) as service:
        await left_by_0_2_0(tmp_path, service, "render-image")
        (tmp_path / NAME).write_text("")
        await movie(service, tmp_path, still(), token="2")
        text = (tmp_path / NAME).read_text().replace('"way":"one-pass"', '"way":"render-image"')
        (tmp_path / NAME).write_text(text)
        asked = len(service.asked)
        outcome, _ = await movie(service, tmp_path, still(), token="3")
    assert outcome.rendered == 0
    assert len(service.asked) == asked


# ---- a service that was used before --------------------------------------------------------------------------------
async def use(endpoint: str) -> None:
    """What somebody may have left."""
    async with BraynsClient(endpoint) as client:
        for method, params in (
            ("set-framebuffer-progressive", {"scale": 4}),
            ("set-camera-near-clip", {"distance": 500.0}),
            ("set-camera-region", {"image_start": [0, 1], "image_end": [0.5, 0.5]}),
            ("set-camera-perspective", {"fovy": 20, "aperture_radius": 30.0, "focus_distance": 9.0}),
            ("set-camera-orthographic", {"height": 3}),
            ("set-application-parameters", {"viewport": [64, 64]}),
            ("set-renderer-interactive", {"samples_per_pixel": 7, "ao_samples": 9}),
            ("set-simulation-parameters", {"current": 4}),
            ("add-clipping-planes", {"primitives": [{"coefficients": [0, 1, 0, 0]}]}),
            ("add-light-ambient", {"intensity": 30}),
            ("add-model", {"path": "/other.obj", "loader_name": "mesh", "loader_properties": {}}),
        ):
            await client.call(method, params)


@pytest.mark.parametrize("way", ["one-pass", "snapshot"])
async def test_a_service_that_was_used_before_gives_the_same_pictures(way: str, tmp_path: Path) -> None:
    """A quarter of the picture came, and the movie was green."""
    found = []
    for used in (False, True):
        async with serving(Service()) as service:
            service.simulation |= {"dt": 1.0, "end_frame": 9}
            if used:
                await use(service.endpoint)
            await movie(service, tmp_path / str(used), still(frames=2), way=way)
            found.append(pictures(tmp_path / str(used)))
    assert found[0] == found[1]


async def test_all_that_is_changed_changes_the_scripted_services_picture(tmp_path: Path) -> None:
    """The test above would pass with a service that draws the same whatever is set."""
    async with serving(Service()) as service, BraynsClient(service.endpoint) as client:
        await client.call("set-camera-view", {"position": [0, 0, 9], "target": [0, 0, 0], "up": [0, 1, 0]})
        request = {"accumulate": False, "send": True, "force": True, "render": True, "format": "png"}
        seen = {(await client.call("render-image", request)).binary}
        for method, params in (
            ("set-framebuffer-progressive", {"scale": 4}),
            ("set-camera-near-clip", {"distance": 500.0}),
            ("set-camera-region", {"image_start": [0, 1], "image_end": [0.5, 0.5]}),
            ("add-clipping-planes", {"primitives": []}),
            ("set-simulation-parameters", {"current": 4}),
        ):
            await client.call(method, params)
            seen.add((await client.call("render-image", request)).binary)
    assert len(seen) == 6


# ---- what hangs ----------------------------------------------------------------------------------------------------
class Renewed:
    """A supply whose services are started anew as often as it is asked; each is the same, and hangs as it did."""

    def __init__(self, services: list[Service]) -> None:
        self._queue: asyncio.Queue[Station | None] = asyncio.Queue()
        self._services = {f"node{number}": service for number, service in enumerate(services, 1)}
        self._open = len(services)
        for node, service in self._services.items():
            self._queue.put_nowait(Station(service.endpoint, f"brayns-{node}", node))
        self.restarts = 0

    async def stations(self) -> AsyncIterator[Station]:
        while (station := await self._queue.get()) is not None:
            yield station

    async def set_aside(self, station: Station, why: str, *, again: bool) -> bool:
        if again:
            self.restarts += 1
            service = self._services[station.node]
            service.renew()
            host, _, port = station.endpoint.rpartition(":")
            other = "localhost" if host == "127.0.0.1" else "127.0.0.1"  # one that is started anew has another endpoint
            self._queue.put_nowait(Station(f"{other}:{port}", f"{station.name}r", station.node))
        else:
            self._open -= 1
            if not self._open:
                self._queue.put_nowait(None)
        return again

    def outlook(self, seconds: float | None) -> None: ...


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_first_frame_that_never_comes_ends_it_after_one_restart(
    nodes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went on for ever: the words of the time-out said 'frame 0', which counted as the frame's fault."""
    monkeypatch.setattr("airflow_brayns.movie.reconnect._CONNECT_SECONDS", 0.3)
    told = Remembers()

    async def hang(params: Any) -> None:
        await asyncio.Event().wait()

    async with contextlib.AsyncExitStack() as stack:
        services = [await stack.enter_async_context(serving(Service(render_image=hang))) for _ in range(nodes)]
        supply = Renewed(services)
        async with asyncio.timeout(60):
            with pytest.raises(RenderingFailed, match="missing") as error:
                await produce(still(frames=9), [], tmp_path, supply=supply, reporter=told, frame_timeout=0.5)
    assert supply.restarts == 1
    assert "frame_timeout" in str(error.value)


async def test_frames_that_all_hang_after_some_end_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that ended another service is the frame's fault only as long as others come."""
    monkeypatch.setattr("airflow_brayns.movie.reconnect._CONNECT_SECONDS", 0.3)
    monkeypatch.setattr("airflow_brayns.movie.frames._TIMEOUT_FLOOR", 0.5)
    rendered = 0

    async def hang(params: Any) -> None:
        nonlocal rendered
        rendered += 1
        if rendered > 4:
            await asyncio.Event().wait()

    async with serving(Service(render_image=hang)) as service:
        supply = Renewed([service])
        async with asyncio.timeout(60):
            with pytest.raises(RenderingFailed, match="missing"):
                await produce(still(frames=30), [], tmp_path, supply=supply, frame_timeout=5)
    assert supply.restarts <= 2


async def test_a_load_that_never_ends_ends_it_after_one_restart(tmp_path: Path) -> None:
    async def hang(params: Any) -> None:
        await asyncio.Event().wait()

    async with serving(Service(add_model=hang)) as service:
        supply = Renewed([service])
        async with asyncio.timeout(60):
            with pytest.raises(Exception, match=r"add-model .* was not answered within 0\.5 s"):
                await produce(still(), [], tmp_path, supply=supply, load_timeout=0.5)
    assert supply.restarts == 1
