"""What is Slurm's own: a node's address, and a keeper to which Slurm tells nodes and time."""

from __future__ import annotations

import pytest

from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import InvalidSetting
from tests.support.shell import FakeShell


def test_a_node_is_reached_and_known_with_its_suffix() -> None:
    cluster = SlurmCluster(FakeShell(), node_suffix=".bbp.epfl.ch")
    assert cluster.address("r1i1n0") == "r1i1n0.bbp.epfl.ch"
    assert SlurmCluster(FakeShell()).address("r1i1n0") == "r1i1n0"
    assert [cluster.is_called("r1i1n0", host) for host in ("R1I1N0", "r1i1n0.bbp.epfl.ch", "r1i1n1", "r1i1n0.org")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_the_keeper_is_told_what_slurm_does_not_know() -> None:
    """Nodes and the time limit are Slurm's to say."""
    request = AllocationRequest(nodes=3, time_limit="2:00", cpus_per_task=7)
    script = SlurmCluster(FakeShell(), shared_parents=True).keeper_for(
        request, KeeperSettings(idle_limit=77), {"s1": "abc"}
    )
    head = script.partition("shared=")[0]
    for line in ("scheduler=slurm", "nodes=''", "time_limit=0", "idle_limit=77", "cpus_per_task=7", "proofs='s1 abc'"):
        assert f"{line}\n" in head
    assert "\nshared=yes\n" in script
    assert "\nshared=''\n" in SlurmCluster(FakeShell()).keeper_for(AllocationRequest(), KeeperSettings())


async def test_an_airflow_that_is_told_apart_from_no_other_leaves_nothing_alone() -> None:
    """Where `place` is empty the scripts ask of no allocation who asked for it."""
    shell = FakeShell("asked\n")
    await SlurmCluster(shell).release("ab-0123456789ab000")
    assert "\nplace=''\n" in shell.scripts[0]


@pytest.mark.parametrize(
    ("folder", "good"), [("/scratch/%u/brayns", False), ("/p/a%%b", False), ("/p/run%4j", False), ("/p/100%/x", True)]
)
def test_a_folder_whose_name_sbatch_would_change_is_refused(folder: str, good: bool) -> None:
    """The folder was made by that name, the job's log could not be opened elsewhere: the job had FAILED, without a word of it."""
    if good:
        assert SlurmCluster(FakeShell(), state_dir=folder).state_dir == folder
    else:
        with pytest.raises(InvalidSetting, match="^state_dir: choose a folder without %"):
            SlurmCluster(FakeShell(), state_dir=folder)
