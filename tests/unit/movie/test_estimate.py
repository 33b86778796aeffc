"""What a movie will take: which frames are rendered for it, what is made of their times, and what is told when it goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.errors import ConnectionLost, RenderingFailed, ServiceFailed
from airflow_brayns.movie import estimate
from airflow_brayns.movie.estimate import Estimate, Sampling, sample_of
from airflow_brayns.movie.interfaces import Liveness, Proof, RenderService
from airflow_brayns.movie.plan import SceneFacts
from tests.support.clock import jumping_clock
from tests.support.movie import specification

__all__ = ["jumping_clock"]

FOUND = Estimate(200, ((33, 10.0), (99, 12.0), (166, 17.0)), 20, 60, "brayns1 on n1, braynsService 3.10.1", "one-pass")


@pytest.mark.parametrize(
    ("frames", "sample"),
    [(range(200), [33, 100, 166]), (range(9), [1, 4, 7]), (range(3), [0, 1, 2]), (range(2), [0, 1]), (range(100, 400, 50), [150, 250, 350])],
)  # fmt: skip
def test_each_frame_of_the_sample_stands_for_a_third_of_the_movie(frames: range, sample: list[int]) -> None:
    assert sample_of(frames) == sample


def test_each_node_starts_loads_and_renders_its_share() -> None:
    assert FOUND.each == (13, 10, 17)
    cost = FOUND.on(3)
    assert cost.hours == pytest.approx([(80 + 67 * seconds) / 3600 for seconds in (13, 10, 17)])
    assert cost.node_hours == pytest.approx([3 * one for one in cost.hours]), "all are held until the last frame"
    assert FOUND.on(1).node_hours == FOUND.on(1).hours


def test_people_see_how_sure_it_is_and_what_is_not_in_it() -> None:
    lines = FOUND.text([1, 8]).splitlines()
    assert lines[0].startswith("200 frames of 13 s (10 to 17), by frames 33, 99, 166 of full quality on brayns1 on n1")
    assert "20 s to start and 60 s to load. Not in it: the queue, faults, encoding." in lines[1]
    assert lines[3].split() == [
        "1",
        "44",
        "min",
        "40",
        "s",
        "(34",
        "min",
        "40",
        "s",
        "to",
        "58",
        "min",
        "00",
        "s)",
        "0.7444",
        "(0.5778",
        "to",
        "0.9667)",
    ]
    assert lines[4].split()[0] == "8" and len(lines) == 5


def test_programs_see_each_number_by_itself() -> None:
    plain = FOUND.plain([4])
    assert plain["nodes"][0] == {
        "nodes": 4, "hours": 0.202778, "hours_low": 0.161111, "hours_high": 0.258333, "node_hours": 0.811111, "node_hours_low": 0.644444,
        "node_hours_high": 1.033333, "frames": 200, "frame_seconds": 13, "frame_seconds_low": 10, "frame_seconds_high": 17, "start_seconds": 20,
        "load_seconds": 60,
    }  # fmt: skip
    assert plain["sample"][0] == {"frame": 33, "seconds": 10.0} and plain["way"] == "one-pass"


# ---- the sample --------------------------------------------------------------------------------------------------------
class Scene:
    """A stage, and its way to ask for frames, which takes the seconds that a test says, one after the other."""

    stays, name = True, "one-pass"

    def __init__(self, *seconds: Any) -> None:
        self.seconds, self.asked = list(seconds), list[int]()
        self.ways: list[str] = []
        self.closed = False

    async def prepare(self, client: Any) -> SceneFacts:
        await asyncio.sleep(60)
        return SceneFacts.from_plain({"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0})

    def call(self, way: str) -> Scene:
        self.ways.append(way)
        return self

    def since(self, began: float) -> float:
        return began

    async def begin(self, client: Any, plan: Any, loaded: Any) -> None:
        pass

    async def render(self, client: Any, plan: Any, frame: int) -> bytes:
        self.asked.append(frame)
        seconds = self.seconds.pop(0)
        if isinstance(seconds, BaseException):
            raise seconds
        await asyncio.sleep(seconds)
        return b""

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every service can be connected to, and its pictures are whole."""

    @asynccontextmanager
    async def client_of(service: RenderService) -> AsyncIterator[None]:
        yield

    async def offers(client: Any) -> bool:
        return True

    monkeypatch.setattr(estimate, "client_of", client_of)
    monkeypatch.setattr(estimate, "offers_one_pass", offers)

    async def has_regions(client: Any, service: str, version: str) -> None:
        pass

    monkeypatch.setattr(estimate, "check_region", has_regions)
    monkeypatch.setattr(estimate, "check_picture", lambda *_: None)
    monkeypatch.setattr(estimate, "check_tile", lambda *_: None)


