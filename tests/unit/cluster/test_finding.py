"""What has become of a service: asked of real keepers, shells and process tables on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, ServiceStatus
from airflow_brayns.cluster.cluster import LocalCluster, Waiter
from airflow_brayns.cluster.finding import Fate, Finding, how, read_finding
from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.submission import ServiceCommand

pytestmark = pytest.mark.slow

NAME = "ab-0123456789ce000"
LISTENS = (
    "import os,signal,socket,time;s=socket.socket();s.bind(('127.0.0.1',0));s.listen();"
    "signal.signal(signal.SIGUSR2, lambda *_: s.close());"
    "print('[warn] it is cold\\nport', s.getsockname()[1], flush=True);\nwhile True: time.sleep(0.1)"
)
LISTENER = ServiceCommand("s1", 1, f'exec {sys.executable} -c "{LISTENS}"', "0", (r"s/^port \(.*\)/\1/p",))


@pytest.fixture(params=["state", "it's state"])
async def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[LocalCluster]:
    one = LocalCluster(LocalShell(), state_dir=str(tmp_path / request.param))
    yield one
    await one.release(NAME, grace=1)


async def started(cluster: LocalCluster, idle_limit: int = 600) -> tuple[Allocation, int, int]:
    """An allocation with a service that listens: its port, and its process."""
    allocation = await cluster.submit(
        NAME, "owner", AllocationRequest(), [LISTENER], keeper=KeeperSettings(idle_limit=idle_limit)
    )
    end = time.monotonic() + 20
    while True:
        status = (await cluster.look([Waiter(*allocation.key)]))[allocation.key]
        if status.services and status.services[0].port:
            folder = Path(cluster.state_dir) / NAME / "1" / "services" / "s1"
            return allocation, status.services[0].port, int((folder / "pid").read_text())
        assert time.monotonic() < end, status
        await asyncio.sleep(0.1)


async def until(cluster: LocalCluster, port: int, fate: Fate, *, told: bool = False) -> Finding:
    end = time.monotonic() + 20
    while True:
        found = await cluster.service_at("", port)
        assert found is not None
        if found.fate is fate and (found.told or not told):
            return found
        assert time.monotonic() < end, found
        await asyncio.sleep(0.1)


async def test_a_service_is_known_by_where_it_listens_and_proved(cluster: LocalCluster) -> None:
    allocation, port, _ = await started(cluster, idle_limit=77)
    found = await cluster.service_at("", port)
    assert found is not None
    assert (found.allocation.key, found.service.name, found.service.port) == (allocation.key, "s1", port)
    assert found.fate is Fate.OURS
    assert found.idle_limit == 77
    assert found.allocation.job_id == allocation.job_id
    assert "it is cold" in found.tail
    assert await cluster.service_at("", port + 1 if port < 65535 else 1) is None
    assert await cluster.service_at("another", port) is None


@pytest.mark.parametrize(("host", "ours"), [("127.0.0.1", True), ("localhost", True), ("viz.example.org", False)])
async def test_another_machines_port_is_no_service_of_ours(cluster: LocalCluster, host: str, ours: bool) -> None:
    """A typed-in endpoint elsewhere was taken for the service of this machine that has the same port number."""
    _, port, _ = await started(cluster)
    assert (await cluster.service_at(cluster.node_at(host), port) is not None) is ours


async def test_a_service_that_was_killed_is_told_of_with_its_last_lines(cluster: LocalCluster) -> None:
    _, port, pid = await started(cluster)
    os.kill(pid, signal.SIGKILL)
    found = await until(cluster, port, Fate.ENDED, told=True)
    assert "braynsService s1 on slot1 (job " in found.text()
    assert "was killed by signal 9 (SIGKILL)." in found.text()
    assert "it is cold" in found.text()


async def test_a_port_that_somebody_else_has_taken_is_not_believed(cluster: LocalCluster) -> None:
    """Its process lives and its folder tells of no end; whoever listens there has waited for the port."""
    _, port, pid = await started(cluster)
    os.kill(pid, signal.SIGUSR2)
    await until(cluster, port, Fate.STRANGE)
    with socket.create_server(("127.0.0.1", port)):
        found = await until(cluster, port, Fate.STRANGE)
        while not found.strangers:
            found = await until(cluster, port, Fate.STRANGE)
        assert "is not its own any more" in found.text()
        assert "a process of user" in found.text()


async def test_what_has_ended_is_told_as_long_as_its_folder_is_there(cluster: LocalCluster) -> None:
    _, port, _ = await started(cluster)
    await cluster.release(NAME, grace=5)
    found = await cluster.service_at("", port)
    assert found is not None
    assert found.fate is Fate.ENDED
    assert "The keeper says: released." in found.text()
    assert not await cluster.renew(NAME, 1)


async def test_use_keeps_an_allocation_that_would_end(cluster: LocalCluster) -> None:
    allocation, port, _ = await started(cluster, idle_limit=3)
    for _ in range(14):
        assert await cluster.renew(*allocation.key)
        await asyncio.sleep(0.5)
    assert (await until(cluster, port, Fate.OURS)).fate is Fate.OURS
    found = await until(cluster, port, Fate.ENDED, told=True) if await idle(allocation, cluster) else None
    assert found is not None
    assert "(idle_limit)" in found.text()


async def idle(allocation: Allocation, cluster: LocalCluster) -> bool:
    """Await that the keeper has ended it, without a look that would count as use."""
    ended = Path(cluster.state_dir) / allocation.name / "1" / "ended"
    end = time.monotonic() + 20
    while not ended.exists() and time.monotonic() < end:
        await asyncio.sleep(0.1)
    return ended.exists()


def finding(service: ServiceStatus, **changes: object) -> Finding:
    status = AllocationStatus("ab-1", 1, job_id="7", services=(service,))
    return replace(Finding(Allocation("ab-1", 1, "7"), status, service), **changes)


def test_silence_is_no_answer() -> None:
    running = ServiceStatus("s1", "n1", 5000)
    silent = finding(running)
    assert replace(silent, status=replace(silent.status, answered=False)).fate is Fate.UNKNOWN
    assert replace(silent, status=replace(silent.status, answered=False), socket="ours").fate is Fate.OURS


@pytest.mark.parametrize(
    ("code", "says"),
    [(3, "ended with exit code 3"), (139, "was killed by signal 11 (SIGSEGV)"), (0, "ended with exit code 0"), (255, "ended with exit code 255")],
)  # fmt: skip
def test_an_exit_is_told_in_words(code: int, says: str) -> None:
    assert how(code) == says


@pytest.mark.parametrize(
    "answer", ["", "at", "at ab-1 1 s1", "at ab-1 x s1\nallocation ab-1 1", "socket ours\nat a b c d e"]
)
def test_half_an_answer_is_none(answer: str) -> None:
    assert read_finding(answer) is None
