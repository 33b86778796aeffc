"""Who renders with an allocation, the one that follows on, steps, programs: with real shells on this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, JobState
from airflow_brayns.cluster.cluster import LocalCluster, Waiter
from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.submission import ServiceCommand

NAME = "ab-0123456789cd000"
SLEEPER = ServiceCommand("s1", 1, "sleep 600", "0", (r"s/^never \(.*\)/\1/p",))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    one = LocalCluster(LocalShell(), state_dir=str(tmp_path / "state"))
    yield one
    await one.release(NAME, grace=1)


async def running(cluster: LocalCluster, allocation: Allocation, seconds: float = 10) -> AllocationStatus:
    end = time.monotonic() + seconds
    while True:
        status = (await cluster.look([Waiter(*allocation.key)]))[allocation.key]
        if status.nodes:
            return status
        assert time.monotonic() < end, status
        await asyncio.sleep(0.1)


async def test_a_driver_that_is_taken_over_hears_of_it_and_never_comes_back(cluster: LocalCluster) -> None:
    allocation = await cluster.submit(NAME, "owner", AllocationRequest(), [SLEEPER])
    await running(cluster, allocation)
    key = allocation.key
    assert await cluster.drive([allocation], "first") == {key: -1}, "nobody before"
    assert await cluster.confirm([allocation], "first") == {key: True}
    heard = await cluster.drive([allocation], "second")
    assert 0 <= heard[key] <= 2
    assert await cluster.confirm([allocation], "first") == {key: False}
    assert await cluster.confirm([allocation], "second") == {key: True}
    assert await cluster.confirm([allocation], "first") == {key: False}, "confirming is not taking over"
    await cluster.let_go([allocation], "second")
    assert await cluster.drive([allocation], "third") == {key: -1}, "who let go is not waited for"
    await cluster.release(NAME, grace=1)
    assert await cluster.drive([allocation], "fourth") == {}


async def test_of_many_that_come_at_once_one_drives(cluster: LocalCluster) -> None:
    allocation = await cluster.submit(NAME, "owner", AllocationRequest(), [SLEEPER])
    await running(cluster, allocation)
    tokens = [f"driver-{number}" for number in range(8)]
    await asyncio.gather(*(cluster.drive([allocation], token) for token in tokens))
    answers = [await cluster.confirm([allocation], token) for token in tokens]
    assert sum(answer[allocation.key] for answer in answers) == 1


async def test_one_that_follows_on_leaves_the_first_alone_and_is_released_with_it(cluster: LocalCluster) -> None:
    request = AllocationRequest(time_limit="1:00")
    first = await cluster.submit(NAME, "owner", request, [SLEEPER], keeper=KeeperSettings())
    status = await running(cluster, first)
    assert status.job is not None
    assert 50 <= (status.job.seconds_left or 0) <= 60
    second = await cluster.submit(NAME, "owner", request, [SLEEPER], after=first.incarnation)
    assert second.incarnation == first.incarnation + 1
    assert second.job_id != first.job_id
    again = await cluster.submit(NAME, "owner", request, [SLEEPER], after=first.incarnation)
    assert (again.key, again.adopted) == (second.key, True), "exactly once"
    await running(cluster, second)
    assert (await running(cluster, first)).state is JobState.RUNNING
    retried = await cluster.submit(NAME, "next-try", request, [SLEEPER])
    assert (retried.key, retried.adopted) == (second.key, True), "a retry adopts the newest"
    end = time.monotonic() + 10
    while (await cluster.look([Waiter(*first.key)]))[first.key].state is not JobState.ENDED:
        assert time.monotonic() < end, "and the one before is of no use any more"
        await asyncio.sleep(0.1)
    assert await cluster.release(NAME, grace=1) == 2


async def test_a_step_runs_and_tells(cluster: LocalCluster) -> None:
    allocation = await cluster.submit(NAME, "owner", AllocationRequest(), [SLEEPER])
    await running(cluster, allocation)
    assert "it's done" in await cluster.run_step(allocation, 'printf "it\'s %s\\n" done', timeout=10)
    assert "failed " in await cluster.run_step(allocation, "echo no >&2; exit 3", timeout=10)


async def test_a_command_that_listens_nowhere_is_not_waited_for_but_its_end_is(cluster: LocalCluster) -> None:
    step = ServiceCommand("step", 1, "sleep 3; echo made; exit 4", "0", ())
    allocation = await cluster.submit(
        NAME, "owner", AllocationRequest(), [step], keeper=KeeperSettings(start_timeout=1)
    )
    end = time.monotonic() + 15
    while True:
        status = (await cluster.look([Waiter(*allocation.key)]))[allocation.key]
        found = status.service("step")
        if found and found.exit_code is not None:
            break
        assert time.monotonic() < end, status
        assert not status.ending, status.ending
        await asyncio.sleep(0.2)
    assert found.exit_code == 4


async def test_a_files_identity_changes_with_it(cluster: LocalCluster, tmp_path: Path) -> None:
    one, missing = tmp_path / "it's one", tmp_path / "missing"
    one.write_text("a")
    before = await cluster.identity([str(one), str(missing)])
    assert before.splitlines()[1] == "unknown"
    one.write_text("ab")
    assert await cluster.identity([str(one), str(missing)]) != before
