"""A task that is told to stop, or is wanted no more, gives its nodes back; a next try that comes finds them."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, TaskDeferred

from airflow_brayns import BraynsServiceOperator
from tests.support.local import HERE, SLOW, gone, release

pytestmark = pytest.mark.slow


def service(**arguments: Any) -> BraynsServiceOperator:
    return BraynsServiceOperator(**{"task_id": "task", "deferrable": False, **HERE, **arguments})


@pytest.mark.parametrize("state_of_task", ["up_for_retry", "scheduled", "queued", "restarting"])
def test_told_to_stop_while_its_next_try_comes_it_keeps_the_nodes(
    context: Any, cluster: Any, state: Path, monkeypatch: pytest.MonkeyPatch, state_of_task: str
) -> None:
    monkeypatch.setattr("airflow_brayns.task.allocating.states_of", lambda ti: {"running"})
    with pytest.raises(TaskDeferred):
        service(deferrable=True, patience=0).execute(context)
    event = {"status": "success", "at": None, "services": [],
             "booking": {name: context["ti"].xcom["allocation"][name] for name in ("name", "allocations")}}  # fmt: skip
    monkeypatch.setattr("airflow_brayns.task.allocating.states_of", lambda ti: {state_of_task})
    operator = service(deferrable=True, retry_delay=timedelta(seconds=5))
    with pytest.raises(AirflowException, match="next try finds the nodes"):
        operator.resume(context, event=event)
    assert cluster.running()
    context["ti"].id = "the-next-try"
    monkeypatch.setattr("airflow_brayns.task.allocating.states_of", lambda ti: {"running"})
    assert service().execute(context)
    assert len(list(state.glob("ab-*/*"))) == 1, "it has adopted them"
    release(context, cluster)


@pytest.mark.parametrize(
    ("state_of_task", "retry_delay", "kept"),
    [
        ("up_for_retry", 5, True),
        ("up_for_retry", 7200, False),
        ("failed", 5, False),
        ("success", 5, False),
        ("", 5, False),
    ],
)
def test_killed_while_it_waits_it_looks_at_what_airflow_says(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch, state_of_task: str, retry_delay: int, kept: bool
) -> None:
    """With a next try that comes later than `idle_limit`, the nodes would only be held for nothing."""
    monkeypatch.setattr(
        "airflow_brayns.task.allocating.states_of", lambda ti: {state_of_task} if state_of_task else set()
    )
    operator = service(retry_delay=timedelta(seconds=retry_delay), **SLOW)
    threading.Timer(2, operator.on_kill).start()
    says = "next try finds the nodes" if kept else "what it had allocated was given back"
    with pytest.raises(AirflowException, match=says):
        operator.execute(context)
    if kept:
        assert cluster.running()
        release(context, cluster)
    assert gone(cluster)


def test_told_to_stop_while_it_gives_back_it_goes_on_giving_back(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marked failed while it waited in the worker, the task saw it a moment before Airflow told it, and the telling stopped
    the giving back: four jobs stayed in the queue.
    """
    operator = service()
    operator.execute(context)
    give_back = operator.give_back

    async def told_meanwhile(*arguments: Any) -> None:
        operator.on_kill()
        operator.on_kill()
        await asyncio.sleep(0.2)
        await give_back(*arguments)

    monkeypatch.setattr(operator, "give_back", told_meanwhile)
    operator.give_back_now(context)
    assert gone(cluster)


async def test_told_twice_it_is_stopped_once(context: Any) -> None:
    """The second time it gives back already."""
    operator = service()

    async def main() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            operator._stop(task)
            await asyncio.sleep(0.1)
            return "given back"
        return "not stopped"

    task = asyncio.create_task(main())
    await asyncio.sleep(0)
    operator._stop(task)
    assert await task == "given back"


def test_killed_while_airflow_does_not_answer_it_gives_back_in_time(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow kills it 5 s after it was told."""
    silent = threading.Event()
    monkeypatch.setattr("airflow_brayns.task.allocating.states_of", lambda ti: silent.wait(20) and set())
    operator = service(**SLOW)
    threading.Timer(2, operator.on_kill).start()
    began = time.monotonic()
    try:
        with pytest.raises(AirflowException, match="what it had allocated was given back"):
            operator.execute(context)
        assert time.monotonic() - began < 2 + 5
    finally:
        silent.set()
    assert gone(cluster)
