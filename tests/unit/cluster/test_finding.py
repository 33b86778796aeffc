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
from typing import Any

import pytest

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, ServiceStatus
from airflow_brayns.cluster.finding import Fate, Finding, how, read_finding
from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.cluster.waiter import Waiter
from tests.support.shell import look
from tests.support.shell import service as listed

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
        found = await cluster.service_at("127.0.0.1", port)
        assert found is not None
        if found.fate is fate and (found.told or not told):
            return found
        assert time.monotonic() < end, found
        await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_a_service_is_known_by_where_it_listens_and_proved(cluster: LocalCluster) -> None:
    allocation, port, _ = await started(cluster, idle_limit=77)
    found = await cluster.service_at("127.0.0.1", port)
    assert found is not None
    assert (found.allocation.key, found.service.name, found.service.port) == (allocation.key, "s1", port)
    assert found.fate is Fate.OURS
    assert found.idle_limit == 77
    assert found.allocation.job_id == allocation.job_id
    assert "it is cold" in found.tail
    assert await cluster.service_at("127.0.0.1", port + 1 if port < 65535 else 1) is None
    assert await cluster.service_at("another.invalid", port) is None


@pytest.mark.slow
@pytest.mark.parametrize(("host", "ours"), [("127.0.0.1", True), ("localhost", True), ("viz.example.org", False)])
async def test_another_machines_port_is_no_service_of_ours(cluster: LocalCluster, host: str, ours: bool) -> None:
    """A typed-in endpoint elsewhere was taken for the service of this machine that has the same port number."""
    _, port, _ = await started(cluster)
    assert (await cluster.service_at(host, port) is not None) is ours


@pytest.mark.slow
async def test_a_service_that_was_killed_is_told_of_with_its_last_lines(cluster: LocalCluster) -> None:
    _, port, pid = await started(cluster)
    os.kill(pid, signal.SIGKILL)
    found = await until(cluster, port, Fate.ENDED, told=True)
    assert "braynsService s1 on slot1 (job " in found.text()
    assert "was killed by signal 9 (SIGKILL)." in found.text()
    assert "it is cold" in found.text()


@pytest.mark.slow
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


@pytest.mark.slow
async def test_what_has_ended_is_told_as_long_as_its_folder_is_there(cluster: LocalCluster) -> None:
    _, port, _ = await started(cluster)
    await cluster.release(NAME, grace=5)
    found = await cluster.service_at("127.0.0.1", port)
    assert found is not None
    assert found.fate is Fate.ENDED
    assert "The keeper says: released." in found.text()
    assert not await cluster.renew(NAME, 1)


@pytest.mark.slow
async def test_use_keeps_an_allocation_that_would_end(cluster: LocalCluster) -> None:
    allocation, port, _ = await started(cluster, idle_limit=3)
    for _ in range(14):
        assert await cluster.renew(*allocation.key)
        await asyncio.sleep(0.5)
    assert (await until(cluster, port, Fate.OURS)).fate is Fate.OURS
    found = await until(cluster, port, Fate.ENDED, told=True) if await idle(allocation, cluster) else None
    assert found is not None
    assert found.idle
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


@pytest.mark.slow
def test_silence_is_no_answer() -> None:
    running = ServiceStatus("s1", "n1", 5000)
    silent = finding(running)
    assert replace(silent, status=replace(silent.status, answered=False)).fate is Fate.UNKNOWN
    assert replace(silent, status=replace(silent.status, answered=False), socket="ours").fate is Fate.OURS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "says"),
    [(3, "ended with exit code 3"), (139, "was killed by signal 11 (SIGSEGV)"), (0, "ended with exit code 0"), (255, "ended with exit code 255")],
)  # fmt: skip
def test_an_exit_is_told_in_words(code: int, says: str) -> None:
    assert how(code) == says


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", ["", "at", "at ab-1 1 s1", "at ab-1 x s1\nallocation ab-1 1", "socket ours\nat a b c d e"]
)
def test_half_an_answer_is_none(answer: str) -> None:
    assert read_finding(answer) is None


