"""What a service starts is the service, in whatever session, and ends with it; and each of several gets a port of its own."""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_brayns.cluster.finding import Fate
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from tests.support.shell import ShellThrough
from tests.unit.cluster.test_keeper import NAME, SERVER, alive, make, pid_of, service, until
from tests.unit.cluster.test_listening import proven

__all__ = ["make"]
pytestmark = pytest.mark.slow

# A server that writes down who it is, on the port that it is told, without the mark in its environment where `env -i` takes that.
CHILD = """
import os, socket, sys, time
one = socket.create_server(("127.0.0.1", int(sys.argv[1])))
open(sys.argv[2], "w").write(str(os.getpid()))
print("listening on", one.getsockname()[1], flush=True)
time.sleep(60)
"""
WAYS = {
    "setsid": "setsid {child} & wait",
    "setsid instead of the shell": "exec setsid {child}",
    "its parent has gone": "(setsid {child} </dev/null &) ; exec sleep 600",
    "a daemon": "setsid -f {child}",
    "a daemon of a daemon": "setsid -f setsid -f {child}",
    "an environment of its own": "setsid -f env -i {child}",
    "an environment of its own, beside the service": "(setsid -f env -i {child}) ; exec sleep 600",
    "below a runtime": "setsid -f sh -c 'env -i {quoted} & wait'",
}


def script_of(way: str, pid_file: Path) -> str:
    child = f'{sys.executable} -c {shlex.quote(CHILD)} "$AB_PORT" {shlex.quote(str(pid_file))}'
    # The shell in the middle knows no `$AB_PORT` in quotes of another kind: it is an argument there.
    quoted = f"{sys.executable} {pid_file.parent}/child.py '\"$AB_PORT\"' {pid_file}"
    (pid_file.parent / "child.py").write_text(CHILD)
    return WAYS[way].format(child=child, quoted=quoted)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.mark.parametrize("fixed", [False, True], ids=["port 0", "a fixed port"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_service_in_a_session_of_its_own_is_ours_and_ends_with_the_release(
    make: Callable[..., LocalCluster],
    tmp_path: Path,
    way: str,
    fixed: bool,
    free_port: int,
) -> None:
    """podman, sudo and systemd-run start one: it survived the release, and its fixed port was 'not ours'."""
    cluster, pid_file = make(), tmp_path / "child.pid"
    await cluster.submit(
        NAME, "a", AllocationRequest(), [service(script_of(way, pid_file), port=str(free_port) if fixed else "0")]
    )
    status = await until(cluster, lambda s: s.services[0].port is not None or s.services[0].exit_code is not None, 30)
    assert status.services[0].exit_code is None, status.services[0].exit_text
    assert (status.services[0].port == free_port) is fixed
    assert await proven(cluster) is Fate.OURS
    child = int(pid_file.read_text())
    assert alive(child)
    await cluster.release(NAME)
    assert not alive(child)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


async def test_it_is_ended_though_its_wrapper_was_killed(make: Callable[..., LocalCluster], tmp_path: Path) -> None:
    cluster, pid_file = make(), tmp_path / "child.pid"
    await cluster.submit(NAME, "a", AllocationRequest(), [service(script_of("its parent has gone", pid_file))])
    await until(cluster, lambda s: s.services[0].port is not None)
    main, child = pid_of(cluster), int(pid_file.read_text())
    wrapper = parent_of(main)
    os.kill(wrapper, 9)
    await until(cluster, lambda s: s.services[0].exit_code is not None)
    assert not alive(main)
    assert not alive(child)


async def test_where_nobody_is_left_to_end_it_it_ends_with_its_wrapper(make: Callable[..., LocalCluster]) -> None:
    """Keeper, wrapper and Slurm's own slurmstepd were killed one after the other: a service stayed on its node for good."""
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [service()])
    await until(cluster, lambda s: s.services[0].port is not None)
    main = pid_of(cluster)
    wrapper = parent_of(main)
    for one in (parent_of(wrapper), wrapper):
        os.kill(one, 9)
    while alive(main):
        await asyncio.sleep(0.1)


async def test_a_daemon_that_ends_has_ended(make: Callable[..., LocalCluster], tmp_path: Path) -> None:
    cluster, pid_file = make(), tmp_path / "child.pid"
    await cluster.submit(NAME, "a", AllocationRequest(), [service(script_of("a daemon", pid_file))])
    await until(cluster, lambda s: s.services[0].port is not None)
    os.kill(int(pid_file.read_text()), 9)
    status = await until(cluster, lambda s: s.services[0].exit_code is not None)
    assert status.services[0].exit_code == 1


# ---- ports ------------------------------------------------------------------------------------------------------------
def without(tmp_path: Path, program: str) -> ShellThrough:
    """A shell in which a program fails, as flock does on a file system that knows no locks."""
    (tmp_path / "less").mkdir()
    (tmp_path / "less" / program).write_text("#!/bin/sh\nexit 71\n")
    (tmp_path / "less" / program).chmod(0o755)
    return ShellThrough(["/bin/sh"], before=f"PATH={tmp_path}/less:$PATH")


def free_range(number: int) -> str:
    """That many ports in a row, which nobody has."""
    for first in range(20000 + os.getpid() % 9000, 32000, number):
        try:
            for port in range(first, first + number):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return f"{first}-{first + number - 1}"
    raise AssertionError("no ports")


@pytest.mark.parametrize("locks", [True, False], ids=["with locks", "without locks"])
async def test_services_that_start_at_once_get_a_port_of_the_range_each(
    make: Callable[..., LocalCluster],
    tmp_path: Path,
    locks: bool,
) -> None:
    """4 of 4 took the same one, shared it (SO_REUSEPORT), and each was told to stop the others."""
    ports = free_range(4 if locks else 12)
    cluster = make(None if locks else without(tmp_path, "flock"))
    services = [service(index=index, port=ports) for index in range(1, 5)]
    await cluster.submit(NAME, "a", AllocationRequest(nodes=4), services)
    status = await until(cluster, lambda s: all(one.port or one.exit_code is not None for one in s.services), 60)
    assert not [one.exit_text for one in status.services if one.exit_code is not None]
    found = {one.port for one in status.services}
    assert len(found) == 4
    first, last = map(int, ports.split("-"))
    assert all(first <= port <= last for port in found)


async def test_a_range_that_is_too_small_serves_as_many_as_it_has(make: Callable[..., LocalCluster]) -> None:
    services = [service(index=index, port=free_range(2)) for index in range(1, 4)]
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(nodes=3), services)
    status = await until(cluster, lambda s: all(one.port or one.exit_code is not None for one in s.services), 60)
    assert sum(one.port is not None for one in status.services) == 2
    [refused] = [one for one in status.services if one.exit_code is not None]
    assert (refused.exit_code, "every port of" in refused.exit_text) == (98, True)


