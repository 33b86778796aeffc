"""A trigger holds its event the longer, the longer its task took to begin: the scheduler is late, too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_brayns.task.lateness import LATEST_SECONDS, deferral, startup_of
from tests.support.local import SLOW, release
from tests.unit.task.test_handover import service


@pytest.mark.parametrize(("startup", "later"), [(0, 0), (0.9, 0), (4.3, 3.3), (32, 31), (9999, LATEST_SECONDS)])
def test_what_a_task_took_to_begin_beyond_the_usual_is_added(startup: float, later: float) -> None:
    before = datetime.now(UTC)
    assert 0 <= (datetime.fromisoformat(deferral(startup)) - before).total_seconds() - later < 1


def test_without_a_start_nothing_is_added() -> None:
    assert startup_of({}) == startup_of({"ti": SimpleNamespace(start_date=None)}) == 0
    assert startup_of({"ti": SimpleNamespace(start_date=datetime.now(UTC) - timedelta(seconds=7))}) >= 7


@pytest.mark.slow
def test_a_task_that_began_late_defers_so(context: Any, cluster: Any) -> None:
    context["ti"].start_date = datetime.now(UTC) - timedelta(seconds=35)
    task = service(deferrable=True, patience=0, **SLOW)
    task.pre_execute(context)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    told = datetime.fromisoformat(deferred.value.trigger.serialize()[1]["deferred_at"])
    assert (told - datetime.now(UTC)).total_seconds() > 20
    release(context, cluster)
