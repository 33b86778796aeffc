"""A session holds what it was given for as long as it is there, and no longer."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_brayns import BraynsServiceOperator, BraynsSessionSensor, ReleaseNodesOperator
from tests.support.bounds import until
from tests.support.task import run_trigger

pytestmark = pytest.mark.slow

PLACE = {"cluster_conn_id": "here"}


@pytest.fixture
def held(context: Any, cluster: Any) -> Any:
    """The allocation of a running service; given back at the end."""
    BraynsServiceOperator(task_id="task", **PLACE).execute(context)
    yield context["ti"].xcom["allocation"]
    release(context)


def release(context: Any) -> None:
    ReleaseNodesOperator(task_id="release", allocated_by="task", **PLACE).execute(context)


def session(allocation: Any, **arguments: Any) -> BraynsSessionSensor:
    ends = datetime.now(UTC) + timedelta(seconds=arguments.pop("seconds", 3600))
    values = {"task_id": "keep", "allocation": allocation, "until": ends.isoformat(), "patience": 0, **PLACE}
    return BraynsSessionSensor(**{**values, **arguments})


def service_pid(allocation: dict[str, Any]) -> int:
    [one] = Path(allocation["allocations"][0]["folder"]).glob("services/*/pid")
    return int(one.read_text())


def deferred(sensor: BraynsSessionSensor, context: Any) -> dict[str, Any]:
    """What the trigger tells; the task holds no slot meanwhile."""
    with pytest.raises(TaskDeferred) as raised:
        sensor.execute(context)
    return run_trigger(raised.value)


def test_a_service_that_is_gone_ends_the_session_at_once(context: Any, held: Any) -> None:
    """The run went on for up to a day, and held the node."""
    sensor = session(held)
    threading.Timer(3, os.kill, (service_pid(held), signal.SIGKILL)).start()
    began = time.monotonic()
    event = deferred(sensor, context)
    assert time.monotonic() - began < 40
    with pytest.raises(
        AirflowFailException,
        match=r"(?s)^Start\s+a\s+new\s+session\.\s+brayns1 on slot1 has ended: .*signal\s+9.*Last lines of brayns1 on slot1",
    ):
        sensor.resume(context, event)


def test_a_job_that_ended_is_told(context: Any, held: Any) -> None:
    keeper = int(held["allocations"][0]["job_id"])
    os.kill(keeper, signal.SIGTERM)
    with pytest.raises(AirflowFailException, match=f"Job {keeper} ended"):
        session(held, deferrable=False).execute(context)


def test_given_back_by_hand_it_ends_well(context: Any, held: Any) -> None:
    """Its log went on promising an end."""
    threading.Timer(3, release, (context,)).start()
    sensor = session(held)
    event = deferred(sensor, context)
    assert event["status"] == "success"
    told = {"allocation": held["name"], "until": sensor.until}
    assert context["ti"].xcom["brayns_held"] == told, "the page shows it while it lasts"
    why = f"Job {held['allocations'][0]['job_id']} was given back."
    assert sensor.resume(context, event) == why
    assert context["ti"].xcom["brayns_held"] == {**told, "why": why}


def test_given_back_before_it_looked_it_ends_well(context: Any, held: Any) -> None:
    release(context)
    assert session(held, deferrable=False).execute(context).endswith("was given back.")


def test_its_time_is_over(context: Any, held: Any, cluster: Any) -> None:
    event = deferred(session(held, seconds=3), context)
    assert event["why"].startswith("The time is over (")
    assert cluster.running(), "it owns nothing; whoever allocated gives back"
    assert session(held, seconds=-5, patience=10).execute(context).startswith("The time is over (")


@pytest.mark.parametrize("text", ["soon", "2026-13-01", "7"])
def test_a_time_that_is_none_names_the_field(context: Any, cluster: Any, text: str) -> None:
    allocation = {"name": "ab-1", "allocations": [{"name": "ab-1", "incarnation": 1, "job_id": "7"}]}
    with pytest.raises(AirflowFailException, match=r"^until: must be a time such as"):
        session(allocation, until=text).execute(context)


def test_while_it_holds_the_service_counts_as_used(context: Any, cluster: Any) -> None:
    BraynsServiceOperator(task_id="task", idle_limit=6, **PLACE).execute(context)
    allocation = context["ti"].xcom["allocation"]
    assert session(allocation, seconds=14, deferrable=False).execute(context).startswith("The time is over")
    release(context)
    until(lambda: not cluster.running(), 20)


def test_what_the_worker_has_shown_the_trigger_does_not_show_again(
    context: Any, held: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log of the task has both; a worker's lines go another way here than a trigger's."""
    caplog.set_level(logging.INFO)
    capsys.readouterr()
    event = deferred(session(held, patience=2, seconds=6), context)
    assert event["status"] == "success"
    told = capsys.readouterr().out + caplog.text
    for once in ("Its start and its warnings are shown here", "Brayns version", "Server started", "running on"):
        assert told.count(once) == 1, once
