"""Who renders with an allocation, the one that follows on, steps, programs: with real shells on this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, JobState
from airflow_brayns.cluster.files import identity
from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.render_lease import (
    RenderLease,
    confirm_leases,
    lease_elsewhere,
    lease_of,
    leave_leases,
    take_leases,
)
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import BraynsError, InvalidSetting, Occupied
from tests.support.shell import answering, coded, in_turn

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


async def test_a_holder_that_is_taken_over_hears_of_it_and_never_comes_back(cluster: LocalCluster) -> None:
    allocation = await cluster.submit(NAME, "owner", AllocationRequest(), [SLEEPER])
    await running(cluster, allocation)
    lease = lease_of(allocation)
    assert await take_leases(cluster, [lease], "first") == {lease: -1}, "nobody before"
    assert await confirm_leases(cluster, [lease], "first") == {lease: True}
    heard = await take_leases(cluster, [lease], "second")
    assert 0 <= heard[lease] <= 2
    assert await confirm_leases(cluster, [lease], "first") == {lease: False}
    assert await confirm_leases(cluster, [lease], "second") == {lease: True}
    assert await confirm_leases(cluster, [lease], "first") == {lease: False}, "confirming is not taking over"
    await leave_leases(cluster, [lease], "second")
    assert await take_leases(cluster, [lease], "third") == {lease: -1}, "who let go is not waited for"
    await cluster.release(NAME, grace=1)
    assert await take_leases(cluster, [lease], "fourth") == {}


async def test_of_many_that_come_at_once_one_holds_it(cluster: LocalCluster) -> None:
    allocation = await cluster.submit(NAME, "owner", AllocationRequest(), [SLEEPER])
    await running(cluster, allocation)
    lease, tokens = lease_of(allocation), [f"holder-{number}" for number in range(8)]
    await asyncio.gather(*(take_leases(cluster, [lease], token) for token in tokens))
    answers = [await confirm_leases(cluster, [lease], token) for token in tokens]
    assert sum(answer[lease] for answer in answers) == 1


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
    before = await identity(cluster, [str(one), str(missing)])
    assert before.splitlines()[1] == "unknown"
    one.write_text("ab")
    assert await identity(cluster, [str(one), str(missing)]) != before


# ---- names -------------------------------------------------------------------------------------------------------------
def test_a_lease_is_of_an_allocation_of_one_of_its_services_or_of_one_elsewhere() -> None:
    allocation = Allocation(NAME, 3, "77")
    assert lease_of(allocation) == RenderLease(NAME, "3")
    assert lease_of(allocation, "s1") == RenderLease(NAME, "3/services/s1")
    assert lease_elsewhere("r1i1n0:5000") == lease_elsewhere("r1i1n0:5000") != lease_elsewhere("r1i1n0:5001")
    assert lease_elsewhere("r1i1n0:5000").place == "1"


@pytest.mark.parametrize(
    ("name", "place"), [("x", "1"), ("at-0", "1"), (NAME, "1/services/A"), (NAME, "../1"), (NAME, "1 2"), (NAME, "")]
)
def test_what_no_lease_is_of_is_refused(name: str, place: str) -> None:
    with pytest.raises((InvalidSetting, ValueError)):
        RenderLease(name, place)


def test_a_services_name_is_a_name() -> None:
    with pytest.raises(InvalidSetting, match="^service"):
        lease_of(Allocation(NAME, 3, "77"), "A b")


# ---- what is said, and what the answers are taken for --------------------------------------------------------------------
LEASES = [lease_of(Allocation(NAME, 1, "77")), lease_of(Allocation(f"{NAME}1", 2, "78"), "s1")]


async def test_of_a_lease_it_is_told_how_long_ago_another_one_was_heard_of() -> None:
    told = f"driving {NAME} 1 -1\ndriving {NAME}1 2/services/s1 17\ndriving {NAME}2 1 5\ndriving {NAME} 1 soon\n"
    cluster, shell = answering(told)
    assert await take_leases(cluster, LEASES, "me", "the movie") == {LEASES[0]: -1, LEASES[1]: 17}
    by = coded("the movie")
    assert shell.last(2) == f"drive {NAME} 1 me '{by}'\ndrive {NAME}1 2/services/s1 me '{by}'"


async def test_of_services_that_another_movie_has_none_is_kept() -> None:
    answers = [f"driving {NAME} 1 -1\noccupied {NAME}1 2/services/s1 4 {coded('dag/other')}\n", ""]
    cluster, shell = in_turn(*answers)
    with pytest.raises(Occupied) as raised:
        await take_leases(cluster, LEASES, "me")
    assert (raised.value.by, raised.value.heard) == ("dag/other", 4)
    assert shell.last(2) == f"let_go {NAME} 1 me\nlet_go {NAME}1 2/services/s1 me"


async def test_a_lease_is_confirmed_where_it_is_still_ones_own() -> None:
    cluster, _ = answering(f"driving {NAME} 1 0\nundriven {NAME}1 2/services/s1\n")
    assert await confirm_leases(cluster, LEASES, "me") == {LEASES[0]: True, LEASES[1]: False}
    assert await confirm_leases(answering("")[0], LEASES, "me") == {}


async def test_leases_of_another_airflows_nodes_are_not_taken() -> None:
    cluster, _ = answering("foreign other/1\n")
    with pytest.raises(BraynsError, match=f"other/1.*{NAME}"):
        await take_leases(cluster, LEASES, "me")


async def test_another_movie_that_was_heard_of_at_an_unknown_time_counts_as_heard_of_just_now() -> None:
    """It keeps its services: whoever waits for it to fall silent waits from here on."""
    cluster, _ = in_turn(f"occupied {NAME} 1 soon {coded('dag/other')}\n", "")
    with pytest.raises(Occupied) as raised:
        await take_leases(cluster, LEASES, "me")
    assert raised.value.heard == 0
