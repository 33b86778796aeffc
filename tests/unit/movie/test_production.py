from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import InvalidSetting, NothingSeen, RenderingFailed, StorageFailed, Superseded
from airflow_brayns.movie.interfaces import FixedServices, RenderService
from airflow_brayns.movie.production import Production
from airflow_brayns.movie.scene_facts import SceneFacts
from tests.support.movie import (
    KeptFrames,
    Remembers,
    check_whole,
    produce,
    records,
    render_services,
    sharing,
    specification,
)
from tests.support.scripted import RefusedError, Service, serving

FAST = {"snapshot_seconds": 0.05}
QUICK = {"snapshot_seconds": 0, "frame_seconds": 0.02}


class Restarting:
    """A source whose services can be started anew."""

    def __init__(self, emulator: Any, first: list[Any], **faults: Any) -> None:
        self._emulator, self._faults = emulator, faults
        self._queue: asyncio.Queue[RenderService] = asyncio.Queue()
        for render_service in render_services(first):
            self._queue.put_nowait(render_service)
        self.replaced: list[str] = []

    async def services(self) -> AsyncIterator[RenderService]:
        while True:
            yield await self._queue.get()

    async def set_aside(self, render_service: RenderService, why: str, *, again: bool, hung: bool = False) -> bool:
        if not again:
            return False
        self.replaced.append(why)
        one = await asyncio.to_thread(lambda: self._emulator(**self._faults))
        self._queue.put_nowait(
            RenderService(one.endpoint, f"{render_service.name}r", render_service.node, version="3.10.1")
        )
        return True

    def outlook(self, seconds: float | None) -> None: ...


@pytest.mark.slow
async def test_frames_are_spread_over_services_a_file_each(emulator, data: Path, tmp_path: Path) -> None:
    spec = specification(data / "cube.obj")
    outcome, told = await produce(spec, [emulator(**FAST), emulator(**FAST)], tmp_path)
    check_whole(tmp_path, 9)
    assert outcome.rendered == 9
    assert (told.steps[-1].done, told.steps[-1].total) == (9, 9)
    for record in records(tmp_path):
        with Image.open(tmp_path / record["file"]) as picture:
            assert picture.size == (96, 64)
            assert len(picture.convert("RGB").getcolors(10000) or []) > 2
        assert record["node"] in ("node1", "node2")
        assert record["version"] == "3.10.1"
        assert record["seconds"] > 0
    hashes = {record["sha256"] for record in records(tmp_path)}
    assert len(hashes) > 3, "the camera turns"


@pytest.mark.parametrize(("scene", "seen"), [("files/zeroradius.swc", False), ("neuron.swc", True)])
@pytest.mark.parametrize("frames", [2, 9])
@pytest.mark.slow
async def test_a_movie_in_which_nothing_is_seen_is_none(
    emulator, data: Path, tmp_path: Path, scene: str, seen: bool, frames: int
) -> None:
    """It was green; and its frames, once they are there, must not make it so when the task is cleared."""
    spec, told = specification(data / scene, frames=frames), Remembers()
    service = emulator("--plugin", "braynsCircuitExplorer", **FAST)
    for _ in range(1 if seen else 2):
        told.troubles.clear()
        with (
            nullcontext()
            if seen
            else pytest.raises(NothingSeen, match=r"^models: look at .*\n +nothing of the scene is seen: frames")
        ):
            await produce(spec, [service], tmp_path, reporter=told)
    assert len(list(tmp_path.glob("*.png"))) <= (9 if seen else 5), "and not all of it is rendered first"
    assert sum("is of one colour: nothing of the scene is seen" in text for text in told.troubles) == (not seen)


@pytest.mark.slow
async def test_services_of_ours_render_in_one_pass(emulator, data: Path, tmp_path: Path) -> None:
    slow_snapshot = emulator(snapshot_seconds=2)
    began = time.monotonic()
    outcome, told = await produce(specification(data / "cube.obj", frames=4), [slow_snapshot], tmp_path / "one")
    assert outcome.header.way == "one-pass"
    assert {record["way"] for record in records(tmp_path / "one")} == {"one-pass"}
    assert "Frames are rendered in one pass of render-image" in told.text
    assert time.monotonic() - began < 4 * 2, "no frame waited for snapshot's look at the clock"


@pytest.mark.slow
async def test_services_that_are_not_ours_alone_are_asked_by_snapshot(emulator, data: Path, tmp_path: Path) -> None:
    spec = specification(data / "cube.obj", frames=2)
    outcome, told = await produce(spec, [emulator(snapshot_seconds=0.3)], tmp_path, render_service={"owned": False})
    assert outcome.header.way == "snapshot"
    assert "not known to be ours alone" in told.text