async def measured(
    scene: Scene, *, frames: int = 200, timeout: float = 1000, way: str | None = None, **changes: Any
) -> Estimate:
    async def prove() -> Proof:
        return Proof(Liveness.ENDED, "brayns1 on n1 was killed by signal 11 (SIGSEGV)")

    service = RenderService("n1:5000", "brayns1", "n1", version="3.10.1", prove=prove)
    spec = specification(Path("/a.obj"), frames=frames, **changes)
    try:
        return await Sampling(spec, service, scene, way, timeout).measure(5)  # type: ignore[arg-type]
    finally:
        assert scene.closed


@pytest.mark.usefixtures("jumping_clock")
async def test_it_is_measured_how_long_the_scene_and_three_frames_take() -> None:
    scene = Scene(10, 12, 17)
    found = await measured(scene)
    assert (scene.asked, scene.ways) == ([33, 100, 166], ["one-pass"])
    assert [frame for frame, _ in found.sample] == [33, 100, 166]
    assert [seconds for _, seconds in found.sample] == pytest.approx([10, 12, 17], abs=0.1)
    assert (found.frames, found.start, found.load) == (200, 5, pytest.approx(60, abs=0.1))
    assert found.service == "brayns1 on n1, braynsService 3.10.1"


@pytest.mark.usefixtures("jumping_clock")
async def test_what_the_first_frame_takes_longer_counts_once_for_each_node_and_not_for_each_third() -> None:
    scene = Scene(30, 12, 12, 11)
    found = await measured(scene)
    assert scene.asked == [33, 100, 166, 33]
    assert found.each == pytest.approx((35 / 3, 11, 12), abs=0.1)
    assert found.load == pytest.approx(60 + 19, abs=0.1)


@pytest.mark.usefixtures("jumping_clock")
async def test_a_movie_of_one_frame_is_rendered_once() -> None:
    scene = Scene(30)
    assert (await measured(scene, frames=1)).each == pytest.approx((30, 30, 30), abs=0.1)


@pytest.mark.usefixtures("jumping_clock")
async def test_of_a_picture_in_tiles_three_tiles_are_rendered() -> None:
    scene = Scene(10, 12, 17)
    found = await measured(scene, frames=1, resolution=[512, 640], tiles=[4, 5], output="a.png")
    assert (scene.asked, found.frames) == ([3, 10, 16], 20)
    assert found.text([1]).startswith("20 tiles of 13 s (10 to 17), by tiles 3, 10, 16 of full quality")
    late = r"^frame_timeout: give it more time.*\n +the tile of frame 0 in row 1, column 4 did not come within 5 s"
    with pytest.raises(RenderingFailed, match=late):
        await measured(Scene(10), frames=1, resolution=[512, 640], tiles=[4, 5], output="a.png", timeout=5)


@pytest.mark.usefixtures("jumping_clock")
async def test_it_is_asked_as_the_movie_would_be() -> None:
    scene = Scene(1, 1, 1)
    await measured(scene, way="snapshot")
    assert scene.ways == ["snapshot"]


@pytest.mark.usefixtures("jumping_clock")
async def test_a_frame_that_does_not_come_ends_it_with_the_field_that_says_how_long() -> None:
    began = time.monotonic()
    with pytest.raises(
        RenderingFailed, match=r"(?s)frame_timeout: give it more time.*frame 100 did not come within"
    ) as raised:
        await measured(Scene(1, 10**6), timeout=300)
    assert (raised.value.frame, raised.value.field) == (100, "frame_timeout")
    assert time.monotonic() - began < 400


@pytest.mark.usefixtures("jumping_clock")
async def test_a_service_that_dies_is_told_with_how_it_ended() -> None:
    with pytest.raises(ServiceFailed, match="SIGSEGV") as raised:
        await measured(Scene(1, ConnectionLost("closed")))
    assert raised.value.node == "n1"
