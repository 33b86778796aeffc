"""The triggers that wait: what they tell, and what they give back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog.testing

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.errors import ConnectionLost
from airflow_brayns.services.booking import Booking
from airflow_brayns.triggers import service as module
from airflow_brayns.triggers.events import _failure
from airflow_brayns.triggers.service import BraynsServiceTrigger, EndpointTrigger
from tests.support.scripted import Service as Scripted
from tests.support.scripted import serving
from tests.support.shell import FakeShell, look, service
from tests.support.task import Ti

NAME = "ab-0123456789ab000"
BOOKING = Booking(NAME[:-3], (Allocation(NAME, 1, "77", folder=f"/s/{NAME}/1"),)).to_json()


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> FakeShell:
    """What a Slurm cluster, connection `there`, is spoken to through."""
    one = FakeShell()
    for name, loaded in list(sys.modules.items()):
        if name.startswith("airflow_brayns.") and hasattr(loaded, "LocalShell"):
            monkeypatch.setattr(loaded, "LocalShell", type("LocalShell", (), {"__new__": lambda cls: one}))
    extra = {"scheduler": "slurm", "poll_interval": 1, "start_timeout": 20}
    monkeypatch.setenv("AIRFLOW_CONN_THERE", json.dumps({"conn_type": "brayns_cluster", "extra": extra}))
    return one


def waiting(**changes: Any) -> BraynsServiceTrigger:
    values: dict[str, Any] = {
        "cluster_conn_id": "there", "overrides": {}, "booking": BOOKING, "until": "nodes", "plugins": [], "services": None, "owner": "me",
        "since": (datetime.now(UTC) - timedelta(seconds=30)).isoformat(),
    }  # fmt: skip
    return BraynsServiceTrigger(**{**values, **changes})


async def only_event(trigger: Any) -> dict[str, Any]:
    async with asyncio.timeout(20):
        [payload] = [event.payload async for event in trigger.run()]
    return dict(payload)


def given_back(shell: FakeShell) -> list[str]:
    return [script.rsplit("\n", 1)[1] for script in shell.scripts if "\ncancel_all ab-" in script]


async def test_nodes_are_told_with_when_and_how_long_they_were_waited_for(shell: FakeShell) -> None:
    shell.answers = look(NAME, nodes=("n1", "n2"))
    event = await only_event(waiting())
    assert (event["status"], event["nodes"], event["booking"]) == ("success", ["n1", "n2"], BOOKING)
    assert abs((datetime.fromisoformat(event["at"]) - datetime.now(UTC)).total_seconds()) < 10
    assert given_back(shell) == []


async def test_what_the_log_has_shown_is_not_in_an_event(shell: FakeShell) -> None:
    """It was as of the deferral, and nobody read it."""
    shell.answers = look(NAME, nodes=("n1",))
    told = {
        "states": {f"{NAME}/1": "running on n1"},
        "lines": {f"{NAME}/1/brayns{number}": 5 for number in range(2000)},
    }
    trigger = waiting(booking={**BOOKING, "told": told})
    assert (await only_event(trigger))["booking"] == BOOKING
    assert _failure(trigger, ValueError("odd"))["booking"] == BOOKING
    assert trigger.serialize()[1]["booking"]["told"] == told, "another triggerer needs it"


@pytest.mark.parametrize("names", [None, ["brayns1"]])
async def test_services_are_told_as_the_next_task_needs_them(shell: FakeShell, names: list[str] | None) -> None:
    async with serving(Scripted()) as one:
        port = int(one.endpoint.rpartition(":")[2])
        listed = [service("brayns1", "127.0.0.1", port), *([service("other", "127.0.0.1")] if names else [])]
        shell.answers = look(NAME, nodes=("127.0.0.1",), services=listed)
        event = await only_event(waiting(until="services", services=names))
    [found] = event["services"]
    assert (found["endpoint"], found["service"], found["job_id"], found["generation"]) == (
        one.endpoint,
        "brayns1",
        "77",
        3,
    )
    assert 30 <= event["waits"]["brayns.queue_wait"] < 60


@pytest.mark.parametrize("kind", ["services", "endpoint"])
async def test_what_was_found_is_as_old_as_its_proof_however_long_closing_takes(
    shell: FakeShell, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    closed: list[datetime] = []
    close = Poller.close

    async def closing(self: Poller) -> None:
        closed.append(datetime.now(UTC))
        await close(self)

    monkeypatch.setattr(Poller, "close", closing)
    async with serving(Scripted()) as one:
        port = int(one.endpoint.rpartition(":")[2])
        shell.answers = look(NAME, nodes=("127.0.0.1",), services=[service("brayns1", "127.0.0.1", port)])
        trigger = EndpointTrigger(endpoint=one.endpoint, plugins=[], cluster_conn_id="there", overrides={})
        event = await only_event(waiting(until="services") if kind == "services" else trigger)
    assert datetime.fromisoformat(event["at"]) < closed[0]


@pytest.mark.parametrize(("owner", "cancels"), [("me", ["cancel_all ab-0123456789ab me"]), (None, [])])
async def test_a_wait_that_failed_gives_its_own_nodes_back_and_says_why(
    shell: FakeShell, owner: str | None, cancels: list[str]
) -> None:
    shell.answers = look(NAME, word="PENDING", reason="BadConstraints", nodes=())
    event = await only_event(waiting(owner=owner))
    assert event["status"] == "error"
    assert not event["retry"]
    assert event["booking"] == BOOKING
    assert "Slurm says BadConstraints" in event["message"]
    assert given_back(shell) == cancels


async def test_the_time_in_the_queue_counts_from_when_the_task_began_to_wait(shell: FakeShell) -> None:
    """Not from when a triggerer took it over."""
    shell.answers = look(NAME, word="PENDING", nodes=())
    event = await only_event(waiting(overrides={"queue_timeout": 20}))
    assert "job 77 still waited after 20 s" in event["message"]
    assert event["retry"]


async def test_what_cannot_be_given_back_now_is_the_keepers(shell: FakeShell, caplog: pytest.LogCaptureFixture) -> None:
    def answer(script: str) -> str | BaseException:
        return ConnectionLost("cut") if "\ncancel_all ab-" in script else look(NAME, word="", more="gone")

    shell.answers = answer
    event = await only_event(waiting())
    assert "has gone" in event["message"]


@pytest.mark.parametrize(
    ("states", "cancels"),
    [({"deferred"}, 0), ({"success"}, 1), (set(), 1), (RuntimeError("no API server"), 1)],
    ids=["moved to another triggerer", "marked", "cleared", "not known"],
)
async def test_a_task_that_was_ended_gives_its_nodes_back_and_one_that_only_moves_keeps_them(
    shell: FakeShell, monkeypatch: pytest.MonkeyPatch, states: Any, cancels: int
) -> None:
    def states_of(ti: Any) -> set[str]:
        if isinstance(states, BaseException):
            raise states
        return set(states)

    monkeypatch.setattr(module, "states_of", states_of)
    trigger = waiting()
    trigger.task_instance = Ti()
    await trigger.on_kill()
    assert len(given_back(shell)) == cancels


async def test_giving_back_goes_on_though_it_is_cancelled(shell: FakeShell) -> None:
    """The triggerer cancels again every few seconds, and then closes the task's log: what happens is in it by then."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(script: str) -> str:
        begun.set()
        await go_on.wait()
        return f"cancelled {NAME} 1\n"

    shell.answers = slow
    with structlog.testing.capture_logs() as logged:
        killing = asyncio.create_task(waiting().on_kill())
        await begun.wait()
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing
    assert "told to stop: its nodes are given back" in str(logged)
    [work] = module._at_work
    go_on.set()
    await work
    assert len(given_back(shell)) == 1
    assert not module._at_work


