"""Giving back where the scheduler and the keeper do not say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.render_lease import confirm_leases, lease_of, leave_leases, take_leases
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.errors import AskedForElsewhere, Occupied

NAME = "ab-0123456789ab000"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An allocation whose keeper has said that it ended, and a Slurm that has it in the state of the file `state`."""
    folder = tmp_path / "state" / NAME / "1"
    (folder / "claim").mkdir(parents=True)
    (folder / "job").write_text("7 2026-01-01T00:00:00\n")
    (folder / "ended").write_text("released\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in {
        "squeue": f'echo "7|$(cat {tmp_path}/state.txt)|None|n1||{NAME}-1|2026-01-01T00:00:00||1:00"',
        "scancel": f"case $* in *--signal*) ;; *) echo CANCELLED >{tmp_path}/state.txt ;; esac; echo $* >>{tmp_path}/asked",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return tmp_path


async def test_a_job_that_slurm_still_has_is_ended_although_its_keeper_says_it_has(slurm: Path) -> None:
    """A slurmstepd that was killed tells slurmctld nothing: the node stays allocated for minutes."""
    (slurm / "state.txt").write_text("RUNNING\n")
    assert await SlurmCluster(LocalShell(), state_dir=str(slurm / "state")).release(NAME, grace=1) == 1
    assert f"--name={NAME}-1 7" in (slurm / "asked").read_text()


async def test_one_that_is_over_is_left_alone(slurm: Path) -> None:
    (slurm / "state.txt").write_text("COMPLETED\n")
    assert await SlurmCluster(LocalShell(), state_dir=str(slurm / "state")).release(NAME, grace=1) == 1
    assert not (slurm / "asked").exists()


@pytest.fixture
def production(slurm: Path) -> Path:
    """A running allocation that an Airflow asked for which calls itself `production`."""
    folder = slurm / "state" / NAME / "1"
    (folder / "ended").unlink()
    (folder / "about").write_text('{"installation": "mark", "dag_id": "d", "deployment": "production"}\n')
    (folder / "owner.try-1").touch()
    (folder / "services" / "s1").mkdir(parents=True)
    (folder / "services" / "s1" / "command").touch()
    (slurm / "state.txt").write_text("RUNNING\n")
    return folder


def of(slurm: Path, deployment: str) -> SlurmCluster:
    return SlurmCluster(LocalShell(), state_dir=str(slurm / "state"), deployment=deployment)


async def test_a_clone_leaves_alone_what_it_would_give_back(slurm: Path, production: Path) -> None:
    """The clone of a database has the runs, the names and the tries of the one that it was made of."""
    clone, allocation = of(slurm, "staging"), Allocation(NAME, 1, "7")
    with pytest.raises(
        AskedForElsewhere, match=r"(?s)installation_id .*\[brayns\] deployment.*another Airflow, production, "
    ) as raised:
        await clone.release(NAME, grace=1)
    assert not raised.value.retry
    assert await clone.cancel(NAME, "try-1") == 0
    with pytest.raises(AskedForElsewhere):
        await clone.stop_service(allocation, "s1")
    with pytest.raises(AskedForElsewhere):
        await clone.add_service(allocation, ServiceCommand("s2", 1, "exec true", "0", ()))
    assert not (slurm / "asked").exists()
    assert sorted(path.name for path in production.iterdir()) == ["about", "claim", "job", "owner.try-1", "services"]
    assert [path.name for path in production.glob("services/*/*")] == ["command"]


@pytest.mark.parametrize("deployment", ["production", ""])
async def test_its_own_airflow_gives_it_back(slurm: Path, production: Path, deployment: str) -> None:
    """Also one that does not know what it is called: a container's name changes, and its nodes go back all the same."""
    assert await of(slurm, deployment).cancel(NAME, "try-1") == 1
    assert await of(slurm, deployment).release(NAME, grace=1) == 1
    assert f"--name={NAME}-1 7" in (slurm / "asked").read_text()


async def test_a_clone_releases_what_is_not_its_own_on_demand(slurm: Path, production: Path) -> None:
    assert await of(slurm, "staging").release(NAME, grace=1, elsewhere=True) == 1
    assert f"--name={NAME}-1 7" in (slurm / "asked").read_text()
    with_ended = of(slurm, "staging")
    assert await with_ended.release(NAME, grace=1) == 1, "already gone is success"


async def test_a_clones_movie_takes_over_none_of_the_movie_that_it_is_a_copy_of(slurm: Path, production: Path) -> None:
    """To the services it looked like the next try; what they were handed on to others for is another matter."""
    clone, movie, allocation = of(slurm, "staging"), "dag/run/task", Allocation(NAME, 1, "7")
    whole, service = lease_of(allocation), lease_of(allocation, "s1")
    assert await take_leases(of(slurm, "production"), [service], "theirs", movie) == {service: -1}
    for lease in (whole, service):
        with pytest.raises(AskedForElsewhere, match="another Airflow, production"):
            await take_leases(clone, [lease], "mine", movie)
    assert await confirm_leases(of(slurm, "production"), [service], "theirs", movie) == {service: True}
    with pytest.raises(Occupied):
        await take_leases(clone, [service], "mine", "dag/another run/task")
    await leave_leases(of(slurm, "production"), [service], "theirs")
    assert await take_leases(clone, [service], "mine", "dag/another run/task") == {service: -1}
