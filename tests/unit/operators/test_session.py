"""A session gets more time when somebody clears a task: once, however often, and never what is over."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_brayns import BraynsServiceOperator, BraynsSessionSensor, ExtendSessionOperator, ReleaseNodesOperator
from airflow_brayns.cluster.extension import Granted
from airflow_brayns.errors import AllocationLost, BraynsError, ConnectionLost, SubmissionLimited, SubmissionRefused
from airflow_brayns.operators import session
from airflow_brayns.services.extending import Extended
from tests.support.bounds import until

PLACE = {"cluster_conn_id": "here"}
ALLOCATION = {"name": "ab-1", "allocations": [{"name": "ab-1000", "incarnation": 1, "job_id": "7"}]}
OFFER = {"allocation": "ab-1", "jobs": ["7"], "minutes": 60}


class Store(dict[str, Any]):
    """The task's state store, which outlives a clear."""

    set = dict.__setitem__


@pytest.fixture
def context(context: Any) -> Any:
    return {**context, "task_state_store": Store()}


def extending(**arguments: Any) -> ExtendSessionOperator:
    values = {"task_id": "extend", "allocation": ALLOCATION, "minutes": 60, **PLACE, **arguments}
    return ExtendSessionOperator(**values)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the cluster is asked for; it answers what a test puts first, or raises it."""
    answers: list[Any] = []

    async def answer(*arguments: Any) -> list[Extended]:
        found = answers.pop(0)
        answers.append(arguments[1:])
        if isinstance(found, BraynsError):
            raise found
        return list(found)

    monkeypatch.setattr(session, "extend", answer)
    return answers


def test_at_first_it_only_tells_that_it_may_be_cleared(context: Any, cluster: Any, asked: list[Any]) -> None:
    assert extending().execute(context) == OFFER
    assert context["task_state_store"] == {"brayns_extension": OFFER}
    assert asked == []


@pytest.mark.parametrize(
    ("found", "how"),
    [
        (Extended(Granted.ROOM, "7"), {"how": "room"}),
        (Extended(Granted.RAISED, "7"), {"how": "raised"}),
        (Extended(Granted.REFUSED, "8", "denied"), {"how": "follow_on", "following": ["8"], "why": "denied"}),
        (Extended(Granted.WAITS, "8"), {"how": "follow_on", "following": ["8"], "why": ""}),
    ],
)
def test_cleared_it_asks_for_as_long_from_now_and_tells_what_came_of_it(
    context: Any, cluster: Any, asked: list[Any], found: Extended, how: dict[str, Any]
) -> None:
    extending().execute(context)
    asked.append([found])
    told = extending().execute(context)
    [(booking, owner, seconds, ends)] = asked
    assert (booking.name, seconds, owner.token) == ("ab-1", 3600, str(context["ti"].id))
    assert abs(ends - datetime.now(UTC) - timedelta(hours=1)) < timedelta(seconds=30)
    expected = how if "following" in how else {**how, "until": ends.isoformat()}
    assert told == {**OFFER, "at": told["at"], **expected}
    assert context["task_state_store"] == {"brayns_extension": told}


def test_for_another_booking_it_is_a_first_time(context: Any, cluster: Any, asked: list[Any]) -> None:
    """The whole run was cleared: nobody asked for more time."""
    extending().execute(context)
    other = {**ALLOCATION, "allocations": [{"name": "ab-1000", "incarnation": 2, "job_id": "9"}]}
    assert "how" not in extending(allocation=other).execute(context)
    assert asked == []


@pytest.mark.parametrize(
    "error",
    [
        AllocationLost("it was given back", retry=False),
        SubmissionRefused("no such account"),
        SubmissionLimited("AssocMaxSubmitJobLimit"),
    ],
)
def test_what_cannot_be_extended_is_told_and_does_not_fail_the_run(
    context: Any, cluster: Any, asked: list[Any], error: BraynsError
) -> None:
    extending().execute(context)
    asked.append(error)
    with pytest.raises(AirflowSkipException, match=error.why):
        extending().execute(context)
    kept = context["task_state_store"]["brayns_extension"]
    assert (kept["how"], kept["why"]) == ("refused", error.why)


def test_what_may_pass_is_tried_again(context: Any, cluster: Any, asked: list[Any]) -> None:
    extending().execute(context)
    for error in (ConnectionLost("the login node is off"), SubmissionRefused("at a limit", retry=True)):
        asked[:] = [error]
        with pytest.raises(Exception, match=error.why) as raised:
            extending().execute(context)
        assert not isinstance(raised.value, AirflowSkipException | AirflowFailException)
        assert context["task_state_store"] == {"brayns_extension": OFFER}, "it may be asked again"


@pytest.mark.parametrize("minutes", [0, 1421, "x", 2.5])
def test_minutes_that_are_none_name_the_field(context: Any, cluster: Any, minutes: Any) -> None:
    with pytest.raises(AirflowFailException, match=r"^minutes: "):
        extending(minutes=minutes).execute(context)


# ---- a real session on this machine ------------------------------------------------------------------------------------
@pytest.fixture
def held(context: Any, cluster: Any) -> Iterator[Any]:
    """The allocation of a running service; given back at the end, with what follows on."""
    BraynsServiceOperator(task_id="task", time_limit=2, **PLACE).execute(context)
    yield context["ti"].xcom["allocation"]
    ReleaseNodesOperator(task_id="release", allocated_by="task", **PLACE).execute(context)


class Keeping(threading.Thread):
    """A session that is held until a time."""

    def __init__(self, context: Any, allocation: Any, seconds: float) -> None:
        super().__init__()
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        values = {"allocation": allocation, "until": ends.isoformat(), "deferrable": False, **PLACE}
        self._sensor, self._context = BraynsSessionSensor(task_id="keep", **values), context
        self.why, self.ended_at = "", 0.0
        self.start()

    def run(self) -> None:
        try:
            self.why = self._sensor.execute(self._context)
        except Exception as error:
            self.why = f"{type(error).__name__}: {error}"
        self.ended_at = time.monotonic()

    def told(self) -> dict[str, Any]:
        return dict(self._context["ti"].xcom.get("brayns_held", {}))


@pytest.mark.slow
def test_a_session_that_got_more_time_goes_on_behind_its_first_end(context: Any, held: Any) -> None:
    extending(allocation=held, minutes=4).execute(context)
    keeping = Keeping(context, held, 25)
    began = time.monotonic()
    told = extending(allocation=held, minutes=4).execute(context)
    assert told["how"] == "raised", "the job had two minutes"
    until(lambda: keeping.told().get("until") == told["until"], 20)
    keeping.join(max(0.0, 30 - (time.monotonic() - began)))
    assert keeping.is_alive()
    assert extending(allocation=held, minutes=1).execute(context)["how"] == "room"
    ReleaseNodesOperator(task_id="release", allocated_by="task", **PLACE).execute(context)
    keeping.join(30)
    assert keeping.why.endswith("was given back.")
    with pytest.raises(AirflowSkipException, match="nothing left to give more time to"):
        extending(allocation=held, minutes=4).execute(context)


@pytest.mark.slow
def test_where_the_limit_is_not_raised_what_follows_on_takes_over(context: Any, held: Any, cluster: Any) -> None:
    folder = Path(held["allocations"][0]["folder"])
    (folder / "limit").mkdir()  # a keeper that knows of no other limit, as Slurm's as a rule is
    extending(allocation=held, minutes=4).execute(context)
    keeping = Keeping(context, held, 40)
    told = extending(allocation=held, minutes=4, time_limit=2, **{}).execute(context)
    assert (told["how"], len(told["following"])) == ("follow_on", 1)
    again = extending(allocation=held, minutes=1, time_limit=2).execute(context)
    assert again["how"] == "room", "what follows on has begun, and has the time"
    assert not (folder.parent / "3").exists(), "no second one"
    until(lambda: keeping.told().get("services"), 60)
    [service] = keeping.told()["services"]
    assert (service["job_id"], service["service"]) == (told["following"][0], "brayns1")
    os.kill(int(held["allocations"][0]["job_id"]), signal.SIGTERM)  # as at its time limit
    until(lambda: (folder / "ended").exists(), 30)
    keeping.join(5)
    assert keeping.is_alive(), keeping.why
    ReleaseNodesOperator(task_id="release", allocated_by="task", **PLACE).execute(context)
    keeping.join(30)
    assert keeping.why.endswith("was given back.")
