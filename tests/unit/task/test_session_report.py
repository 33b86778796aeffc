"""How a session stands is stored once per change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import Usable
from airflow_brayns.cluster.allocation import AllocationStatus, Job
from airflow_brayns.services.booking import Service
from airflow_brayns.services.holding import Held
from airflow_brayns.task.session_report import SessionReport

UNTIL = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
WAITS = AllocationStatus("ab-1", 2, job=Job("78", "PENDING", "Priority", "", "ab-1-2", "", "N/A", None), job_id="78")
SERVICE = Service("brayns1", "n2", Endpoint("n2", 5000), "78", Usable("3.10.1", ()), "/s/log", None)


def test_what_follows_on_is_told_with_why_it_waits_and_what_is_usable_of_it() -> None:
    stored: list[dict[str, Any]] = []
    report = SessionReport(stored.append, "ab-1")
    for held in (
        Held(UNTIL),
        Held(UNTIL),
        Held(None, (WAITS,)),
        Held(None, (WAITS,)),
        Held(UNTIL, (WAITS,), (SERVICE,), ("77",)),
    ):
        report(held)
    plain, waits, usable = stored
    assert plain == {"allocation": "ab-1", "until": "2026-11-27T12:00:00+00:00"}
    assert waits == {
        "allocation": "ab-1",
        "until": None,
        "following": {"78": {"state": "pending", "reason": "Priority"}},
        "services": [],
    }
    assert [one["endpoint"] for one in usable["services"]] == ["n2:5000"]
    assert usable["ended"] == ["77"]
