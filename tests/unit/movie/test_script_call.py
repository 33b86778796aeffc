"""How a frame that a function wants is asked for; whole movies of Python are in `test_script_run.py`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.brayns.client import Reply
from airflow_brayns.errors import RpcFailed, ScriptFailed
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.script_call import ScriptCall
from airflow_brayns.movie.script_wanted import Wanted
from tests.support.movie import specification

FACTS = SceneFacts.from_plain({"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 9, "dt": 1})
PLAN = Plan(specification(Path("/a.obj"), frames=4), FACTS, "scene")
# A frame that wants everything otherwise than it stands.
OTHER = Wanted(
    view={"position": [9, 9, 9], "target": [0, 0, 0], "up": [0, 1, 0]},
    projection=("orthographic", {"height": 7}),
    near_clip=0.5,
    region={"image_start": [0, 1], "image_end": [0.5, 0.5]},
    renderer=("production", {"samples_per_pixel": 4}),
    simulation=5,
)


class Standing:
    """A service that keeps what it is set to, and with each picture how it stood."""

    def __init__(self, *models: dict[str, Any]) -> None:
        self.models = models
        self.set: dict[str, Any] = {
            "camera-view": {"position": [0, 0, 1], "target": [0, 0, 0], "up": [0, 1, 0]},
            "camera-near-clip": {"distance": 1e-6},
            "camera-region": {"image_start": [0, 1], "image_end": [1, 0]},
            "camera-type": "perspective",
            "camera-perspective": {"fovy": 45},
            "camera-orthographic": {"height": 1},
            "renderer-type": "interactive",
            "renderer-interactive": {"samples_per_pixel": 1},
            "renderer-production": {"samples_per_pixel": 64},
            "simulation-parameters": {"current": 2},
        }
        self.pictures: list[dict[str, Any]] = []
        self.snapshots: list[dict[str, Any]] = []

    def shown(self) -> dict[str, Any]:
        """How it stands, as far as a picture shows it."""
        used = {f"camera-{self.set['camera-type']}", f"renderer-{self.set['renderer-type']}"}
        kinds = {"camera-perspective", "camera-orthographic", "renderer-interactive", "renderer-production"}
        return copy.deepcopy({name: one for name, one in self.set.items() if name not in kinds - used})

    async def call(self, method: str, params: Any = None, **_: Any) -> Reply:
        verb, _, name = method.partition("-")
        if method == "get-scene":
            return Reply({"models": list(self.models)})
        if method == "render-image":
            self.pictures.append(self.shown())
            return Reply({"accumulation": 1, "max_accumulation": 1}, b"a picture")
        if method == "snapshot":
            self.snapshots.append(params)
            return Reply({"color_buffer": {"offset": 0, "size": 9}}, b"a picture")
        if verb == "get":
            return Reply(self.set[name])
        self.set[name] = params
        word, _, kind = name.partition("-")
        if f"{word}-type" in self.set and kind not in ("view", "near-clip", "region"):
            self.set[f"{word}-type"] = kind
        return Reply(None)

    async def call_in_order(self, messages: Sequence[tuple[str, Any]], **_: Any) -> list[Reply]:
        return [await self.call(method, params) for method, params in messages]


class Run:
    """The run of functions that want a frame each, and call what they say."""

    def __init__(self, *wanted: Wanted, called: Sequence[str] = ()) -> None:
        self.wanted, self.called = wanted, called

    async def frame(self, client: Any, number: int) -> Wanted:
        return self.wanted[number]

    def take_called(self) -> set[str]:
        return set(self.called)


async def rendered(service: Standing, way: str, *wanted: Wanted) -> None:
    call = ScriptCall(way, Run(*wanted))  # type: ignore[arg-type]
    await call.begin(service, PLAN)  # type: ignore[arg-type]
    for number in range(len(wanted)):
        assert await call.render(service, PLAN, number) == b"a picture"  # type: ignore[arg-type]


async def test_in_one_pass_a_frame_is_as_it_is_wanted_and_the_next_one_as_if_it_had_not_been() -> None:
    service = Standing({"model_type": "light"})
    before = service.shown()
    await rendered(service, "one-pass", OTHER, Wanted())
    wanted, unwanted = service.pictures
    assert wanted == {
        "camera-view": OTHER.view,
        "camera-near-clip": {"distance": 0.5},
        "camera-region": OTHER.region,
        "camera-type": "orthographic",
        "camera-orthographic": {"height": 7},
        "renderer-type": "production",
        "renderer-production": {"samples_per_pixel": 4},
        "simulation-parameters": {"current": 5},
    }
    assert unwanted == before == service.shown()


async def test_a_snapshot_names_what_the_frame_wants_and_changes_nothing() -> None:
    service = Standing({"model_type": "light"})
    before = service.shown()
    await rendered(service, "snapshot", OTHER, Wanted(renderer=("interactive", {})), Wanted())
    camera, renderer, nothing = (
        {name: one for name, one in asked.items() if name != "image_settings"} for asked in service.snapshots
    )
    assert camera == {
        "camera_view": OTHER.view, "camera": {"name": "orthographic", "params": {"height": 7}}, "camera_near_clip": 0.5,
        **(OTHER.region or {}), "renderer": {"name": "production", "params": {"samples_per_pixel": 4}}, "simulation_frame": 5,
    }  # fmt: skip
    assert renderer == {"renderer": {"name": "interactive", "params": {}}}
    assert nothing == {}
    assert service.shown() == before


@pytest.mark.parametrize("way", ["one-pass", "snapshot"])
@pytest.mark.parametrize(
    ("models", "lit"),
    [
        ([], False),
        ([{"model_type": "mesh", "is_visible": True}], False),
        ([{"model_type": "light", "is_visible": False}], False),
        ([{"model_type": "light", "is_visible": False}, {"model_type": "light", "is_visible": True}], True),
        ([{"model_type": "light"}], True),
    ],
)
async def test_the_production_renderer_gets_no_frame_without_a_light_that_shines(
    way: str, models: list[dict[str, Any]], lit: bool
) -> None:
    """It kills braynsService 3.10.1, and with it the movie."""
    service = Standing(*models)
    if lit:
        await rendered(service, way, OTHER)
    else:
        with pytest.raises(
            ScriptFailed,
            match="frame 0 would be rendered by the production renderer without a light(?s:.*)clear_renderables leaves them",
        ):
            await rendered(service, way, OTHER)
        assert not service.pictures and not service.snapshots


class Refuses(Standing):
    """A service that takes no view from one place, and fails at each picture of another's."""

    async def call(self, method: str, params: Any = None, **more: Any) -> Reply:
        if method == "set-camera-view" and params["position"] == params["target"]:
            raise RpcFailed(method, -32603, "View position cannot be equal to view target")
        if method in ("snapshot", "render-image"):
            raise RpcFailed(method, -32603, "View position cannot be equal to view target")
        return await super().call(method, params)


@pytest.mark.parametrize("way", ["one-pass", "snapshot"])
async def test_what_no_service_takes_fails_the_movie_and_what_one_does_not_is_that_ones_trouble(way: str) -> None:
    """Each service was asked for it in vain, and the message was to clear the task."""
    nowhere = replace(OTHER, view={"position": [1, 1, 1], "target": [1, 1, 1], "up": [0, 1, 0]})
    with pytest.raises(
        ScriptFailed, match="(?s)Correct what `frame` returns.*frame 0 .*set-camera-view: View position"
    ):
        await rendered(Refuses({"model_type": "light"}), way, nowhere)
    service = Refuses({"model_type": "light"})
    before = service.shown()
    with pytest.raises(RpcFailed):
        await rendered(service, way, replace(OTHER, renderer=("interactive", {"samples_per_pixel": 1})))
    if way == "snapshot":
        assert service.shown() == before, "what was tried is not seen in the next frame"