# ---- what it is told as ------------------------------------------------------------------------------------------------
def seen(services: list[str], *, socket: str = "", **more: Any) -> Finding:
    """As `examine` prints it, read."""
    told = (
        f"examined {NAME} 1 brayns1\n"
        + (f"socket {socket}\n" if socket else "")
        + look(NAME, services=services, **more)
    )
    found = read_finding(told)
    assert found is not None
    return found


LIVES = [listed("brayns1", port=5000)]


@pytest.mark.parametrize(
    ("found", "fate", "is_told", "text"),
    [
        (seen(LIVES, socket="ours"), Fate.OURS, False, "has not ended, as far as the cluster knows."),
        (seen(LIVES, socket="strange joe jane"), Fate.STRANGE, False, "runs, and the port 5000 is not its own any more: nobody of it listens there but a process of user joe, jane."),
        (seen(LIVES, socket="strange"), Fate.STRANGE, False, "nobody of it listens there."),
        (seen(LIVES), Fate.UNPROVEN, False, "has not ended"),
        (seen(LIVES, answered=False), Fate.UNKNOWN, False, "has not ended"),
        (seen(LIVES, socket="odd"), Fate.UNPROVEN, False, "has not ended"),
        (seen(LIVES, socket="gone"), Fate.ENDED, False, "(job 77) has ended."),
        (seen([listed("brayns1", exited="139 the service ended with exit code 139")]), Fate.ENDED, True, "(job 77) was killed by signal 11 (SIGSEGV)."),
        (seen([listed("brayns1", exited="1 the keeper has gone")]), Fate.ENDED, True, "(job 77) ended with exit code 1. Its node says: the keeper has gone."),
        (seen([listed("brayns1", exited="0 stopped")]), Fate.ENDED, True, "(job 77) was stopped."),
        (seen(LIVES, word="TIMEOUT"), Fate.ENDED, True, "ended with job 77, which is TIMEOUT."),
        (seen(LIVES, word="COMPLETING"), Fate.ENDED, True, "ended with job 77, which is COMPLETING."),
        (seen(LIVES, word="", more="gone"), Fate.ENDED, True, "ended with job 77."),
        (seen(LIVES, word="", ended="not used for 1800 s (idle_limit)"), Fate.ENDED, True, "ended with job 77. The keeper says: not used for 1800 s (idle_limit)."),
    ],
)  # fmt: skip
def test_what_is_known_of_a_service_in_words(found: Finding, fate: Fate, is_told: bool, text: str) -> None:
    """By its exit, its allocation's end, its port's socket, and the scheduler's word, in that order."""
    assert (found.fate, found.told) == (fate, is_told)
    assert text in found.text().split("\n")[0]
    assert found.text().endswith("It logged nothing.")


def test_whether_nobody_used_it_is_known_of_its_end() -> None:
    assert seen(LIVES, word="", ended="not used for 1800 s (idle_limit)").idle
    assert not seen(LIVES, word="", ended="released").idle
    assert not seen(LIVES).idle


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "ended with exit code 0"), (128, "ended with exit code 128"), (129, "was killed by signal 1 (SIGHUP)"), (192, "was killed by signal 64 (SIGRTMAX)"), (161, "was killed by signal 33"), (193, "ended with exit code 193")],
)  # fmt: skip
def test_an_exit_code_in_words(code: int, text: str) -> None:
    assert how(code) == text


def test_an_answer_without_more_than_the_service_has_the_usual_limits() -> None:
    found = seen(LIVES)
    assert (found.idle_limit, found.asked_port, found.tail, found.strangers, found.socket) == (1800, "0", "", (), "")


def test_what_is_read_of_strangers_has_an_end() -> None:
    """They name their processes as they like."""
    found = seen(LIVES, socket="strange " + " ".join("x" * 1000 for _ in range(9)))
    assert [len(one) for one in found.strangers] == [64] * 5
