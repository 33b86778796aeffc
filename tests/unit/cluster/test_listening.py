# ruff: noqa: F811
"""Whose socket it is that a log names: with port 0, too, only the service's own is told; a port asked for is its alone."""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_brayns.cluster.finding import Fate
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from tests.support.shell import ShellThrough
from tests.unit.cluster.test_keeper import NAME, SERVER, make, service, shell, until  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow


async def proven(cluster: LocalCluster) -> Fate:
    """What the service's node says of it; a machine on which much else goes on is not asked in time."""
    while (fate := (await cluster.examine(NAME, 1, "s1")).fate) is Fate.UNPROVEN:
        await asyncio.sleep(0.5)
    return fate


def listener(host: str = "127.0.0.1", *, first: str = "", family: str = "AF_INET") -> str:
    """Python that listens and says so.

    :param first: a program that runs before, in the same process.
    """
    text = f"""{first}
import os, socket, time
one = socket.socket(socket.{family})
one.bind(({host!r}, int(os.environ["AB_PORT"])))
one.listen()
print("listening on", one.getsockname()[1], flush=True)
time.sleep(600)
"""
    return f"exec {sys.executable} -c {shlex.quote(text)}"


@pytest.fixture
def stranger() -> socket.socket:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def log_of(cluster: LocalCluster, name: str = "log") -> str:
    return (Path(cluster.state_dir) / NAME / "1" / "services" / "s1" / name).read_text()


async def test_a_line_that_names_a_strangers_port_is_passed_over_for_our_own(
    shell: ShellThrough,
    make: Callable[..., LocalCluster],
    stranger: socket.socket,
) -> None:
    theirs = stranger.getsockname()[1]
    cluster = make(shell)
    await cluster.submit(NAME, "a", AllocationRequest(), [service(f"echo listening on {theirs}; sleep 1\n{SERVER}")])
    status = await until(cluster, lambda s: s.services[0].port is not None)
    assert status.services[0].port != theirs
    socket.create_connection(("127.0.0.1", status.services[0].port), 2).close()
    assert f"listening on {theirs}" in log_of(cluster)
    assert f"names port {theirs}, where a process of user" in log_of(cluster, "launch.log")


@pytest.mark.parametrize("held", [True, False], ids=["a stranger's", "nobody's"])
async def test_a_port_that_is_not_ours_is_never_told(
    make: Callable[..., LocalCluster],
    stranger: socket.socket,
    held: bool,
) -> None:
    named = stranger.getsockname()[1]
    if not held:
        stranger.close()
    cluster = make(start_timeout=3)
    await cluster.submit(NAME, "a", AllocationRequest(), [service(f"echo listening on {named}; exec sleep 600")])
    status = await until(cluster, lambda s: s.ended is not None or s.services[0].port is not None)
    assert status.services[0].port is None
    assert "start_timeout" in (status.ended or "")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_both_families_are_looked_at(make: Callable[..., LocalCluster], host: str) -> None:
    cluster = make()
    script = listener(host, family="AF_INET6" if ":" in host else "AF_INET")
    await cluster.submit(NAME, "a", AllocationRequest(), [service(script)])
    assert (await until(cluster, lambda s: s.services[0].port is not None)).services[0].port


async def test_a_stranger_on_another_address_of_the_node_is_not_in_the_way(make: Callable[..., LocalCluster]) -> None:
    cluster = make()
    beside = """
import os, socket, subprocess, sys, time
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0)); os.environ["AB_PORT"] = str(probe.getsockname()[1])
open(os.environ["AB_FOLDER"] + "/free", "w").write(os.environ["AB_PORT"])
while not os.path.exists(os.environ["AB_FOLDER"] + "/taken"): time.sleep(0.05)
"""
    await cluster.submit(NAME, "a", AllocationRequest(), [service(listener(first=beside))])
    folder = Path(cluster.state_dir) / NAME / "1"
    async with asyncio.timeout(10):
        while not (folder / "free").exists() or not (folder / "free").read_text():
            await asyncio.sleep(0.05)
    with socket.create_server(("127.0.0.2", int((folder / "free").read_text()))):
        (folder / "taken").touch()
        status = await until(cluster, lambda s: s.services[0].port is not None or s.services[0].exit_code is not None)
    assert status.services[0].port == int((folder / "free").read_text())


