"""Between proof and hand-over: what ends in between is not handed on, closing is bounded, and quick deferrals are none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_brayns import (
    AllocateNodesOperator,
    BraynsServiceOperator,
    BraynsServiceSensor,
    ReleaseNodesOperator,
    StartBraynsServiceOperator,
)
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.operators import blocking
from airflow_brayns.triggers.service import BraynsServiceTrigger, EndpointTrigger

pytestmark = pytest.mark.slow

HERE = {"cluster_conn_id": "here"}
SLOW = {"environment": {"BRAYNS_EMULATOR": "start_seconds=60"}}


def service(**arguments: Any) -> BraynsServiceOperator:
    return BraynsServiceOperator(**{"task_id": "task", "deferrable": False, **HERE, **arguments})


def gone(cluster: Any, seconds: float = 16) -> bool:
    deadline = time.monotonic() + seconds
    while cluster.running() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not cluster.running()


def release(context: Any, cluster: Any) -> None:
    ReleaseNodesOperator(task_id="release", allocated_by="task", **HERE).execute(context)
    assert gone(cluster)


def processes(state: Path) -> list[int]:
    return [int(file.read_text()) for file in state.glob("*/*/services/*/pid")]


@pytest.fixture
def dies_while_closing(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """The first connection that is closed takes long over it, as far as the proof's age tells, and meanwhile something ends."""
    monkeypatch.setattr("airflow_brayns.operators.cluster._PROVEN_SECONDS", 0.0)
    monkeypatch.setattr("airflow_brayns.follow._STILL_SECONDS", 0.5)
    monkeypatch.setattr("airflow_brayns.sensors.service.STILL_SECONDS", 0.5)
    to_do: list[Callable[[], None]] = []
    close = Poller.close

    async def closing(self: Poller) -> None:
        await close(self)
        while to_do:
            to_do.pop()()

    monkeypatch.setattr(Poller, "close", closing)
    return to_do


def kill_service(state: Path) -> None:
    for pid in processes(state):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 8
    while not list(state.glob("*/*/services/*/exit")) and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize("way", ["blocking", "patient", "adopted"])
def test_a_service_that_died_while_the_connection_was_closed_is_not_handed_on(
    context: Any, cluster: Any, state: Path, dies_while_closing: list[Callable[[], None]], way: str
) -> None:
    if way == "adopted":
        service().execute(context)
        context["ti"].xcom.pop("endpoint")
    dies_while_closing.append(lambda: kill_service(state))
    operator = service(deferrable=True, patience=30) if way == "patient" else service()
    with pytest.raises(AirflowException, match="exit code 137|exited with 137") as raised:
        operator.execute(context)
    assert not isinstance(raised.value, AirflowFailException), "a retry allocates anew"
    assert "endpoint" not in context["ti"].xcom
    assert gone(cluster)


def test_nodes_that_went_while_the_connection_was_closed_are_not_handed_on(
    context: Any, cluster: Any, state: Path, dies_while_closing: list[Callable[[], None]]
) -> None:
    def end() -> None:
        [folder] = state.glob("*/1")
        (folder / "release").touch()
        assert gone(cluster)

    dies_while_closing.append(end)
    with pytest.raises(AirflowException, match="ended"):
        AllocateNodesOperator(task_id="task", deferrable=False, **HERE).execute(context)


