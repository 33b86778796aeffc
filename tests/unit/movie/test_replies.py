"""Replies of a service that are not what they should be: the service is to blame, not the movie."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_brayns.brayns.client import Reply
from airflow_brayns.errors import RenderingFailed
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.render_call import OnePass, Snapshot
from airflow_brayns.movie.scene import prepare, scene_of
from airflow_brayns.movie.script_call import standing_of
from airflow_brayns.movie.specification import Camera, Light, MovieSpecification

BOUNDS = {"min": [0, 0, 0], "max": [1, 1, 1]}
SPECIFICATION = MovieSpecification.check({"models": [{"path": "/a.obj"}], "resolution": [96, 64], "frames": 3})
PLAN = Plan(SPECIFICATION, SceneFacts.read(BOUNDS, {}), "scene")


class Says:
    """A client whose service answers as it should, but for one method."""

    def __init__(self, method: str, result: Any) -> None:
        self.replies = {
            "add-model": [{"model_id": 1}],
            "get-scene": {"bounds": BOUNDS},
            "get-simulation-parameters": {},
            "get-color-methods": [],
            method: result,
        }

    async def call(self, method: str, params: Any = None, **_: Any) -> Reply:
        return Reply(self.replies.get(method), b"12345678")

    async def call_in_order(self, messages: Any, **_: Any) -> list[Reply]:
        return [await self.call(method) for method, _ in messages]


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("add-model", None), ("add-model", {}), ("add-model", [1]), ("add-model", [{}]), ("add-model", [{"model_id": "x"}]), ("get-scene", None),
        ("get-scene", [1]), ("get-scene", {}), ("get-scene", {"bounds": 3}), ("get-simulation-parameters", None), ("get-color-methods", {}),
        ("get-color-methods", None), ("get-scene", {"bounds": [[[[[[[]]]]]]]}),
    ],
)  # fmt: skip
async def test_a_scene_that_is_none_is_the_services_fault(method: str, result: Any) -> None:
    """A TypeError would have ended the movie, on all services."""
    with pytest.raises(RenderingFailed, match="answered"):
        await prepare(Says(method, result), SPECIFICATION)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "buffer",
    [None, [], {"offset": 0}, {"offset": -3, "size": 3}, {"offset": 0, "size": 9}, {"offset": 5, "size": -1}, {"offset": float("inf"), "size": 1}, {"offset": 0, "size": "x"}],
)  # fmt: skip
async def test_a_picture_lies_within_what_came(buffer: Any) -> None:
    """A negative offset was counted from the end."""
    with pytest.raises(RenderingFailed, match="no image"):
        await Snapshot().render(Says("snapshot", {"color_buffer": buffer}), PLAN, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("passes", [None, "x", [], float("inf"), float("nan")])
async def test_samples_that_cannot_be_counted_are_no_picture(passes: Any) -> None:
    with pytest.raises(RenderingFailed, match="no image"):
        await OnePass().render(Says("render-image", {"accumulation": passes, "max_accumulation": 2}), PLAN, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [[], {}, None, "1"])
async def test_a_model_whose_number_is_none_is_the_services_fault(number: Any) -> None:
    fitted = SPECIFICATION.model_copy(update={"camera": Camera(fit=0)})
    scene = {"bounds": BOUNDS, "models": [{"model_id": number, "bounds": BOUNDS}]}
    with pytest.raises(RenderingFailed, match="answered"):
        await prepare(Says("get-scene", scene), fitted)  # type: ignore[arg-type]


async def test_a_scene_of_kinds_that_are_none_can_be_compared() -> None:
    lit = SPECIFICATION.model_copy(
        update={"lights": (Light(kind="directional", direction=(0, 0, -1), follow_camera=True),)}
    )
    says: Any = Says("get-scene", {"models": [{"model_type": []}, {"model_type": "light"}]})
    assert await scene_of(says, Plan(lit, PLAN.facts, "scene")) == '{"models": [{"model_type": []}]}'


STANDING = {
    "get-camera-type": "perspective", "get-renderer-type": "interactive", "get-camera-view": {}, "get-camera-near-clip": {},
    "get-simulation-parameters": {"current": 0}, "get-camera-perspective": {}, "get-renderer-interactive": {},
}  # fmt: skip


@pytest.mark.parametrize("method", STANDING)
@pytest.mark.parametrize("result", [None, [], 3, {"current": None}])
async def test_how_a_service_stands_is_no_other_kind_of_answer(method: str, result: Any) -> None:
    says: Any = Says(method, result)
    says.replies = {**STANDING, method: result}
    if isinstance(result, type(STANDING[method])) and method != "get-simulation-parameters":
        await standing_of(says)
        return
    with pytest.raises(RenderingFailed, match="answered"):
        await standing_of(says)
