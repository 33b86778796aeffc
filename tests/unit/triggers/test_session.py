"""The trigger that holds services; as the triggerer runs it, in `sensors/test_session.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.errors import AllocationLost, BraynsError
from airflow_brayns.services.booking import Booking
from airflow_brayns.triggers import session as module
from airflow_brayns.triggers.session import BraynsSessionTrigger

BOOKING = Booking("ab-0123456789ab", (Allocation("ab-0123456789ab000", 1, "77"),))
UNTIL = "2026-11-27T18:00:00+00:00"


def holding(**changes: Any) -> BraynsSessionTrigger:
    values: dict[str, Any] = {"cluster_conn_id": "there", "overrides": {"poll_interval": 3.0}, "booking": BOOKING.to_json(), "services": None, "until": UNTIL}  # fmt: skip
    return BraynsSessionTrigger(**{**values, **changes})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the cluster is asked with, and what is held; a first entry that is an error is what ends it."""
    found: list[Any] = []

    class Hook:
        def __init__(self, conn_id: str, overrides: dict[str, Any], *, quiet: bool) -> None:
            found.append((conn_id, overrides))

        @asynccontextmanager
        async def session(self, log: Any, told: Any = None) -> AsyncIterator[str]:
            yield "the session"

    async def hold(
        session: Any, booking: Booking, until: datetime | None, names: Any, *, plugins: Any, tell: Any
    ) -> str:
        if isinstance(found[0], BraynsError):
            raise found[0]
        found.append((session, booking, until, names, list(plugins)))
        return "the time is over"

    monkeypatch.setattr(module, "BraynsClusterHook", Hook)
    monkeypatch.setattr(module, "hold", hold)
    return found


async def event_of(trigger: BraynsSessionTrigger) -> dict[str, Any]:
    [event] = [one.payload async for one in trigger.run()]
    return dict(event)


@pytest.mark.parametrize("services", [None, ["brayns2"]])
async def test_it_holds_what_its_task_holds_as_its_task_would(asked: list[Any], services: list[str] | None) -> None:
    """Also when it has gone through Airflow's database, to another triggerer."""
    _, sent = holding(services=services, booking={**BOOKING.to_json(), "plugins": ["braynsDTI"]}).serialize()
    assert await event_of(BraynsSessionTrigger(**sent)) == {"status": "success", "why": "the time is over"}
    place, held = asked
    assert place == ("there", {"poll_interval": 3.0})
    assert held == ("the session", BOOKING, datetime.fromisoformat(UNTIL), services, ["braynsDTI"])


async def test_what_ends_it_is_told_to_its_task(asked: list[Any]) -> None:
    asked.append(AllocationLost("Job 77 ended.", retry=False))
    event = await event_of(holding(until=None))
    assert event["status"] == "error"
    assert "Job 77 ended." in str(event)
