"""Giving back where the scheduler and the keeper do not say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_brayns.cluster.cluster import SlurmCluster
from airflow_brayns.cluster.shell import LocalShell

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
