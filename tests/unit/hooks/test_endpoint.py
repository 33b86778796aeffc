# ruff: noqa: F811 - fixtures are named as arguments
"""What `open_endpoint` and `@task.brayns` do about a service that dies, idles, or is somebody else's."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_brayns import BraynsServiceOperator, BraynsServiceSensor, ReleaseNodesOperator, open_endpoint
from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import ConnectionLost, ServiceFailed
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.services.waiting import Waiting
from airflow_brayns.task.fields import booking_of
from tests.support.bounds import bounded, until
from tests.support.local import cluster, context, state  # noqa: F401 - fixtures

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
FAST = {"BRAYNS_EMULATOR": "snapshot_seconds=0"}


class Service:
    """A service on the local cluster, as a task before has handed it on."""

    def __init__(self, context: dict[str, Any], state: Path, **changes: Any) -> None:
        values = {"task_id": "brayns", "cluster_conn_id": "here", "environment": FAST, **changes}
        [self.endpoint] = BraynsServiceOperator(**values).execute(context)
        [self.folder] = state.glob("ab-*/1/services/brayns1")

    @property
    def allocation(self) -> Path:
        return self.folder.parents[1]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(int((self.folder / "pid").read_text()), number)


@pytest.fixture
def service(context: dict[str, Any], cluster: Any, state: Path) -> Iterator[Callable[..., Service]]:
    yield lambda **changes: Service(context, state, **changes)
    for number in state.glob("ab-*"):
        ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocation=number.name).execute(context)


def test_a_service_that_dies_is_named_with_its_node_its_signal_and_its_last_lines(
    service: Callable[..., Service],
) -> None:
    """Its user read `ConnectionClosedError: no close frame received or sent`."""
    one = service()

    def use(near: str) -> None:
        one.kill()
        raise ConnectionResetError(f"reset by {near}")

    with pytest.raises(ServiceFailed) as raised, open_endpoint(one.endpoint, "here") as near:
        use(near)
    text = str(raised.value)
    assert "braynsService brayns1 on slot1 (job " in text
    assert "was killed by signal 9 (SIGKILL)" in text
    assert "Server started on" in text
    assert one.endpoint in text
    assert not raised.value.retry, "nobody starts it anew"
    assert isinstance(raised.value.__cause__, ConnectionResetError)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the official client does not import on Python 3.13")
def test_a_task_is_told_what_became_of_its_service(service: Callable[..., Service]) -> None:
    from airflow.sdk import DAG

    from airflow_brayns.decorators.brayns import brayns_task

    one = service(environment={"BRAYNS_EMULATOR": "snapshot_seconds=0,crash_at_picture=1"})

    @brayns_task(endpoint=one.endpoint, cluster_conn_id="here")
    def picture(client: Any) -> None:
        import brayns

        image = brayns.Snapshot(resolution=brayns.Resolution(64, 64)).save_remotely
        image(client, "/tmp/never.png")

    with DAG("decorated", schedule=None):
        result = picture()
    with pytest.raises(AirflowFailException, match=r"(?s)brayns1 on slot1 .*signal 11 \(SIGSEGV\).*Last lines"):
        result.operator.execute({})


def test_a_dead_endpoint_is_refused_before_anything_is_asked_of_it(service: Callable[..., Service]) -> None:
    one = service()
    one.kill()
    until(lambda: (one.folder / "exit").exists())
    with pytest.raises(ServiceFailed, match=r"signal 9 \(SIGKILL\)"), open_endpoint(one.endpoint, "here"):
        pytest.fail("the block must not run")


def test_whoever_has_taken_a_dead_services_port_is_not_believed(service: Callable[..., Service]) -> None:
    one = service()
    one.kill()
    until(lambda: (one.folder / "exit").exists())
    host, _, port = one.endpoint.rpartition(":")
    with (
        socket.create_server((host, int(port))),
        pytest.raises(ServiceFailed, match="Clear the task that started it"),
        open_endpoint(one.endpoint, "here"),
    ):
        pytest.fail("the block must not run")


def test_a_sensor_does_not_believe_a_braynsservice_that_has_taken_the_port(
    service: Callable[..., Service], emulator: Any, context: dict[str, Any]
) -> None:
    one = service()
    one.kill()
    until(lambda: (one.folder / "exit").exists())
    emulator(uri=one.endpoint)
    sensor = BraynsServiceSensor(task_id="sensor", cluster_conn_id="here", endpoint=one.endpoint, deferrable=False)
    with pytest.raises(AirflowFailException, match=r"signal 9 \(SIGKILL\)"):
        sensor.execute(context)


def test_the_last_look_before_a_hand_over_asks_whose_the_port_is(
    service: Callable[..., Service], emulator: Any, context: dict[str, Any]
) -> None:
    one = service()
    [found] = context["ti"].xcom["services"]
    booking = booking_of(context["ti"].xcom["allocation"])
    hook = BraynsClusterHook("here")

    async def last_look() -> None:
        async with hook.session(logging.getLogger("look")) as session:
            wait = Waiting(session, booking)
            there = await wait.still_there([found])
            await wait.still_answer(there)
            one.kill()
            while Path(f"/proc/{pid}").exists() or not (one.folder / "exit").exists():
                await asyncio.sleep(0.05)
            await asyncio.to_thread(emulator, uri=one.endpoint)
            with pytest.raises(ServiceFailed, match=r"signal 9 \(SIGKILL\)"):
                await wait.still_answer(there)

    pid = int((one.folder / "pid").read_text())
    asyncio.run(bounded(last_look, 60)())


def test_use_is_while_the_block_is_open(service: Callable[..., Service]) -> None:
    """Neither a long render-image nor a mesh that loads moves a byte: the keeper ended services that were at work."""
    one = service(idle_limit=4)
    with open_endpoint(one.endpoint, "here") as near:
        time.sleep(10)  # the user's code blocks: no await, no byte
        assert not (one.allocation / "ended").exists()
        assert not (one.folder / "exit").exists()

        async def version() -> Any:
            async with BraynsClient(near) as client:
                return (await client.call("get-version")).result

        assert asyncio.run(bounded(version, 60)())["major"] == 3
    assert threads() == []
    until(lambda: (one.allocation / "ended").exists(), 30)
    assert "(idle_limit)" in (one.allocation / "ended").read_text()


def test_a_block_whose_code_fails_ends_its_use_and_keeps_its_error(service: Callable[..., Service]) -> None:
    one = service()
    with pytest.raises(KeyError, match="mine"), open_endpoint(one.endpoint, "here"):
        raise KeyError("mine")
    with pytest.raises(AirflowSkipException), open_endpoint(one.endpoint, "here"):
        raise AirflowSkipException("on purpose") from ConnectionResetError()
    assert threads() == []


class ConnectionClosedError(Exception):
    """As the official client raises it."""

    __module__ = "brayns.network.websocket.errors"


def refused() -> ConnectionRefusedError:
    """What a client says of a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()
    return ConnectionRefusedError(111, f"Connect call failed {place!r}")


