"""Between proof and hand-over: what ends in between is not handed on, closing is bounded, and quick deferrals are none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_brayns import (
    AllocateNodesOperator,
    BraynsServiceOperator,
    BraynsServiceSensor,
    StartBraynsServiceOperator,
)
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.services.waiting import Waiting
from airflow_brayns.task.handover import hand_on
from tests.support.local import HERE, SLOW, gone, release

pytestmark = pytest.mark.slow


def service(**arguments: Any) -> BraynsServiceOperator:
    return BraynsServiceOperator(**{"task_id": "task", "deferrable": False, **HERE, **arguments})


def processes(state: Path) -> list[int]:
    return [int(file.read_text()) for file in state.glob("*/*/services/*/pid")]


@pytest.fixture
def dies_while_closing(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """The first connection that is closed takes long over it, as far as the proof's age tells, and meanwhile something ends."""
    monkeypatch.setattr("airflow_brayns.task.handover._PROVEN_SECONDS", 0.0)
    monkeypatch.setattr("airflow_brayns.services.waiting._STILL_SECONDS", 0.5)
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


def test_the_last_look_shows_nothing_once_more(context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task's log showed a service's start, and what its job does, again before each hand-over."""
    monkeypatch.setattr("airflow_brayns.task.handover._PROVEN_SECONDS", 0.0)
    looks: list[object] = []
    still_there = Waiting.still_there

    async def counted(self: Waiting, *arguments: Any) -> Any:
        found = await still_there(self, *arguments)
        looks.append(found)
        return found

    monkeypatch.setattr(Waiting, "still_there", counted)
    with structlog.testing.capture_logs() as logged:
        service().execute(context)
    release(context, cluster)
    assert len(looks) == 1
    assert str(logged).count("Its start and its warnings are shown here") == 1
    assert str(logged).count("running on ") == 1


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
    monkeypatch.setattr("airflow_brayns.task.handover._PROVEN_SECONDS", 0.0)
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


@pytest.mark.parametrize("what", ["endpoint", "started"])
def test_what_a_sensor_found_is_as_old_as_its_proof_however_long_closing_takes(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Ten seconds could pass between proof and hand-over: five of closing did not count."""
    [endpoint] = service().execute(context)
    booking = {**context["ti"].xcom["allocation"], "services": ["brayns1"], "plugins": []}
    closed: list[datetime] = []
    close = Poller.close

    async def closing(self: Poller) -> None:
        closed.append(datetime.now(UTC))
        await close(self)

    monkeypatch.setattr(Poller, "close", closing)
    given: dict[str, Any] = {"endpoint": endpoint} if what == "endpoint" else {"started": booking}
    sensor = BraynsServiceSensor(task_id="wait", deferrable=False, **given, **HERE)
    event = sensor.block(sensor._look(sensor._trigger(), None))
    assert event is not None and datetime.fromisoformat(event["at"]) < closed[0]
    assert [one["endpoint"] for one in event["services"]] == [endpoint]
    release(context, cluster)


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


@pytest.mark.parametrize(
    ("log", "route", "told", "url"),
    [
        ("/gpfs/log", "direct", "tail -f /gpfs/log", "http://n1:5000/healthz"),
        (None, "direct", "", "http://n1:5000/healthz"),
        ("/gpfs/log", "ssh", "ssh login.site 'tail -f /gpfs/log'", ""),
    ],
)
def test_what_the_links_show_is_what_a_person_can_use(
    context: Any, monkeypatch: pytest.MonkeyPatch, log: str | None, route: str, told: str, url: str
) -> None:
    login = {"conn_type": "ssh", "host": "login.site", "login": "airflows-own"}
    monkeypatch.setenv("AIRFLOW_CONN_LOGIN", json.dumps(login))
    extra = {"route": route, **({"ssh_conn_id": "login"} if route != "direct" else {})}
    monkeypatch.setenv("AIRFLOW_CONN_LINKED", json.dumps({"conn_type": "brayns_cluster", "extra": extra}))
    operator = BraynsServiceOperator(task_id="task", cluster_conn_id="linked")
    hand_on(operator, context, [{"endpoint": "n1:5000", "version": "3.10.1", "generation": 3, "log": log}])
    xcom = context["ti"].xcom
    assert (xcom["brayns_log"], xcom["brayns_url"]) == (told, {"url": url})
    assert "airflows-own" not in xcom["brayns_tunnel"]