@pytest.mark.parametrize(("ti", "cancels"), [(None, 1), (Ti(), 0)], ids=["dags test", "triggerer"])
async def test_control_c_where_there_is_no_triggerer_gives_the_nodes_back(
    shell: FakeShell, ti: Any, cancels: int
) -> None:
    looked = asyncio.Event()

    def answer(_: str) -> str:
        looked.set()
        return look(NAME, word="PENDING", nodes=())

    shell.answers = answer
    trigger = waiting()
    trigger.task_instance = ti
    running = asyncio.create_task(only_event(trigger))
    await looked.wait()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(given_back(shell)) == cancels


# ---- an endpoint that somebody typed in --------------------------------------------------------------------------------
def endpoint(at: str, **changes: Any) -> EndpointTrigger:
    values: dict[str, Any] = {
        "endpoint": at,
        "plugins": [],
        "cluster_conn_id": "there",
        "overrides": {"route": "direct"},
    }
    return EndpointTrigger(**{**values, **changes})


async def test_an_endpoint_that_is_usable_is_told_as_a_service_of_no_job(shell: FakeShell) -> None:
    async with serving(Scripted()) as one:
        event = await only_event(endpoint(one.endpoint))
    assert event["status"] == "success"
    assert event["services"] == [
        {"endpoint": one.endpoint, "node": "127.0.0.1", "job_id": None, "service": None, "version": "3.10.1", "plugins": [], "generation": 3,
         "log": None, "ends_at": None},
    ]  # fmt: skip


async def test_an_endpoint_that_never_answers_is_told_with_the_last_reason(
    shell: FakeShell, unused_tcp_port_factory: Callable[[], int]
) -> None:
    event = await only_event(
        endpoint(f"127.0.0.1:{unused_tcp_port_factory()}", overrides={"route": "direct", "start_timeout": 0.2})
    )
    assert (event["status"], event["retry"]) == ("error", True)
    assert "was not usable within 0 s: TCP: " in event["message"]


async def test_a_plugin_that_it_lacks_is_told_at_once(shell: FakeShell) -> None:
    async with serving(Scripted()) as one:
        event = await only_event(endpoint(one.endpoint, plugins=["circuits"]))
    assert (event["status"], event["retry"]) == ("error", False)
    assert "runs without circuits" in event["message"]