@pytest.mark.slow
async def test_both_ways_give_the_same_pictures(emulator, data: Path, tmp_path: Path) -> None:
    spec = specification(data / "cube.obj", frames=3)
    service = emulator(**FAST)
    for way in ("snapshot", "one-pass"):
        await produce(spec, [service], tmp_path / way, way=way)
    for name in ("00000.png", "00001.png", "00002.png"):
        one, other = (Image.open(tmp_path / way / name).convert("RGB") for way in ("snapshot", "one-pass"))
        assert one.tobytes() == other.tobytes()


@pytest.mark.slow
async def test_a_service_that_was_used_before_gives_the_same_pictures(emulator, data: Path, tmp_path: Path) -> None:
    """Near clip, region and framebuffer stayed: a quarter of the picture came, and the movie was green."""
    spec = specification(data / "cube.obj", frames=2, camera={"path": "still"}, renderer={"samples_per_pixel": 4})
    service = emulator(**FAST)
    await produce(spec, [service], tmp_path / "fresh")
    left: list[tuple[str, dict[str, Any]]] = [
        ("set-framebuffer-progressive", {"scale": 4}),
        ("set-camera-near-clip", {"distance": 1000.0}),
        ("set-camera-region", {"image_start": [0, 1], "image_end": [0.5, 0.5]}),
        ("set-camera-perspective", {"fovy": 20, "aperture_radius": 1.0, "focus_distance": 9.0}),
        ("set-camera-orthographic", {"height": 3}),
        ("set-application-parameters", {"viewport": [64, 64]}),
        ("add-clipping-planes", {"primitives": [{"coefficients": [0, 1, 0, 0]}]}),
        ("add-light-ambient", {"intensity": 30}),
    ]
    for way in ("one-pass", "snapshot"):
        async with BraynsClient(service.endpoint) as client:
            for method, params in left:
                await client.call(method, params)
        await produce(spec, [service], tmp_path / way, way=way)
        for name in ("00000.png", "00001.png"):
            one, other = (Image.open(tmp_path / folder / name).convert("RGB") for folder in ("fresh", way))
            assert one.tobytes() == other.tobytes(), way


@pytest.mark.slow
async def test_frames_of_0_2_0_are_kept_until_a_file_behind_the_models_is_newer(
    emulator, data: Path, tmp_path: Path
) -> None:
    """A movie was rendered anew only since more files are looked at than 0.2.0 looked at."""
    spec, service, own = specification(data / "cube.obj", frames=3), emulator(**QUICK), "12 1000"
    await produce(spec, [service], tmp_path, identity=own)
    (tmp_path / "00001.png").unlink()
    for report, rendered in ((1500, 1), (1600, 0), (int(time.time()) + 60, 3), (int(time.time()) + 60, 0)):
        identity = f"{own}\n/data/report.h5 9 {report}"
        outcome, _ = await produce(spec, [service] if rendered else [], tmp_path, identity=identity, token=f"{report}")
        assert outcome.rendered == rendered
    check_whole(tmp_path, 3, doubles=4)


@pytest.mark.slow
async def test_every_service_takes_its_share(emulator, data: Path, tmp_path: Path) -> None:
    """Whoever is the first to have the scene must not render everything."""
    slow = {**QUICK, "frame_seconds": 0.1}
    _, told = await produce(specification(data / "cube.obj", frames=40), [emulator(**slow), emulator(**slow)], tmp_path)
    check_whole(tmp_path, 40)
    assert set(told.steps[-1].nodes) == {"node1", "node2"}


@pytest.mark.slow
async def test_a_service_that_dies_hands_its_frame_on(emulator, data: Path, tmp_path: Path) -> None:
    dying, healthy = emulator(crash_at_picture=6, **QUICK), emulator(**QUICK)
    _, told = await produce(specification(data / "cube.obj", frames=60), [dying, healthy], tmp_path)
    check_whole(tmp_path, 60)
    assert "brayns1 on node1 is set aside" in told.text


@pytest.mark.slow
async def test_a_service_is_started_anew_once(emulator, data: Path, tmp_path: Path) -> None:
    told = Remembers()
    source = Restarting(emulator, [emulator(crash_at_picture=6, **QUICK)], **QUICK)
    await produce(specification(data / "cube.obj", frames=20), [], tmp_path, source=source, reporter=told)
    check_whole(tmp_path, 20)
    assert len(source.replaced) == 1
    assert "started anew on its node" in told.text


