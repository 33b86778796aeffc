"""The trigger that renders hands on what it was given, and tells what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.errors import BraynsError, RenderingFailed
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.used import Used
from airflow_brayns.rendering.cluster_frames import ClusterFrames
from airflow_brayns.rendering.render import Rendering, RenderRequest
from airflow_brayns.services.booking import Booking
from airflow_brayns.triggers.movie import RenderFramesTrigger

BOOKING = Booking("ab-0123456789ab", (Allocation("ab-0123456789ab000", 1, "77"),))
SPECIFICATION = MovieSpecification.check({"models": [{"path": "/a.obj"}], "resolution": [96, 64], "frames": 3})


def trigger(**changes: Any) -> RenderFramesTrigger:
    values: dict[str, Any] = {
        "cluster_conn_id": "here", "overrides": {"poll_interval": 7}, "booking": BOOKING.to_json(), "specification": SPECIFICATION.plain(),
        "folder": "/frames", "ffmpeg": "/ffmpeg", "files": "12 1700000000", "rendering": Rendering(("a",), way="snapshot").to_json(),
        "movie": "dag/run/task", "owner": "the-owner", "about": "what for",
    }  # fmt: skip
    return RenderFramesTrigger(**{**values, **changes})


@pytest.fixture
def rendering(cluster: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What rendering was asked with; its outcome is the test's to set."""
    seen: dict[str, Any] = {
        "used": None,
        "outcome": SimpleNamespace(rendered=2, survey=SimpleNamespace(done={0, 1, 2})),
    }

    async def render_with(session: Any, booking: Booking, request: RenderRequest, reporter: Any) -> Any:
        seen.update(settings=session.settings, booking=booking, request=request, frames=request.store(session.cluster))
        if seen["used"] is not None:
            reporter.used(seen["used"], seen["used"])
        if isinstance(seen["outcome"], BaseException):
            raise seen["outcome"]
        return seen["outcome"]

    monkeypatch.setattr("airflow_brayns.triggers.movie.render_with", render_with)
    return seen


async def only_event(one: RenderFramesTrigger) -> dict[str, Any]:
    events: AsyncIterator[Any] = one.run()
    [payload] = [event.payload async for event in events]
    return dict(payload)


async def test_what_was_rendered_is_told_in_numbers(rendering: dict[str, Any]) -> None:
    assert await only_event(trigger()) == {"status": "success", "rendered": 2, "done": 3, "folder": "/frames"}


async def test_it_renders_what_it_was_given_with_what_it_was_given(rendering: dict[str, Any]) -> None:
    await only_event(trigger())
    assert rendering["settings"].poll_interval == 7
    assert rendering["booking"] == BOOKING
    assert rendering["request"] == RenderRequest(
        SPECIFICATION, "/frames", Rendering(("a",), way="snapshot"), Owner(BOOKING.name, "the-owner", "what for", "dag/run/task"),
        on_cluster=True, ffmpeg="/ffmpeg", files="12 1700000000",
    )  # fmt: skip
    assert isinstance(rendering["frames"], ClusterFrames), "frames stay on the cluster"


async def test_a_trigger_that_moves_is_another_holder_of_the_same_owner(rendering: dict[str, Any]) -> None:
    """So that the one before is told that it was taken over."""
    await only_event(trigger(owner="o" * 60))
    first = rendering["request"].holder
    await only_event(trigger(owner="o" * 60))
    second = rendering["request"].holder
    assert first != second
    assert first.startswith("o" * 18) and second.startswith("o" * 18)
    assert len(first) <= 64, "a token has no more"


@pytest.mark.parametrize("retry", [True, False])
async def test_why_not_is_told_with_whether_a_retry_helps(rendering: dict[str, Any], retry: bool) -> None:
    rendering["outcome"] = RenderingFailed("3 of 3 frames are missing (0-2).", retry=retry)
    assert await only_event(trigger()) == {
        "status": "error",
        "kind": "RenderingFailed",
        "message": "3 of 3 frames are missing (0-2).",
        "retry": retry,
    }


async def test_an_error_that_nobody_thought_of_is_an_event_too(rendering: dict[str, Any]) -> None:
    """It would end in the triggerer, and the task wait for ever."""
    rendering["outcome"] = ZeroDivisionError("oh")
    event = await only_event(trigger())
    assert (event["status"], event["retry"]) == ("error", True)
    assert "ZeroDivisionError in RenderFramesTrigger: oh" in event["message"]


@pytest.mark.parametrize("outcome", [None, BraynsError("no")])
async def test_the_event_does_not_come_before_the_scheduler_knows_of_the_deferral(
    rendering: dict[str, Any], monkeypatch: pytest.MonkeyPatch, outcome: BaseException | None
) -> None:
    monkeypatch.setattr("airflow_brayns.triggers.base.HOLD_SECONDS", 0.3)
    if outcome is not None:
        rendering["outcome"] = outcome
    began = datetime.now(UTC)
    await only_event(trigger(deferred_at=began.isoformat()))
    assert (datetime.now(UTC) - began).total_seconds() >= 0.3


async def test_a_specification_that_cannot_be_read_is_an_error_of_its_own(rendering: dict[str, Any]) -> None:
    event = await only_event(trigger(specification={"models": []}))
    assert event["status"] == "error"
    assert not event["retry"]


@pytest.mark.parametrize("outcome", [None, RenderingFailed("3 of 3 frames are missing (0-2).")])
async def test_what_was_used_comes_with_the_event(rendering: dict[str, Any], outcome: Any) -> None:
    """The triggerer has no XCom."""
    rendering["used"] = Used(3600, frames=2)
    rendering["outcome"] = outcome or rendering["outcome"]
    assert (await only_event(trigger()))["used"] == Used(3600, frames=2).plain()