def test_the_sensor_hands_on_nothing_that_died_while_it_closed(
    context: Any, cluster: Any, state: Path, dies_while_closing: list[Callable[[], None]]
) -> None:
    allocation = AllocateNodesOperator(task_id="task", deferrable=False, **HERE).execute(context)
    started = StartBraynsServiceOperator(task_id="start", allocation=allocation, **HERE).execute(context)
    dies_while_closing.append(lambda: kill_service(state))
    with pytest.raises(AirflowException, match="exit code 137|exited with 137"):
        BraynsServiceSensor(task_id="wait", started=started, deferrable=False, **HERE).execute(context)
    assert "endpoint" not in context["ti"].xcom
    release(context, cluster)


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_endpoint_typed_in_is_asked_once_more(
    context: Any, cluster: Any, emulator: Any, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    monkeypatch.setattr("airflow_brayns.operators.cluster._PROVEN_SECONDS", 0.0)
    monkeypatch.setattr("airflow_brayns.sensors.service.STILL_SECONDS", 0.5)
    one = emulator()
    sensor = BraynsServiceSensor(
        task_id="wait", endpoint=one.endpoint, deferrable=deferrable, patience=0, poll_interval=0.2, **HERE
    )
    event = {"status": "success", "services": [{"endpoint": one.endpoint, "plugins": [], "version": "3.10.1"}]}
    assert sensor.resume(context, event) == [one.endpoint], "it is there"
    context["ti"].xcom.clear()
    if deferrable:
        one.kill()
        with pytest.raises(AirflowException, match="was usable, and does not answer any more"):
            sensor.resume(context, event)
    else:
        look = sensor._look

        async def then_it_dies(*arguments: Any) -> Any:
            found = await look(*arguments)
            one.kill()
            return found

        monkeypatch.setattr(sensor, "_look", then_it_dies)
        with pytest.raises(AirflowException, match="was usable, and does not answer any more"):
            sensor.execute(context)
    assert "endpoint" not in context["ti"].xcom


def test_a_connection_that_cannot_be_closed_delays_nothing(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_brayns.cluster.poller._CLOSE_SECONDS", 0.5)

    async def hang(self: LocalShell) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(LocalShell, "close", hang)
    began = time.monotonic()
    assert service().execute(context)
    assert time.monotonic() - began < 20
    release(context, cluster)


def test_the_end_of_a_loop_waits_for_nothing_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """`asyncio.run` would wait for a thread that looks up a name, and for whoever does not heed its cancel."""
    monkeypatch.setattr(blocking, "CLOSE_SECONDS", 0.3)
    let_go = threading.Event()

    async def deaf() -> None:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)

    async def main(keep: list[Any]) -> str:
        keep.append(asyncio.create_task(deaf()))
        keep.append(asyncio.ensure_future(asyncio.to_thread(let_go.wait, 30)))
        await asyncio.sleep(0.1)
        return "proved"

    try:
        began = time.monotonic()
        assert blocking.run(main([])) == "proved"
        assert time.monotonic() - began < 10
    finally:
        let_go.set()


def test_a_loop_that_ends_in_order_is_closed_with_its_tasks_ended() -> None:
    ended = []

    async def other() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("task")

    async def main(keep: list[Any]) -> None:
        keep.append(asyncio.create_task(other()))
        await asyncio.sleep(0)
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        blocking.run(main([]))
    assert ended == ["task"]


# ---- deferrals that are too quick for Airflow's scheduler ------------------------------------------------------------
def test_what_comes_at_once_needs_no_deferral(context: Any, cluster: Any) -> None:
    [endpoint] = service(deferrable=True, patience=30).execute(context)
    assert context["ti"].xcom["endpoint"] == endpoint
    [same] = BraynsServiceSensor(
        task_id="wait", endpoint=endpoint, deferrable=True, patience=timedelta(seconds=30), **HERE
    ).execute(context)
    assert same == endpoint
    release(context, cluster)
    nodes = AllocateNodesOperator(task_id="task", deferrable=True, patience=30, **HERE).execute(context)["nodes"]
    assert nodes == ["slot1"]
    release(context, cluster)


def test_what_does_not_come_at_once_is_awaited_in_the_triggerer(context: Any, cluster: Any) -> None:
    before = datetime.now(UTC)
    with pytest.raises(TaskDeferred) as deferred:
        service(deferrable=True, patience=1, **SLOW).execute(context)
    _, arguments = deferred.value.trigger.serialize()
    waited = datetime.fromisoformat(arguments["deferred_at"]) - before
    assert waited >= timedelta(seconds=1)
    assert datetime.fromisoformat(arguments["since"]) - before < waited, "queue_timeout counts from the beginning"
    assert cluster.running()
    release(context, cluster)


@pytest.mark.parametrize("patience", [-1, 61, "soon", float("nan")])
def test_a_patience_that_cannot_be_names_the_field(context: Any, cluster: Any, state: Path, patience: Any) -> None:
    with pytest.raises(AirflowFailException, match="patience: "):
        service(deferrable=True, patience=patience).execute(context)
    assert not state.exists()


def trigger(kind: str, **changes: Any) -> Any:
    """As the triggerer makes it: of what was serialised."""
    one: BraynsServiceTrigger | EndpointTrigger
    if kind == "endpoint":
        one = EndpointTrigger(endpoint="127.0.0.1:1", plugins=[], cluster_conn_id="here",
                              overrides={"start_timeout": 0.1}, **changes)  # fmt: skip
    else:
        one = BraynsServiceTrigger(cluster_conn_id="nowhere", overrides={}, booking={"name": "ab-0", "allocations": []},
                                   until="nodes", plugins=[], services=None, owner=None, since="2026-01-01T00:00:00+00:00",
                                   **changes)  # fmt: skip
    path, arguments = one.serialize()
    return import_string(path)(**json.loads(json.dumps(arguments)))


async def seconds_to_event(one: Any) -> float:
    began = time.monotonic()
    async for event in one.run():
        assert event.payload["status"] == "error"
        break
    return time.monotonic() - began


@pytest.mark.parametrize("kind", ["endpoint", "booking"])
def test_an_event_that_comes_right_after_the_deferral_is_held(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("airflow_brayns.triggers.service.HOLD_SECONDS", 3.0)
    now = datetime.now(UTC)
    held = asyncio.run(seconds_to_event(trigger(kind, deferred_at=now.isoformat())))
    assert held > 2
    long_ago = (now - timedelta(hours=1)).isoformat()
    assert asyncio.run(seconds_to_event(trigger(kind, deferred_at=long_ago))) < 2
    assert asyncio.run(seconds_to_event(trigger(kind))) < 2, "as an older version has serialised it"
    assert "deferred_at" not in trigger(kind).serialize()[1], "so that an older triggerer takes it"


# ---- a next try that finds the nodes ---------------------------------------------------------------------------------
@pytest.mark.parametrize("state_of_task", ["up_for_retry", "scheduled", "queued", "restarting"])
def test_told_to_stop_while_its_next_try_comes_it_keeps_the_nodes(
    context: Any, cluster: Any, state: Path, monkeypatch: pytest.MonkeyPatch, state_of_task: str
) -> None:
    monkeypatch.setattr("airflow_brayns.operators.cluster.states_of", lambda ti: {"running"})
    with pytest.raises(TaskDeferred):
        service(deferrable=True, patience=0).execute(context)
    event = {"status": "success", "at": None, "services": [],
             "booking": {name: context["ti"].xcom["allocation"][name] for name in ("name", "allocations")}}  # fmt: skip
    monkeypatch.setattr("airflow_brayns.operators.cluster.states_of", lambda ti: {state_of_task})
    operator = service(deferrable=True, retry_delay=timedelta(seconds=5))
    with pytest.raises(AirflowException, match="next try finds the nodes"):
        operator.resume(context, event=event)
    assert cluster.running()
    context["ti"].id = "the-next-try"
    monkeypatch.setattr("airflow_brayns.operators.cluster.states_of", lambda ti: {"running"})
    assert service().execute(context)
    assert len(list(state.glob("*/*"))) == 1, "it has adopted them"
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
        "airflow_brayns.operators.cluster.states_of", lambda ti: {state_of_task} if state_of_task else set()
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
    monkeypatch.setattr("airflow_brayns.operators.cluster.states_of", lambda ti: silent.wait(20) and set())
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
