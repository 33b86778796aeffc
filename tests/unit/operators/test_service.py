from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.bases.operator import TriggerFailureReason
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    TaskDeferralTimeout,
    TaskDeferred,
)

from airflow_brayns import (
    AllocateNodesOperator,
    BraynsServiceOperator,
    BraynsServiceSensor,
    ReleaseNodesOperator,
    StartBraynsServiceOperator,
    StopBraynsServiceOperator,
)
from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import probe
from airflow_brayns.task.fields import word_list
from tests.support.local import gone
from tests.support.task import NAME_OF_EMULATOR, run_trigger

pytestmark = pytest.mark.slow

PLUGIN = "braynsCircuitExplorer"
CONTRACT = {"endpoint", "node", "job_id", "service", "version", "plugins", "generation", "log", "ends_at"}


def service(**arguments: Any) -> BraynsServiceOperator:
    values = {"task_id": "task", "cluster_conn_id": "here", "plugins": [PLUGIN], "deferrable": False, "patience": 0}
    return BraynsServiceOperator(**{**values, **arguments})


def release(context: Any, cluster: Any) -> None:
    ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocated_by="task").execute(context)
    assert not cluster.running()


def test_the_contract_of_xcom(context: Any, cluster: Any) -> None:
    endpoints = service(nodes=2).execute(context)
    pushed = context["ti"].xcom
    assert len(endpoints) == 2
    assert pushed["endpoint"] == endpoints[0]
    assert [one["endpoint"] for one in pushed["services"]] == endpoints
    assert all(set(one) == CONTRACT for one in pushed["services"])
    assert [one["node"] for one in pushed["services"]] == ["slot1", "slot2"]
    assert pushed["services"][0]["plugins"] == [PLUGIN]
    for endpoint in endpoints:
        asyncio.run(probe(Endpoint.parse(endpoint), [PLUGIN]))
    release(context, cluster)
    release(context, cluster)