def test_a_connection_that_breaks_while_the_service_lives_says_so(service: Callable[..., Service]) -> None:
    one = service()
    for error in (ConnectionClosedError("no close frame"), ConnectionRefusedError(111, f"to {one.endpoint}")):
        with pytest.raises(ConnectionLost, match="brayns1 on slot1 .*still runs") as raised, open_endpoint(one.endpoint, "here"):  # fmt: skip
            raise error
        assert raised.value.retry
    with pytest.raises(TimeoutError, match="my own"), open_endpoint(one.endpoint, "here"):
        raise TimeoutError("my own")


def test_an_error_of_another_connection_is_left_as_it_is(service: Callable[..., Service]) -> None:
    """A database that refused was told as a broken connection to the service, with the service's last lines."""
    one = service()
    with pytest.raises(ConnectionRefusedError) as raised, open_endpoint(one.endpoint, "here"):
        raise refused()
    assert not hasattr(raised.value, "__notes__")
    with pytest.raises(ConnectionResetError, match="by peer") as raised, open_endpoint(one.endpoint, "here"):
        raise ConnectionResetError("by peer")
    assert raised.value.__notes__ == [f"braynsService brayns1 on slot1 at {one.endpoint} still runs."]


def test_an_endpoint_that_nobody_knows_is_named_as_it_was_given(cluster: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"localhost:{server.getsockname()[1]}"
        with pytest.raises(ConnectionLost, match=f"braynsService at {endpoint} broke") as raised, open_endpoint(endpoint, "here"):  # fmt: skip
            raise ConnectionClosedError("closed")
        with pytest.raises(EOFError, match="mine"), open_endpoint(endpoint, "here"):
            raise EOFError("mine")
    assert raised.value.retry


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "brayns-endpoint"]