@pytest.mark.slow
async def test_a_frame_that_kills_every_service_is_reported_and_the_others_rendered(
    emulator, data: Path, tmp_path: Path
) -> None:
    keyframes = [{"frame": n, "position": [float(n), 3.0, 9.0], "target": [float(n), 0.0, 0.0]} for n in range(21)]
    camera = {"path": "keyframes", "keyframes": keyframes}
    faults = {**QUICK, "deadly_x": 7.0}
    source = Restarting(emulator, [emulator(**faults), emulator(**faults)], **faults)
    with pytest.raises(RenderingFailed, match=r"1 of 21 frames are missing \(7\)\. .*it is the frame") as error:
        await produce(specification(data / "cube.obj", frames=21, camera=camera), [], tmp_path, source=source)
    assert not error.value.retry
    assert sorted({record["frame"] for record in records(tmp_path)}) == [n for n in range(21) if n != 7]


@pytest.mark.slow
async def test_with_no_service_left_the_missing_frames_are_named_and_a_retry_goes_on(
    emulator, data: Path, tmp_path: Path
) -> None:
    spec = specification(data / "cube.obj", frames=12)
    with pytest.raises(
        RenderingFailed, match=r"(?s)it goes on from the frames.*[1-9] of 12 frames are missing \([0-9, -]+\)"
    ) as error:
        await produce(spec, [emulator(crash_at_picture=8, **QUICK)], tmp_path)
    assert error.value.retry
    before = len(records(tmp_path))
    assert before >= 3
    outcome, _ = await produce(spec, [emulator(**QUICK)], tmp_path, token="2")
    assert outcome.rendered == 12 - before
    check_whole(tmp_path, 12)


