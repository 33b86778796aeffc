"""How late Airflow's scheduler may hear that a task has deferred, told by how long the task itself took to begin.

The scheduler reads the executor's word that a task's process has ended a while after the task has deferred, and a task that
runs again by then is taken for failed (apache/airflow#71580, 3.3.2). On a quiet machine that takes 1 to 2 s. On a busy one it
took 5.4 s where the task had taken 4.3 s to begin; with 20 processes for two processors 4 s, and the task 32 s (run).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

LATEST_SECONDS = 60.0
_USUAL_SECONDS = 1.0  # of a process that has a processor to itself, and a DAG file of a few lines


def startup_of(context: Mapping[str, Any]) -> float:
    """The seconds that a task took from its process' start to its first line; 0 where Airflow does not say."""
    start = getattr(context.get("ti"), "start_date", None)
    return (datetime.now(UTC) - start).total_seconds() if isinstance(start, datetime) else 0.0


def deferral(startup: float) -> str:
    """The time from which a trigger holds its event, as text in ISO 8601: now, or later by what the task took to begin
    beyond the usual.

    :param startup: seconds, as `startup_of` tells.
    """
    late = min(max(startup - _USUAL_SECONDS, 0.0), LATEST_SECONDS)
    return (datetime.now(UTC) + timedelta(seconds=late)).isoformat()
