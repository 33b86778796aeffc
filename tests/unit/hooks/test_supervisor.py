"""Nothing that a worker asks of Airflow is asked inside a loop, where it could be cancelled (shared facts, trap 17)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from airflow.sdk._shared.state import TaskScope
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.comms import CommsDecoder, GetConnection, _ResponseFrame
from airflow.sdk.execution_time.context import TaskStateStoreAccessor

from airflow_brayns import (
    AllocateNodesOperator,
    BraynsServiceOperator,
    BraynsServiceSensor,
    EncodeMovieOperator,
    ReapNodesOperator,
    ReleaseNodesOperator,
    RenderFramesOperator,
    StartBraynsServiceOperator,
    StopBraynsServiceOperator,
)
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.hooks.endpoint import open_endpoint
from airflow_brayns.hooks.supervisor import ask, settle, supervisor_has_gone, tell
from airflow_brayns.movie.interfaces import Progress
from airflow_brayns.task.report import TaskReporter
from tests.support.local import FAST, cluster, movie, state
from tests.support.supervisor import AskingTi, Supervisor
from tests.support.task import run_trigger

__all__ = ["cluster", "state"]

PLUGIN = "braynsCircuitExplorer"
NOTHING = dict.fromkeys(["host", "schema", "login", "password", "port", "extra"])


@pytest.fixture
def supervisor(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """All that is known of the cluster comes from it; afterwards nothing may have been asked inside a loop."""
    one = Supervisor({"here": json.loads(os.environ["AIRFLOW_CONN_HERE"])})
    monkeypatch.delenv("AIRFLOW_CONN_HERE")
    monkeypatch.delenv("AIRFLOW__BRAYNS__INSTALLATION_ID")
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", one, raising=False)
    yield one
    assert settle(10)
    assert not one.inside, f"asked inside a loop: {one.inside[0]}"


@pytest.fixture
def context(supervisor: Supervisor) -> dict[str, Any]:
    ti = AskingTi()
    scope = TaskScope(dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=-1)
    return {"ti": ti, "task_state_store": TaskStateStoreAccessor(uuid.uuid4(), scope)}


HERE = {"cluster_conn_id": "here"}


def test_the_steps_ask_nothing_inside_a_loop(context: Any, supervisor: Supervisor, cluster: Any) -> None:
    allocation = AllocateNodesOperator(task_id="task", deferrable=False, **HERE).execute(context)
    started = StartBraynsServiceOperator(task_id="start", allocation=allocation, **HERE).execute(context)
    [endpoint] = BraynsServiceSensor(task_id="wait", started=started, deferrable=False, **HERE).execute(context)
    BraynsServiceSensor(task_id="wait", endpoint=endpoint, deferrable=False, **HERE).execute(context)
    with open_endpoint(endpoint, "here") as near:
        assert near == endpoint
    StopBraynsServiceOperator(task_id="stop", started=started, **HERE).execute(context)
    assert ReapNodesOperator(task_id="reap", only_say=True, **HERE).execute(context) == [
        allocation["allocations"][0]["name"]
    ], "its run has failed"
    ReleaseNodesOperator(task_id="release", allocation=allocation, **HERE).execute(context)
    assert {"GetConnection", "GetVariable", "GetTaskStates", "GetDagRunState"} <= set(supervisor.asked)


@pytest.mark.parametrize("patience", [0, 30])
def test_a_deferrable_service_asks_nothing_inside_a_loop(
    context: Any, supervisor: Supervisor, cluster: Any, patience: float
) -> None:
    operator = BraynsServiceOperator(task_id="task", plugins=[PLUGIN], deferrable=True, patience=patience, **HERE)
    try:
        assert operator.execute(context)
    except TaskDeferred as deferred:
        assert patience == 0
        asked = list(supervisor.inside)
        event = run_trigger(deferred)  # the triggerer's decoder tells answers by their ids: it may ask in its loop
        supervisor.inside[:] = asked
        assert operator.resume(context, event=event | {"at": None})
    ReleaseNodesOperator(task_id="release", allocated_by="task", **HERE).execute(context)


def test_movies_ask_nothing_inside_a_loop(
    context: Any, supervisor: Supervisor, cluster: Any, data: Path, tmp_path: Path
) -> None:
    movie(data, tmp_path, nodes=1).execute(context)
    assert supervisor.stored[-1]["done"] == 8, "the last of the progress is stored"
    service = BraynsServiceOperator(task_id="task", deferrable=False, **HERE, **FAST)
    service.execute(context)
    frames = tmp_path / "frames"
    specification = movie(data, tmp_path).specification
    RenderFramesOperator(
        task_id="render", allocation=context["ti"].xcom["allocation"], frames_dir=str(frames),
        specification=specification, **HERE,
    ).execute(context)  # fmt: skip
    ReleaseNodesOperator(task_id="release", allocated_by="task", **HERE).execute(context)
    EncodeMovieOperator(task_id="encode", frames_dir=str(frames), output_file=str(tmp_path / "b.mp4"), **HERE).execute(
        context
    )


def test_told_to_stop_it_asks_nothing_inside_a_loop(context: Any, supervisor: Supervisor, cluster: Any) -> None:
    operator = BraynsServiceOperator(
        task_id="task", deferrable=False, environment={"BRAYNS_EMULATOR": "start_seconds=60"}, **HERE
    )
    supervisor.state = "failed"
    threading.Timer(2, operator.on_kill).start()
    with pytest.raises(Exception, match="what it had allocated was given back"):
        operator.execute(context)
    assert supervisor.asked.count("GetTaskStates") == 1, "what becomes of it"
    deadline = time.monotonic() + 16
    while cluster.running() and time.monotonic() < deadline:
        time.sleep(0.1)


def answer(end: socket.socket, seconds: float) -> None:
    """A slow supervisor: each question is answered with the connection that it names."""
    decoder = msgspec.msgpack.Decoder()
    file = end.makefile("rb")
    while head := file.read(4):
        number, body = decoder.decode(file.read(int.from_bytes(head, "big")))[:2]
        time.sleep(seconds)
        reply = {"type": "ConnectionResult", "conn_id": body["conn_id"], "conn_type": "ssh", **NOTHING}
        with contextlib.suppress(OSError):
            end.sendall(bytes(_ResponseFrame(id=number, body=reply).as_bytes()))


@pytest.mark.parametrize("same_loop", [True, False])
@pytest.mark.parametrize("cancel_after", [0.0001, 0.03])
def test_a_question_that_nobody_waits_for_takes_no_answer_away(same_loop: bool, cancel_after: float) -> None:
    """With Airflow's `asend` the second one hangs, or gets the first one's answer."""
    ours, theirs = socket.socketpair()
    threading.Thread(target=answer, args=(theirs, 0.06), daemon=True).start()
    comms: CommsDecoder[Any, Any] = CommsDecoder(socket=ours)
    got: list[str] = []

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(cancel_after):
                await ask(lambda: comms.send(GetConnection(conn_id="one")))
        if same_loop:
            got.append((await ask(lambda: comms.send(GetConnection(conn_id="two")))).conn_id)

    def task() -> None:
        asyncio.run(main())
        if not same_loop:
            got.append(comms.send(GetConnection(conn_id="two")).conn_id)

    for _ in range(5):
        got.clear()
        thread = threading.Thread(target=task, daemon=True)
        thread.start()
        thread.join(10)
        assert got == ["two"]
    theirs.close()


def test_a_hook_in_a_tasks_own_loop_asks_by_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task's own code opens a session, perhaps under a time-out, and nobody has read the settings before."""
    ours, theirs = socket.socketpair()
    threading.Thread(target=answer, args=(theirs, 0.0), daemon=True).start()
    comms: CommsDecoder[Any, Any] = CommsDecoder(socket=ours)
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", comms, raising=False)
    in_loop: list[Any] = []

    async def asend(self: Any, msg: Any) -> Any:
        in_loop.append(msg)
        return await asyncio.to_thread(self.send, msg)

    monkeypatch.setattr(CommsDecoder, "asend", asend)

    async def main() -> None:
        with pytest.raises(InvalidSetting, match="'one' is of type 'ssh'"):
            async with BraynsClusterHook("one").session():
                pass

    asyncio.run(main())
    theirs.close()
    assert not in_loop