@pytest.mark.slow
async def test_a_service_that_hangs_is_timed_out_by_what_was_learnt(
    emulator, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_brayns.movie.queue._TIMEOUT_FLOOR", 1.0)
    hangs, healthy = emulator(hang_at_picture=5, **QUICK), emulator(**QUICK)
    began = time.monotonic()
    _, told = await produce(specification(data / "cube.obj", frames=40), [hangs, healthy], tmp_path, way="snapshot")
    check_whole(tmp_path, 40)
    assert re.search(r"no answer within \d+ s, the time-out learnt so far", told.text)
    assert time.monotonic() - began < 30


@pytest.mark.slow
async def test_a_service_that_is_stopped_is_set_aside_soon(
    emulator, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes connections, since the kernel does, and never answers: each look at it has a short time-out of its own."""
    monkeypatch.setattr("airflow_brayns.movie.queue._TIMEOUT_FLOOR", 1.0)
    monkeypatch.setattr("airflow_brayns.movie.reconnect._CONNECT_SECONDS", 1.0)
    stopped = emulator(snapshot_seconds=0, frame_seconds=0.1)
    movie = asyncio.create_task(
        produce(specification(data / "cube.obj", frames=40), [stopped], tmp_path, way="snapshot")
    )
    while not (tmp_path / "manifest.jsonl").exists() or len(records(tmp_path)) < 3:
        await asyncio.sleep(0.05)
    stopped.send(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(RenderingFailed, match="No service is left"):
        await movie
    assert time.monotonic() - began < 20


@pytest.mark.slow
async def test_a_missing_scene_names_the_key(emulator, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"models\.0\.path: .*must exist on the nodes") as error:
        await produce(specification(Path("/nowhere/at/all.obj")), [emulator()], tmp_path)
    assert not error.value.retry


@pytest.mark.slow
async def test_a_morphology_without_its_plugin_says_which(emulator, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="braynsCircuitExplorer"):
        await produce(specification(data / "neuron.swc"), [emulator()], tmp_path)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the official client does not import on Python 3.13")
@pytest.mark.slow
async def test_a_simulation_tells_the_frames(emulator, data: Path, tmp_path: Path) -> None:
    spec = specification(
        data / "cube.obj", frames=None, fps=50, simulation={"start": 10, "end": -1, "slowing_factor": 20}
    )
    outcome, _ = await produce(spec, [emulator(simulation_frames=100, **QUICK)], tmp_path)
    from brayns import MovieFrames, Simulation, TimeUnit

    official = MovieFrames(fps=50, slowing_factor=20, start_frame=10).get_indices(
        Simulation(start_frame=0, end_frame=100, current_frame=0, delta_time=0.1, time_unit=TimeUnit.MILLISECOND)
    )
    assert outcome.plan.shown == official
    check_whole(tmp_path, len(official))


@pytest.mark.slow
async def test_a_later_try_takes_over_and_the_earlier_one_stops(emulator, data: Path, tmp_path: Path) -> None:
    spec = specification(data / "cube.obj", frames=60)
    zombie = asyncio.create_task(produce(spec, [emulator(**QUICK)], tmp_path, movie="one"))
    while not list(tmp_path.glob("*.png")):
        await asyncio.sleep(0.01)
    await produce(spec, [emulator(**QUICK)], tmp_path, movie="one", token="2")
    with pytest.raises(Superseded):
        await zombie
    check_whole(tmp_path, 60, doubles=4)


@pytest.mark.slow
async def test_a_full_disk_stops_it_at_once_and_says_so(
    emulator, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace
    left = 3

    def full(self: Path, target: Any) -> Any:
        nonlocal left
        if self.suffix == ".part" and (left := left - 1) < 0:
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageFailed, match="No space left on device") as error:
        await produce(specification(data / "cube.obj"), [emulator(**QUICK), emulator(**QUICK)], tmp_path)
    assert error.value.retry
    monkeypatch.undo()
    outcome, _ = await produce(specification(data / "cube.obj"), [emulator(**QUICK)], tmp_path, token="2")
    assert outcome.rendered == 6
    check_whole(tmp_path, 9)


@pytest.mark.slow
async def test_an_image_of_the_wrong_size_never_counts(emulator, data: Path, tmp_path: Path, monkeypatch) -> None:
    from airflow_brayns.movie.render_call import Snapshot

    real = Snapshot.render
    wrong = 2

    async def sometimes(self: Any, client: Any, plan: Any, frame: int, file_path: str = "") -> bytes:
        nonlocal wrong
        data = await real(self, client, plan, frame, file_path)
        if wrong and frame in (3, 6):
            wrong -= 1
            return data[:-20]
        return data

    monkeypatch.setattr(Snapshot, "render", sometimes)
    _, told = await produce(specification(data / "cube.obj"), [emulator(**QUICK)], tmp_path, way="snapshot")
    assert "no whole PNG" in told.text
    check_whole(tmp_path, 9)


@pytest.mark.slow
async def test_nothing_is_taken_that_would_not_finish(emulator, data: Path, tmp_path: Path) -> None:
    ending, staying = emulator(**QUICK), emulator(**QUICK)
    first, second = render_services([ending, staying])
    from dataclasses import replace

    from airflow_brayns.movie.interfaces import FixedServices

    end = time.time() + 3.6
    source = FixedServices([replace(first, ends_at=lambda: end), second])
    _, told = await produce(specification(data / "cube.obj", frames=100), [], tmp_path, source=source)
    assert "takes no more frames: its allocation ends" in told.text
    check_whole(tmp_path, 100)


# ---- without an emulator -------------------------------------------------------------------------------------------------
async def with_one(service: Service, folder: Path) -> Any:
    source = FixedServices([RenderService(service.endpoint, "brayns1", "node1", version="3.10.1")])
    return await produce(specification(Path("/a.obj"), frames=2), [], folder, source=source)


async def test_what_the_first_service_finds_wrong_is_the_movies_fault_and_not_the_services(tmp_path: Path) -> None:
    """`No service is left` would be tried again, and says nothing of the model."""

    def refuse(_: Any) -> None:
        raise RefusedError(-32602, "No loader for .obj")

    async with serving(Service(add_model=refuse)) as service:
        with pytest.raises(InvalidSetting, match=r"(?s)^models\.0.*No loader for"):
            await with_one(service, tmp_path)


async def test_a_movie_without_python_leaves_the_process_its_output(tmp_path: Path) -> None:
    """What other threads print meanwhile is none of the movie's."""
    streams: list[Any] = []
    async with serving(Service(add_model=lambda _: streams.append(sys.stdout))) as service:
        outcome, _ = await with_one(service, tmp_path)
    assert outcome.rendered == 2
    assert streams == [sys.stdout]


async def test_one_that_comes_back_with_another_scene_renders_no_further_frame_of_the_movie() -> None:
    """Nor is it tried again: what it shows would stand among the others' frames."""

    class Stage:
        stays = False

        async def prepare(self, client: Any) -> SceneFacts:
            return SceneFacts.from_plain({"low": [0, 0, 0], "high": [9, 9, 9], "first": 0, "last": 0, "dt": 0})

    class Call:
        async def begin(self, *_: Any) -> None:
            raise AssertionError("no frame is asked for")

    one, told = RenderService("n1:5000", "brayns1", "n1"), Remembers()
    production = Production(specification(Path("/a.obj")), FixedServices([one]), KeptFrames(), told)  # type: ignore[arg-type]
    production._shared = sharing(4, one)
    with pytest.raises(RenderingFailed, match=r"brayns1 on n1 sees another scene than before") as raised:
        await production._restore(one, Stage(), Call(), "", None, True)  # type: ignore[arg-type]
    assert not raised.value.retry
    assert told.notes == ["brayns1 on n1 gets the scene anew."]
