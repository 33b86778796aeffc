"""What a keeper notes of services that fail: on which node, and whether they had listened. Nothing else is a failure."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.failing import Failure
from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from tests.unit.cluster.test_keeper import NAME, PATTERN, SERVER

pytestmark = pytest.mark.slow
SRUN = """#!/bin/bash
while [ "$1" != sh ]; do shift; done
exec "$@"
"""
LISTENS = f"export AB_PORT\n{SERVER}"


class Keeper:
    """A keeper of two nodes, node1 and node2, with a service on each."""

    def __init__(self, tmp_path: Path, *commands: str, pattern: str = PATTERN[0], scheduler: str = "slurm") -> None:
        self.state, programs = tmp_path / "state", tmp_path / "bin"
        self.folder = self.state / NAME / "1"
        for number, command in enumerate(commands, 1):
            service = self.folder / "services" / f"brayns{number}"
            service.mkdir(parents=True)
            for name, text in {"index": str(number), "port": "0", "port.sed": pattern, "command": command}.items():
                (service / name).write_text(f"{text}\n" if text else "")
        programs.mkdir()
        for name, text in {"srun": SRUN, "scontrol": "#!/bin/sh\nprintf 'node1\\nnode2\\n'\n"}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        nodes = ("slot1", "slot2") if scheduler == "local" else ()
        limits = KeeperSettings(start_timeout=3)
        (self.folder / "keeper.sh").write_text(keeper_script(limits, scheduler=scheduler, nodes=nodes))
        self.environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[1-2]"}

    async def until(self, *files: str) -> None:
        """Start it, and await files of its folder."""
        command = ("/bin/sh", self.folder / "keeper.sh", self.folder)
        self.process = await asyncio.create_subprocess_exec(*command, env=self.environment)
        async with asyncio.timeout(30):
            while not all((self.folder / name).exists() for name in files):
                await asyncio.sleep(0.05)

    async def end(self, number: signal.Signals = signal.SIGUSR1) -> dict[str, str]:
        """End it, and tell what it has noted, by node."""
        if number is signal.SIGUSR1:
            (self.folder / "release").write_text("now\n")
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            await self.process.wait()
        return self.noted

    @property
    def noted(self) -> dict[str, str]:
        return {one.parent.name: one.read_text().strip() for one in self.state.glob(f"failures/*/{NAME}-1")}


async def test_a_service_that_fails_to_start_is_noted_of_its_node(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, LISTENS, "exec no-such-program-here")
    await keeper.until("services/brayns1/listening", "services/brayns2/exit", f"../../failures/node2/{NAME}-1")
    assert await keeper.end() == {"node2": "start the service ended with exit code 127"}
    [note] = keeper.state.glob("failures/*/*")
    assert [one.stat().st_mode & 0o777 for one in (note, note.parent)] == [0o600, 0o700]


async def test_a_service_that_dies_after_it_had_listened_is_noted_as_such(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, LISTENS, LISTENS)
    await keeper.until("services/brayns1/listening", "services/brayns2/listening")
    os.kill(int((keeper.folder / "services/brayns1/pid").read_text()), signal.SIGKILL)
    async with asyncio.timeout(30):
        while not keeper.noted:
            await asyncio.sleep(0.05)
    assert await keeper.end() == {"node1": "run the service ended with exit code 137"}


async def test_a_service_that_never_listens_is_noted_when_its_time_is_over(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, LISTENS, "exec sleep 600")
    await keeper.until("services/brayns1/listening", "services/brayns2/node")
    await asyncio.sleep(3.5)  # start_timeout
    assert await keeper.end() == {"node2": "start it did not listen within 3 s"}


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM], ids=["released", "cancelled, or out of time"])
async def test_services_that_end_with_their_job_are_no_failures(tmp_path: Path, number: signal.Signals) -> None:
    keeper = Keeper(tmp_path, LISTENS, "exec sleep 600")
    await keeper.until("services/brayns1/listening", "services/brayns2/pid")
    assert await keeper.end(number) == {}


@pytest.mark.parametrize(
    ("command", "changes"),
    [("exit 0", {}), ("exit 3", {"pattern": ""}), ("exit 3", {"scheduler": "local"})],
    ids=["quit", "a step, as of encoding", "this machine has no nodes"],
)  # fmt: skip
async def test_what_is_no_failure_of_a_node_is_not_noted(tmp_path: Path, command: str, changes: dict[str, str]) -> None:
    keeper = Keeper(tmp_path, command, **changes)
    await keeper.until("services/brayns1/exit")
    assert await keeper.end() == {}


@pytest.mark.parametrize("kind", [SlurmCluster, LocalCluster])
async def test_services_that_are_of_no_use_are_noted_by_whoever_finds_that_out(
    tmp_path: Path, kind: type[SlurmCluster | LocalCluster]
) -> None:
    """As what the finder says, although they listen: one without a plugin is compared with what was started as it was."""
    failures = [
        Failure("brayns1", "start", "it could not load the plugin 'x'; `touch here`\n$(touch here)"),
        Failure("brayns2", "ready", "it was not usable"),
        Failure("brayns3", "run", "it hung while it rendered"),
        Failure("brayns4", "run", "it was never there"),
    ]
    for number in (1, 2, 3):
        folder = tmp_path / NAME / "1" / "services" / f"brayns{number}"
        folder.mkdir(parents=True)
        for name, text in {"node": f"node{number}", "port.sed": "s/x/y/p", "listening": "5000"}.items():
            (folder / name).write_text(f"{text}\n")
    await kind(LocalShell(), state_dir=str(tmp_path)).note(Allocation(NAME, 1, "77"), failures)
    noted = {one.parent.name: one.read_text().strip() for one in tmp_path.glob(f"failures/*/{NAME}-1")}
    assert (
        noted
        == {
            SlurmCluster: {
                "node1": "start it could not load the plugin 'x'; `touch here` $(touch here)",
                "node2": "ready it was not usable",
                "node3": "run it hung while it rendered",
            },
            LocalCluster: {},
        }[kind]
    )


async def test_a_folder_in_the_way_costs_nothing_but_the_note(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, LISTENS, "exit 3")
    (keeper.state / "failures").write_text("not a folder\n")
    await keeper.until("services/brayns1/listening", "services/brayns2/exit")
    assert await keeper.end() == {}
    assert (keeper.folder / "ended").read_text() == "released\n"