SESSIONS = {
    "a child": "{python} -c {child} & wait",
    "a session of its own": "setsid {python} -c {child} & wait",
    "one whose parent has gone": "(setsid {python} -c {child} </dev/null &) ; exec sleep 600",
}


@pytest.mark.parametrize("kind", SESSIONS)
async def test_what_the_service_starts_is_the_service(make: Callable[..., LocalCluster], kind: str) -> None:
    """A container's runtime runs its processes in sessions of their own, some of them without a parent of ours."""
    child = "import os, socket, time\ns = socket.create_server(('127.0.0.1', 0))\nprint('listening on', s.getsockname()[1], flush=True)\ntime.sleep(60)"
    script = SESSIONS[kind].format(python=sys.executable, child=shlex.quote(child))
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [service(script)])
    assert (await until(cluster, lambda s: s.services[0].port is not None)).services[0].port
    assert await proven(cluster) is Fate.OURS


async def test_whether_the_port_is_still_ours_can_be_asked(make: Callable[..., LocalCluster]) -> None:
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [service()])
    status = await until(cluster, lambda s: s.services[0].port is not None)
    assert await proven(cluster) is Fate.OURS
    os.kill(int(log_of(cluster, "pid")), 9)
    with socket.create_server(("127.0.0.1", status.services[0].port), reuse_port=True):
        assert await proven(cluster) is Fate.ENDED, "a stranger was quicker than the keeper"


async def test_a_service_that_stops_listening_is_ended(make: Callable[..., LocalCluster]) -> None:
    closing = listener().replace("time.sleep(600)", "time.sleep(2); one.close(); time.sleep(600)")
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [service(closing)])
    await until(cluster, lambda s: s.services[0].port is not None)
    status = await until(cluster, lambda s: s.services[0].exit_code is not None, 40)
    assert (status.services[0].exit_code, "no longer listens" in status.services[0].exit_text) == (98, True)


# ---- a port that was asked for ---------------------------------------------------------------------------------------
async def test_a_fixed_port_in_use_names_who_has_it(make: Callable[..., LocalCluster]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        cluster = make()
        await cluster.submit(NAME, "a", AllocationRequest(), [service(port=str(port))])
        status = await until(cluster, lambda s: s.services[0].exit_code is not None)
    assert status.services[0].exit_code == 98
    assert f"port {port}" in status.services[0].exit_text
    assert f"pid {os.getpid()}" in status.services[0].exit_text


async def test_a_port_that_a_stranger_shares_is_refused(make: Callable[..., LocalCluster], tmp_path: Path) -> None:
    """SO_REUSEPORT lets a forgotten service of the same user take half of the clients; it starts after the first look."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started, go = tmp_path / "started", tmp_path / "go"
    late = f"touch {started}; while [ ! -e {go} ]; do sleep 0.05; done\n{SERVER}"
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [service(late, port=str(port))])
    async with asyncio.timeout(60):
        while not started.exists():
            await asyncio.sleep(0.05)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        go.touch()
        status = await until(cluster, lambda s: s.services[0].exit_code is not None or s.services[0].port is not None)
    assert status.services[0].exit_code == 98
    assert "shared" in status.services[0].exit_text


async def test_a_range_takes_the_first_free_port(make: Callable[..., LocalCluster]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        cluster = make()
        await cluster.submit(NAME, "a", AllocationRequest(), [service(port=f"{port}-{port + 20}")])
        status = await until(cluster, lambda s: s.services[0].port is not None)
    assert port < (status.services[0].port or 0) <= port + 20