def test_deferred_it_does_the_same(context: Any, cluster: Any) -> None:
    operator = service(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    event = run_trigger(deferred.value)
    endpoints = service(deferrable=True).resume(context, event=event)
    assert endpoints == [context["ti"].xcom["endpoint"]]
    release(context, cluster)


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("at", ["2026-01-01T00:00:00+00:00", None])
def test_what_ended_while_no_worker_was_free_is_not_handed_on(
    context: Any, cluster: Any, at: str | None, stopped: bool
) -> None:
    """Its port may be another's by then; a worker can take minutes to come. Events of an older version know no time."""
    with pytest.raises(TaskDeferred) as deferred:
        service(deferrable=True).execute(context)
    event = run_trigger(deferred.value) | {"at": at}
    assert service(deferrable=True).resume(context, event=event) == [context["ti"].xcom["endpoint"]], "it is there"
    context["ti"].xcom.pop("endpoint")
    end_service(event["booking"], stopped)
    with pytest.raises(AirflowException, match="was stopped" if stopped else "exit code") as raised:
        service(deferrable=True).resume(context, event=event)
    assert not isinstance(raised.value, AirflowFailException), "a retry allocates anew"
    assert "endpoint" not in context["ti"].xcom
    assert gone(cluster)


def test_the_sensor_hands_on_nothing_that_has_ended(context: Any, cluster: Any) -> None:
    booking = AllocateNodesOperator(task_id="task", cluster_conn_id="here", deferrable=False).execute(context)
    started = StartBraynsServiceOperator(task_id="start", cluster_conn_id="here", allocation=booking).execute(context)
    sensor = BraynsServiceSensor(task_id="wait", cluster_conn_id="here", started=started, deferrable=True, patience=0)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    event = run_trigger(deferred.value) | {"at": "2026-01-01T00:00:00+00:00"}
    assert sensor.resume(context, event=event)
    end_service(booking)
    with pytest.raises(AirflowException, match="exit code"):
        sensor.resume(context, event=event)
    release(context, cluster)


def test_what_does_not_answer_any_more_is_not_handed_on(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is switched off writes nothing, and Slurm has its job running for minutes: only asking tells (seen)."""
    monkeypatch.setattr("airflow_brayns.services.waiting._STILL_SECONDS", 0.3)
    monkeypatch.setattr("airflow_brayns.brayns.readiness.RUNG_SECONDS", 0.5)
    with pytest.raises(TaskDeferred) as deferred:
        service(deferrable=True).execute(context)
    event = run_trigger(deferred.value) | {"at": None}
    [folder] = Path(event["booking"]["allocations"][0]["folder"]).glob("services/*")
    process = int((folder / "pid").read_text())
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(
            AirflowException, match=r"brayns1 on slot1 was usable, and does not answer any more: "
        ) as raised:
            service(deferrable=True).resume(context, event=event)
    finally:
        os.kill(process, signal.SIGCONT)
    assert not isinstance(raised.value, AirflowFailException), "a retry allocates anew"
    assert "endpoint" not in context["ti"].xcom
    assert gone(cluster)


def end_service(booking: dict[str, Any], stopped: bool = False) -> None:
    """By SIGKILL, or as `StopBraynsServiceOperator` does; returns when its wrapper has written it down."""
    [folder] = Path(booking["allocations"][0]["folder"]).glob("services/*")
    if stopped:
        (folder / "stop").touch()
    else:
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    deadline = time.monotonic() + 8
    while not (folder / "exit").exists() and time.monotonic() < deadline:
        time.sleep(0.1)


def test_a_retry_finds_the_running_service(context: Any, cluster: Any) -> None:
    first = service().execute(context)
    job = context["ti"].xcom["services"][0]["job_id"]
    second = service().execute(context)
    assert (second, context["ti"].xcom["services"][0]["job_id"]) == (first, job)
    release(context, cluster)


@pytest.mark.parametrize("marked", ["failed", "success", ""])
def test_marked_while_it_ran_it_gives_back_instead_of_handing_on(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch, marked: str
) -> None:
    """Airflow refuses the success of a task that was marked a moment ago, calls no on_kill, and runs no teardown."""
    monkeypatch.setattr("airflow_brayns.task.allocating.states_of", lambda ti: {marked} if marked else set())
    with pytest.raises(AirflowException, match=f"is {marked or 'deleted'} by now"):
        service().execute(context)
    assert gone(cluster)


@pytest.mark.parametrize(
    ("changes", "says", "error"),
    [
        ({"plugins": ["nope"]}, "plugins: .*'nope'", AirflowFailException),
        ({"plugins": [""]}, "plugins", AirflowFailException),
        ({"executable": "no-such-brayns"}, "executable", AirflowFailException),
        ({"setup": "module load nothing"}, "setup", AirflowFailException),
        ({"time_limit": "-5"}, "time_limit", AirflowFailException),
        ({"nodes": "two"}, "nodes", AirflowFailException),
        ({"environment": {"BRAYNS_EMULATOR": "never_listens=1"}, "start_timeout": 1}, "start_timeout", AirflowException),
        ({"environment": {"BRAYNS_EMULATOR": "exit_after_seconds=0.01,exit_code=3,plugin_seconds=3"}}, "exit code 3", AirflowException),
        ({"environment": {"BRAYNS_EMULATOR": "version=2.0.0"}, "plugins": ["nope"]}, "goes on without it", AirflowFailException),
    ],
)  # fmt: skip
def test_bad_input_names_the_field_and_leaves_nothing(
    context: Any, cluster: Any, changes: dict[str, Any], says: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"(?s){says}") as raised:
        service(**changes).execute(context)
    if error is AirflowException:
        assert not isinstance(raised.value, AirflowFailException), "a retry may help"
    assert gone(cluster)


def test_an_orphan_ends_and_leaves_its_nodes_to_the_retry(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task whose supervisor was killed went on looking, and so kept its nodes for as long as it lived."""
    ours, supervisors = socket.socketpair()
    monkeypatch.setattr(
        "airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", SimpleNamespace(socket=ours), raising=False
    )
    monkeypatch.setattr("airflow_brayns.task.allocating.states_of", lambda ti: {"running"})
    monkeypatch.setattr("airflow_brayns.task.operator._SUPERVISOR_LOOK_SECONDS", 0.1)
    ended = threading.Event()
    monkeypatch.setattr("airflow_brayns.task.operator.os._exit", lambda code: ended.set())
    service().execute(context)
    assert not ended.is_set(), "it is there"
    release(context, cluster)
    threading.Timer(1, supervisors.close).start()
    operator = service(environment={"BRAYNS_EMULATOR": "start_seconds=60"})
    threading.Timer(5, operator.on_kill).start()  # in place of the end that was only noted
    with pytest.raises(AirflowException, match="told to stop"):
        operator.execute(context)
    assert ended.is_set()
    ours.close()
    assert gone(cluster)


def test_killed_while_waiting_it_gives_back(context: Any, cluster: Any) -> None:
    operator = service(environment={"BRAYNS_EMULATOR": "start_seconds=60"})
    threading.Timer(2, operator.on_kill).start()
    began = time.monotonic()
    with pytest.raises(AirflowException, match="told to stop"):
        operator.execute(context)
    assert time.monotonic() - began < 7
    assert gone(cluster)


def test_the_trigger_gives_back_when_killed_but_not_what_another_try_took(context: Any, cluster: Any) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        service(deferrable=True).execute(context)
    trigger = deferred.value.trigger
    context["ti"].id = "another-try"
    with pytest.raises(TaskDeferred):
        service(deferrable=True).execute(context)
    asyncio.run(trigger.on_kill())
    assert cluster.running(), "the clear race: the old try's on_kill comes after the new try has adopted the job"
    trigger.owner = "another-try"

    async def killed_twice() -> None:
        """The triggerer cancels again while `on_kill` runs."""
        killing = asyncio.create_task(trigger.on_kill())
        await asyncio.sleep(0.01)
        killing.cancel()
        await asyncio.sleep(2)

    asyncio.run(killed_twice())
    assert gone(cluster)


def test_a_deferral_time_out_gives_back(context: Any, cluster: Any) -> None:
    with pytest.raises(TaskDeferred):
        service(deferrable=True, environment={"BRAYNS_EMULATOR": "start_seconds=60"}).execute(context)
    with pytest.raises(TaskDeferralTimeout):
        service(deferrable=True).resume_execution("__fail__", {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, context)
    assert gone(cluster)


def test_a_job_for_each_node_and_the_first_is_enough(context: Any, cluster: Any) -> None:
    endpoints = service(nodes=3, packing="job_per_node", min_ready=1).execute(context)
    assert 1 <= len(endpoints) <= 3
    assert len(context["ti"].xcom["allocation"]["allocations"]) == 3
    release(context, cluster)


def test_each_of_several_jobs_on_this_machine_has_a_slot_of_its_own(context: Any, cluster: Any) -> None:
    service(nodes=2, packing="job_per_node").execute(context)
    assert [one["node"] for one in context["ti"].xcom["services"]] == ["slot1", "slot2"]
    release(context, cluster)


def test_the_steps_one_by_one(context: Any, cluster: Any) -> None:
    here = {"cluster_conn_id": "here"}
    allocation = AllocateNodesOperator(task_id="task", nodes=2, deferrable=False, **here).execute(context)
    assert allocation["nodes"] == ["slot1", "slot2"]
    started = StartBraynsServiceOperator(task_id="start", allocation=allocation, plugins=[PLUGIN], **here).execute(
        context
    )
    endpoints = BraynsServiceSensor(task_id="wait", started=started, deferrable=False, **here).execute(context)
    assert len(endpoints) == 2
    StopBraynsServiceOperator(task_id="stop", started=started, **here).execute(context)
    with pytest.raises(Exception, match="cannot be reached|Connect|refused|TCP"):
        asyncio.run(probe(Endpoint.parse(endpoints[0])))
    assert any("keeper.sh" in command for command in cluster.running())
    again = StartBraynsServiceOperator(task_id="start", allocation=allocation, plugins=[PLUGIN], **here).execute(
        context
    )
    assert again["services"] == ["brayns1-2", "brayns2-2"], "cleared, it starts them anew"
    assert len(BraynsServiceSensor(task_id="wait", started=again, deferrable=False, **here).execute(context)) == 2
    release(context, cluster)


def test_a_service_of_one_of_several_jobs_is_started_anew(context: Any, cluster: Any) -> None:
    here = {"cluster_conn_id": "here", "packing": "job_per_node"}
    allocation = AllocateNodesOperator(task_id="task", nodes=2, deferrable=False, **here).execute(context)

    def start() -> dict[str, Any]:
        return StartBraynsServiceOperator(task_id="start", allocation=allocation, **here).execute(context)

    first = start()
    StopBraynsServiceOperator(
        task_id="stop", started={**first, "allocations": first["allocations"][:1]}, **here
    ).execute(context)
    again = start()
    assert again["services"] == ["brayns1", "brayns1-2"]
    assert len(BraynsServiceSensor(task_id="wait", started=again, deferrable=False, **here).execute(context)) == 2
    StopBraynsServiceOperator(task_id="stop", started=again, **here).execute(context)
    release(context, cluster)


def test_the_sensor_takes_an_endpoint_typed_in(context: Any, cluster: Any, emulator: Any) -> None:
    endpoint = emulator("--plugin", PLUGIN).endpoint
    sensor = BraynsServiceSensor(
        task_id="wait", endpoint=endpoint, plugins=[PLUGIN], cluster_conn_id="here", deferrable=False
    )
    assert sensor.execute(context) == [endpoint]
    with pytest.raises(TaskDeferred) as deferred:
        BraynsServiceSensor(
            task_id="wait", endpoint=endpoint, cluster_conn_id="here", deferrable=True, patience=0
        ).execute(context)
    assert run_trigger(deferred.value)["services"][0]["endpoint"] == endpoint
    with pytest.raises(AirflowFailException, match="endpoint"):
        BraynsServiceSensor(task_id="wait", endpoint="nonsense", cluster_conn_id="here").execute(context)


def test_release_wants_a_name(context: Any, cluster: Any) -> None:
    with pytest.raises(AirflowFailException, match="allocation"):
        ReleaseNodesOperator(task_id="r", cluster_conn_id="here", allocation="../../etc").execute(context)


def test_lists_however_they_were_templated() -> None:
    assert (
        word_list("plugins", "a, b")
        == word_list("plugins", "['a', 'b']")
        == word_list("plugins", ("a", "b"))
        == ["a", "b"]
    )
    with pytest.raises(ValueError, match="plugins"):
        word_list("plugins", 5)


def test_the_steps_deferred(context: Any, cluster: Any) -> None:
    here = {"cluster_conn_id": "here"}
    allocate = AllocateNodesOperator(task_id="task", nodes=2, deferrable=True, patience=0, **here)
    with pytest.raises(TaskDeferred) as deferred:
        allocate.execute(context)
    allocation = allocate.resume(context, event=run_trigger(deferred.value))
    assert allocation["nodes"] == ["slot1", "slot2"]
    start = StartBraynsServiceOperator(task_id="start", allocation=str(allocation), plugins=PLUGIN, **here)
    started = start.execute(context)
    wait = BraynsServiceSensor(task_id="wait", started=started, deferrable=True, patience=0, **here)
    with pytest.raises(TaskDeferred) as deferred:
        wait.execute(context)
    assert len(wait.resume(context, event=run_trigger(deferred.value))) == 2
    release(context, cluster)


def test_one_crashed_service_does_not_end_the_others(context: Any, cluster: Any, tmp_path: Path) -> None:
    """With `min_ready`, a booking goes on with those that can still become usable."""
    script = tmp_path / "braynsService"
    lame = '#!/bin/sh\ncase $PWD$AB_PORT in *) ;; esac\nmkdir "$0.taken" 2>/dev/null && { echo oh no; exit 3; }\n'
    script.write_text(f'{lame}exec {NAME_OF_EMULATOR} "$@"\n')
    script.chmod(0o755)
    endpoints = service(nodes=3, min_ready=2, plugins=[], executable=str(script), generation=3).execute(context)
    assert len(endpoints) == 2
    release(context, cluster)


def test_another_request_under_the_same_name_is_not_served_by_the_old_job(context: Any, cluster: Any) -> None:
    service().execute(context)
    assert len(service(nodes=2).execute(context)) == 2
    release(context, cluster)


def test_a_release_on_another_cluster_does_not_show_green(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service().execute(context)
    connection = os.environ["AIRFLOW_CONN_HERE"]
    monkeypatch.setenv(
        "AIRFLOW_CONN_HERE",
        json.dumps({"conn_type": "brayns_cluster", "extra": {"scheduler": "local", "state_dir": "/tmp/elsewhere"}}),
    )
    with pytest.raises(AirflowException, match="another cluster"):
        release(context, cluster)
    monkeypatch.setenv("AIRFLOW_CONN_HERE", connection)
    release(context, cluster)


def test_no_such_connection_names_it_and_may_be_tried_again(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow says the same when its API server does not answer, so the retries are kept."""

    def not_found(conn_id: str) -> None:
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr("airflow_brayns.hooks.cluster.BraynsClusterHook.get_connection", staticmethod(not_found))
    with pytest.raises(AirflowException, match="no connection 'nowhere' is defined") as raised:
        service(cluster_conn_id="nowhere").execute(context)
    assert not isinstance(raised.value, AirflowFailException)