def test_what_a_question_raises_reaches_who_asked() -> None:
    def question() -> None:
        raise KeyError("none")

    async def main() -> None:
        with pytest.raises(KeyError, match="none"):
            await ask(question)

    asyncio.run(main())


def test_a_forked_process_asks_by_a_thread_of_its_own() -> None:
    tell(lambda: None)
    assert settle(10)
    child = os.fork()
    if child == 0:
        done = threading.Event()
        tell(done.set)
        os._exit(0 if done.wait(10) else 1)
    assert os.waitpid(child, 0)[1] == 0


def progress(done: int, total: int = 10) -> Progress:
    return Progress(done=done, total=total, rate=1.0, left=None, nodes={"n": done}, seconds=0.1)


class Log:
    def __init__(self) -> None:
        self.warned: list[str] = []

    def info(self, *words: Any) -> None: ...

    def warning(self, text: str, *words: Any) -> None:
        self.warned.append(text % words)


class FrameStore:
    """A state store whose first answers are errors, or that takes its time."""

    def __init__(self, errors: int = 0, gate: threading.Event | None = None) -> None:
        self.errors, self.gate, self.values = errors, gate, list[int]()

    def set(self, key: str, value: Any) -> None:
        if self.gate is not None:
            assert self.gate.wait(10)
        if self.errors:
            self.errors -= 1
            raise TimeoutError
        self.values.append(value["done"])


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_brayns.task.report._STORE_SECONDS", 0.0)
    monkeypatch.setattr("airflow_brayns.task.report.count", lambda *_: None)
    monkeypatch.setattr("airflow_brayns.task.report.took", lambda *_: None)


