"""`airflow brayns connect` in this process: a port that leads to a service until somebody ends the command."""

from __future__ import annotations

import argparse
import asyncio
import errno
import io
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_brayns import BraynsServiceOperator, ReleaseNodesOperator
from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.cli.connect import _held, _target
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, ServiceStatus
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.services.booking import book_on
from tests.support.airflow import free_port
from tests.support.command_line import CommandLine, airflow_brayns_command
from tests.support.local import cluster, context, state

__all__ = ["airflow_brayns_command", "cluster", "context", "state"]
pytestmark = pytest.mark.slow
HERE = ("--cluster-conn-id", "here")


@pytest.fixture
def name(context: Any, cluster: Any) -> Iterator[str]:
    """The name of an allocation with a running service."""
    BraynsServiceOperator(task_id="task", cluster_conn_id="here").execute(context)
    yield context["ti"].xcom["allocation"]["name"]
    ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocated_by="task").execute(context)


def test_a_port_of_this_machine_leads_to_the_service(name: str, airflow_brayns_command: CommandLine) -> None:
    port, found = free_port(), list[Any]()

    async def version() -> Any:
        for _ in range(600):
            try:
                async with BraynsClient(f"127.0.0.1:{port}") as client:
                    return (await client.call("get-version")).result
            except Exception:  # not open yet
                await asyncio.sleep(0.1)
        return None

    def client() -> None:
        try:
            found.extend([asyncio.run(version()), asyncio.run(version())])  # one client after the other
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=client).start()
    said = airflow_brayns_command("connect", name, "--port", str(port), *HERE)
    assert (said.code, said.out) == (130, f"localhost:{port}\n")
    assert found[0] and found[0] == found[1]


async def follow_on(allocation: Allocation) -> None:
    """Queue another one behind it, as an extension does."""
    async with BraynsClusterHook("here", quiet=True).session() as session:
        command = await session.cluster.command_of(allocation, "brayns1")
        await book_on(
            session.cluster, session.settings, allocation, Owner(allocation.name, "me"), nodes=1, command=command
        )


def test_it_moves_to_what_follows_on_and_the_port_stays(
    name: str, context: Any, airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open connection stays with the first service until that ends; a new one goes to the second."""
    said: list[str] = []
    monkeypatch.setattr("airflow_brayns.cli.near.LOOK_SECONDS", 0.5)
    monkeypatch.setattr("airflow_brayns.cli.connect.say", said.append)
    port, found = free_port(), dict[str, Any]()
    first = Allocation.from_json(context["ti"].xcom["allocation"]["allocations"][0])

    async def version(client: BraynsClient) -> Any:
        return (await client.call("get-version")).result["major"]

    async def use() -> None:
        async with asyncio.timeout(120):
            while not said:
                await asyncio.sleep(0.1)
            async with BraynsClient(f"127.0.0.1:{port}") as client:
                found["before"] = await version(client)
                await follow_on(first)
                while len(said) < 2:
                    await asyncio.sleep(0.1)
                found["stays"] = await version(client)
            os.kill(int(first.job_id), signal.SIGTERM)  # as at its time limit
            while not (Path(first.folder) / "ended").exists():
                await asyncio.sleep(0.1)
            async with BraynsClient(f"127.0.0.1:{port}") as client:
                found["after"] = await version(client)

    def client() -> None:
        try:
            asyncio.run(use())
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=client).start()
    ended = airflow_brayns_command("connect", name, "--port", str(port), *HERE)
    assert (ended.code, ended.out) == (130, f"localhost:{port}\n"), "one port, printed once"
    assert found["before"] == found["stays"] == found["after"]
    assert len(said) == 2 and said[1].startswith("New connections lead to 127.0.0.1:")
    assert said[1] != said[0]


def test_it_ends_with_what_it_leads_to(
    context: Any, cluster: Any, airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went on, and each new connection was closed without a word."""
    monkeypatch.setattr("airflow_brayns.cli.near.LOOK_SECONDS", 0.5)
    BraynsServiceOperator(task_id="task", cluster_conn_id="here").execute(context)
    name = context["ti"].xcom["allocation"]["name"]
    release = ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocated_by="task")
    said: list[str] = []

    def tell(words: str) -> None:
        said.append(words)
        threading.Thread(target=release.execute, args=(context,)).start()

    monkeypatch.setattr("airflow_brayns.cli.connect.say", tell)
    ended = airflow_brayns_command("connect", name, "--port", "0", *HERE)
    assert ended.code == 1 and "is over: released" in ended.err and "Connect again" in ended.err
    assert len(said) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["not a name"], "is no allocation's"),
        (["ab-ffffffffffff"], "no service of ab-ffffffffffff listens"),
        (["{name}", "--service", "other"], "take one of brayns1"),
        (["{name}", "--port", "{taken}"], "cannot be opened here"),
        (["{name}", "--port", "70000"], "70000 cannot be opened here"),
    ],
)
def test_what_cannot_be_connected_to_is_said(
    name: str, airflow_brayns_command: CommandLine, words: list[str], told: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = [word.format(name=name, taken=taken.getsockname()[1]) for word in words]
        said = airflow_brayns_command("connect", *given, *HERE)
    assert said.code == 1 and not said.out
    assert told in said.err


def test_whoever_does_not_read_the_port_is_no_port_that_is_taken() -> None:
    """A pipe that nobody reads was told as `--port: 0 cannot be opened here: Broken pipe`."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    with pytest.raises(BrokenPipeError):
        asyncio.run(_held(SimpleNamespace(reach=None), SimpleNamespace(), 0, Closed()))  # type: ignore[arg-type]


def test_of_a_booking_a_job_that_is_over_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that was lost took its keeper along: no service of it has an exit code, and `services` lists none of it."""
    listening = (ServiceStatus("brayns1", "127.0.0.1", 5000),)
    lost = AllocationStatus("ab-000000000001001", 2, None, "7", services=listening)
    lives = AllocationStatus("ab-000000000001000", 1, None, "8", answered=False, services=listening)

    async def list_all() -> list[AllocationStatus]:
        return [lost, lives]

    def ask_each(conn_id: str, look: Any) -> Any:
        session = SimpleNamespace(cluster=SimpleNamespace(list_all=list_all, address=str))
        return [("here", asyncio.run(look(session)))], False

    monkeypatch.setattr("airflow_brayns.cli.connect.ask_each", ask_each)
    args = argparse.Namespace(name="ab-000000000001", service=None, cluster_conn_id="here")
    assert _target(args).name == lives.name, "a cluster that does not say counts as one where it runs"