async def test_one_port_for_two_services_serves_one_and_the_other_is_told_what_to_do(
    make: Callable[..., LocalCluster],
) -> None:
    port = free_range(1).partition("-")[0]
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(nodes=2), [service(index=index, port=port) for index in (1, 2)])
    status = await until(cluster, lambda s: all(one.port or one.exit_code is not None for one in s.services), 60)
    assert [one.port for one in status.services if one.port] == [int(port)]
    [refused] = [one for one in status.services if one.exit_code is not None]
    assert "another service's of yours; give a range" in refused.exit_text


async def test_a_port_that_a_stranger_took_between_look_and_start_is_left_for_the_next(
    make: Callable[..., LocalCluster],
    tmp_path: Path,
) -> None:
    ports = free_range(3)
    first = int(ports.partition("-")[0])
    go = tmp_path / "go"
    script = f"while [ ! -e {go} ]; do sleep 0.05; done\n{SERVER.replace('SO_REUSEPORT', 'SO_REUSEADDR')}"
    cluster = make()
    await cluster.submit(NAME, "a", AllocationRequest(), [service(script, port=ports)])
    folder = Path(cluster.state_dir) / NAME / "1" / "services" / "s1"
    async with asyncio.timeout(20):
        while not (folder / "pid").exists():
            await asyncio.sleep(0.05)
    with socket.create_server(("127.0.0.1", first)):
        go.touch()
        status = await until(cluster, lambda s: s.services[0].port is not None or s.services[0].exit_code is not None)
        assert status.services[0].port in range(first + 1, first + 3), status.services[0].exit_text


async def test_the_port_of_one_that_was_stopped_is_free_again(make: Callable[..., LocalCluster]) -> None:
    port = free_range(1).partition("-")[0]
    cluster = make()
    allocation = await cluster.submit(NAME, "a", AllocationRequest(), [service(port=port)])
    await until(cluster, lambda s: s.services[0].port is not None)
    await cluster.stop_service(allocation, "s1")
    began = time.monotonic()
    await cluster.add_service(allocation, replace(service(port=port), name="s2"))
    status = await until(
        cluster, lambda s: len(s.services) == 2 and (s.services[1].port or s.services[1].exit_code is not None)
    )
    assert status.services[1].port == int(port), status.services[1].exit_text
    assert time.monotonic() - began < 30