def test_a_slow_api_server_does_not_hold_the_loop_and_the_latest_value_wins(often: None) -> None:
    gate = threading.Event()
    store = FrameStore(gate=gate)
    reporter = TaskReporter(Log(), {"task_state_store": store})  # type: ignore[typeddict-item]
    for done in range(1, 9):
        reporter.progress(progress(done))  # returns while the store has not answered the first
    assert store.values == []
    gate.set()
    assert settle(10)
    assert store.values in ([1, 8], [8]), "what came meanwhile is old by then"


def test_progress_is_stored_again_after_an_error_and_the_error_has_words(often: None) -> None:
    log, store = Log(), FrameStore(errors=2)
    reporter = TaskReporter(log, {"task_state_store": store})  # type: ignore[typeddict-item]
    for done in (1, 2, 3, 4):
        reporter.progress(progress(done))
        assert settle(10)
    assert store.values[-1] == 4
    assert log.warned == ["The progress could not be stored; it is tried again: no answer in time"]


def test_the_last_progress_is_stored_though_it_came_between_two_times(
    often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_brayns.task.report._STORE_SECONDS", 60.0)
    store = FrameStore()
    reporter = TaskReporter(Log(), {"task_state_store": store})  # type: ignore[typeddict-item]
    reporter.progress(progress(1))
    reporter.progress(progress(2))
    reporter.progress(progress(3))
    assert settle(10)
    assert store.values[-1] == 3


def test_whether_the_supervisor_lives_is_told_by_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def comms(one: Any) -> None:
        monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", one, raising=False)

    comms(SimpleNamespace())
    assert not supervisor_has_gone(), "in `airflow dags test` there is none"
    ours, theirs = socket.socketpair()
    comms(SimpleNamespace(socket=ours))
    assert not supervisor_has_gone()
    theirs.send(b"answer")
    assert not supervisor_has_gone()
    assert ours.recv(6) == b"answer", "nothing is taken away from whoever reads it"
    theirs.close()
    assert supervisor_has_gone()
    ours.close()
    assert supervisor_has_gone()
