"""Answers of a cluster that are not what they should be: an error of ours, never a belief."""

from __future__ import annotations

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.render_lease import confirm_leases, lease_of, take_leases
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.errors import ConnectionLost, InvalidSetting
from tests.support.shell import FakeShell

NAME = "ab-0123456789ab000"
SUBMITTED = f"incarnation 1\nadopted 0\njob 77 2026-11-22T10:00:00\nfolder /x/{NAME}/1\n"


@pytest.mark.parametrize(
    "answer",
    ["", "incarnation 1\n", "incarnation ²\njob 77 x\n", "incarnation 1\njob $(x) y\n", f"incarnation {'9' * 5000}\njob 7\n", "incarnation 0\njob 7\n"],
)  # fmt: skip
async def test_a_submission_without_number_or_job_is_not_known(answer: str) -> None:
    """Such an answer was a KeyError or a ValueError, which no retry policy knows."""
    with pytest.raises(ConnectionLost, match="did not say"):
        await SlurmCluster(FakeShell(answer)).submit(NAME, "owner", AllocationRequest())
    assert (await SlurmCluster(FakeShell(SUBMITTED)).submit(NAME, "owner", AllocationRequest())).job_id == "77"


async def test_a_services_proof_is_written_before_it_is_announced() -> None:
    """A keeper that looked in between took the service for one of 0.2.0, which has none, and ran it unproved."""
    shell = FakeShell("added s1\n")
    allocation = Allocation(NAME, 1, "77")
    await SlurmCluster(shell).add_service(allocation, ServiceCommand("s1", 1, "sleep 9", "0", ()))
    written = shell.scripts[0].partition("fill() {")[2]
    assert written.index('"$service_dir/proof"') < written.index('"$service_dir"/command ')


async def test_a_folder_that_is_called_still_can_be_released() -> None:
    """The folder's own line was read as a job that is still there."""
    answer = f"found /data/is still here/{NAME}/1\nreleased {NAME} 1 done\nasked\n"
    assert await SlurmCluster(FakeShell(answer)).release(NAME) == 1
    with pytest.raises(ConnectionLost, match="cut off"):
        await SlurmCluster(FakeShell(f"found /asked/{NAME}/1\n")).release(NAME)


async def test_of_two_that_take_a_lease_at_the_same_moment_one_has_none() -> None:
    lease = lease_of(Allocation(NAME, 1, "77"))
    assert await take_leases(SlurmCluster(FakeShell(f"undriven {NAME} 1\n")), [lease], "me") == {}


async def test_only_what_was_asked_for_is_taken() -> None:
    """Words that were missing were an IndexError, and other allocations' lines counted."""
    one = Allocation(NAME, 1, "77")
    answer = f"driving\ndriving {NAME}\ndriving {NAME} ² 3\ndriving ab-f 1 3\ndriving {NAME} 1 -1\nundriven \n"
    assert await take_leases(SlurmCluster(FakeShell(answer)), [lease_of(one)], "me") == {lease_of(one): -1}
    assert await confirm_leases(SlurmCluster(FakeShell(answer)), [lease_of(one)], "me") == {lease_of(one): True}


async def test_an_answer_that_leaves_an_allocation_out_is_no_news_of_it() -> None:
    """It was a KeyError in the triggerer."""
    watch = Poller(SlurmCluster(FakeShell("answered\n")), 5).watch(Allocation(NAME, 1, "77"), 1)
    seen, _ = await anext(watch)
    assert isinstance(seen, ConnectionLost)
    await watch.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("folder", ["", "a\nb", "a\0b", "a\x0bb", "a\u2028b", "\ud800", "x" * (1 << 20)])
def test_a_state_folder_can_be_told_in_one_line(folder: str) -> None:
    with pytest.raises(InvalidSetting, match="^state_dir"):
        LocalCluster(FakeShell(), state_dir=folder)
