"""What a trigger tells Airflow can be sent, whatever a service says and whatever is raised: else it ends the trigger runner."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.comms import _new_encoder
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_brayns.triggers.events import safe_events
from airflow_brayns.triggers.movie import RenderFramesTrigger
from airflow_brayns.triggers.service import BraynsServiceTrigger, EndpointTrigger

HOSTILE = "\ud800evil\x00\x1b[2J\r\nINFO - all is well"


def can_be_sent(payload: Any) -> None:
    """As the trigger runner sends it, and as the database keeps it."""
    _new_encoder().encode(payload)
    text = json.dumps(payload, allow_nan=False, ensure_ascii=False)
    text.encode()
    assert not set(text) & {"\x1b", "\r", "\x00"}
    assert "\\u0000" not in json.dumps(payload)


def only(trigger: BaseTrigger) -> dict[str, Any]:
    async def main() -> Any:
        return [event.payload async for event in trigger.run()]

    [payload] = asyncio.run(main())
    return dict(payload)


@pytest.mark.parametrize("deep", [False, True])
def test_an_endpoint_whose_plugins_are_hostile(emulator: Any, cluster: SimpleNamespace, deep: bool) -> None:
    service = emulator("--plugin", "braynsDTI", hostile=1)
    plugins = ["braynsDTI", "\ud800absent"] if deep else ["braynsDTI"]
    found = only(
        EndpointTrigger(endpoint=service.endpoint, plugins=plugins, cluster_conn_id=cluster.conn_id, overrides={})
    )
    can_be_sent(found)
    if deep:
        assert found["status"] == "error"
        assert "runs without \ufffdabsent" in found["message"]
    else:
        named = found["services"][0]["plugins"]
        assert named == ["braynsDTI", "\ufffdevil", "clear", "x [2026-01-01 00:00:00] INFO - all is well"]


class Raising(BaseTrigger):
    """A trigger with a fault of its own."""

    booking = {"name": HOSTILE}

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "", {}

    @safe_events
    async def run(self) -> AsyncIterator[TriggerEvent]:
        if isinstance(self.what, BaseException):
            raise self.what
        yield TriggerEvent(self.what)


@pytest.mark.parametrize("error", [ValueError(HOSTILE), RuntimeError(), KeyError(HOSTILE), RecursionError(HOSTILE)])
def test_an_exception_becomes_an_error_of_the_task_alone(error: Exception) -> None:
    found = only(Raising(error))
    can_be_sent(found)
    assert found["status"] == "error"
    assert found["retry"]
    assert type(error).__name__ in found["message"]
    assert found["booking"] == {"name": "\ufffdevil\n    INFO - all is well"}


@pytest.mark.parametrize(
    "payload", [{"a": HOSTILE, HOSTILE: 1}, {"a": float("nan")}, {"a": 1 << 70}, {"a": {1, 2}}, {"a": object()}, HOSTILE, {"a": b"\xff"}]
)  # fmt: skip
def test_an_event_of_whatever_can_be_sent(payload: Any) -> None:
    async def main() -> Any:
        return [event.payload async for event in Raising(payload).run()]

    can_be_sent(asyncio.run(main()))


def test_a_cancelled_trigger_is_cancelled() -> None:
    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await anext(Raising(asyncio.CancelledError()).run())

    asyncio.run(main())


@pytest.mark.parametrize("trigger", [BraynsServiceTrigger, EndpointTrigger, RenderFramesTrigger])
def test_every_trigger_of_ours_has_it(trigger: type[BaseTrigger]) -> None:
    assert trigger.run.__wrapped__  # type: ignore[attr-defined]
