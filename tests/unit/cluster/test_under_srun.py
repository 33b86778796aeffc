"""A wrapper that srun has started on a node: it ends in order, also where keeper, srun and slurmstepd do not see to that."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script
from tests.unit.cluster.test_keeper import PATTERN, SERVER, alive, wait_for_death

pytestmark = pytest.mark.slow


async def under_srun(tmp_path: Path) -> tuple[asyncio.subprocess.Process, Path, Path]:
    """A keeper on a node of its own, with a service that listens; its folder, and the service's."""
    folder, programs = tmp_path / "allocation", tmp_path / "bin"
    service = folder / "services" / "brayns1"
    service.mkdir(parents=True)
    programs.mkdir()
    texts = {
        "srun": """#!/bin/bash
while [ "$1" != sh ]; do shift; done
"$@" & child=$!
trap 'kill -KILL $child; echo "srun: forcing job termination" >&2; exit 137' TERM
wait $child; exit $?
""",
        "scontrol": "#!/bin/sh\necho node1\n",
    }
    for name, text in texts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    for name, text in {
        "index": "1",
        "port": "0",
        "port.sed": PATTERN[0],
        "command": f"export AB_PORT\n{SERVER}",
    }.items():
        (service / name).write_text(f"{text}\n")
    (folder / "keeper.sh").write_text(keeper_script(KeeperSettings(), scheduler="slurm"))
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node1"}
    keeper = await asyncio.create_subprocess_exec("/bin/sh", folder / "keeper.sh", folder, env=environment)
    async with asyncio.timeout(20):
        while not (service / "listening").exists():
            await asyncio.sleep(0.05)
    return keeper, folder, service


async def test_a_service_under_srun_is_stopped_in_order(tmp_path: Path) -> None:
    """srun that is told to end kills the wrapper at once (22.05): the wrapper must have stopped its service and said so before."""
    keeper, folder, service = await under_srun(tmp_path)
    async with asyncio.timeout(20):
        (folder / "release").write_text("now")
        keeper.send_signal(signal.SIGUSR1)
        await keeper.wait()
    assert (service / "exit").read_text() == "0 stopped\n"
    assert (folder / "ended").read_text() == "released\n"


async def test_a_wrapper_that_slurm_has_forgotten_ends_once_the_allocation_is_told_to_have_ended(
    tmp_path: Path,
) -> None:
    """Keeper and slurmstepd were killed, the release ended the job: the service went on for minutes on a node that was others'."""
    keeper, folder, service = await under_srun(tmp_path)
    pid = int((service / "pid").read_text())
    keeper.kill()
    await keeper.wait()
    assert alive(pid)
    (folder / "ended").write_text("released\n")
    wait_for_death(pid, 20)
    async with asyncio.timeout(20):
        while not (service / "exit").exists():
            await asyncio.sleep(0.05)
    assert (service / "exit").read_text() == "0 stopped\n"


async def test_a_script_of_the_sites_that_splits_words_is_told_of(tmp_path: Path) -> None:
    """`srun $*`: what was to run on the node was cut to pieces, which ended with success and without a word."""
    folder, programs = tmp_path / "allocation", tmp_path / "bin"
    service = folder / "services" / "brayns1"
    service.mkdir(parents=True)
    programs.mkdir()
    for name, text in (("srun", 'while [ "$1" != sh ]; do shift; done; exec $*'), ("scontrol", "echo node1")):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    for name, text in {"index": "1", "port": "0", "port.sed": PATTERN[0], "command": SERVER}.items():
        (service / name).write_text(f"{text}\n")
    (folder / "keeper.sh").write_text(keeper_script(KeeperSettings(), scheduler="slurm"))
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node1"}
    keeper = await asyncio.create_subprocess_exec("/bin/sh", folder / "keeper.sh", folder, env=environment)
    async with asyncio.timeout(20):
        while not (service / "exit").exists():
            await asyncio.sleep(0.05)
        (folder / "release").touch()
        await keeper.wait()
    assert 'see that it hands on its words as they are ("$@")' in (service / "exit").read_text()
