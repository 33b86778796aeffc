# ruff: noqa: F811
"""A state folder that is full, or that somebody writes in: nothing that was cut off is run, and what has nodes is ended."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.files import install
from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.render_lease import confirm_leases, lease_of, take_leases
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.scripts import script_of
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import ServiceCommand, TlsFiles, fill
from airflow_brayns.errors import InvalidSetting, StateFolderFull
from tests.support.shell import ShellThrough
from tests.unit.cluster.test_keeper import (  # noqa: F401
    NAME,
    SERVER,
    alive,
    make,
    pid_of,
    service,
    shell,
    until,
    wait_for_death,
)

pytestmark = pytest.mark.slow

LONG = f"# {'x' * 3000}\nrm -rf {{0}}/V/old\n"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=False)


def fill_up(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


async def on(folder: Path, *services: ServiceCommand, **limits: int) -> tuple[LocalCluster, Allocation]:
    cluster = LocalCluster(LocalShell(), state_dir=str(folder / "state"))
    return cluster, await cluster.submit(NAME, "a", AllocationRequest(), services, keeper=KeeperSettings(**limits))


# ---- what is written -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("blocks", [1, 2, 4, 8, 40])
async def test_what_cannot_be_written_whole_is_not_submitted(tmp_path: Path, blocks: int) -> None:
    """Whichever write it is that meets the limit: the job script has 60 blocks, the command 8."""
    shell = ShellThrough(["/bin/sh"], before=f"ulimit -f {blocks}  # of 512 bytes, as a quota has it")
    cluster = LocalCluster(shell, state_dir=str(tmp_path / "state"))
    (tmp_path / "V" / "old").mkdir(parents=True)
    with pytest.raises(StateFolderFull, match="(?s)state_dir: .*state is full") as raised:
        await cluster.submit(NAME, "a", AllocationRequest(), [service(LONG.format(tmp_path))])
    assert raised.value.retry
    assert (raised.value.field, raised.value.folder) == ("state_dir", str(tmp_path / "state"))
    assert not list((tmp_path / "state" / NAME).glob("[0-9]*"))
    assert (tmp_path / "V").exists()
    shell.before = ""
    assert (await cluster.submit(NAME, "a", AllocationRequest(), [])).incarnation == 1
    await cluster.release(NAME, grace=1)


async def test_a_full_folder_is_told_before_anything_is_submitted(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(f"#!/bin/sh\ntouch {tmp_path}/submitted\necho 7\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    cluster = SlurmCluster(LocalShell(), state_dir=str(small / "state"))
    for room in (0, 4096, 32768):  # for nothing, for a folder, for the command but not for what the keeper writes
        filler = fill_up(small)
        os.truncate(filler, max(0, filler.stat().st_size - room))
        with pytest.raises(StateFolderFull, match=r"(?s)state_dir: .*small/state is full"):
            await cluster.submit(NAME, "a", AllocationRequest(), [service()], tls=TlsFiles("k" * 3000, "c" * 3000))
        filler.unlink()
    assert not (tmp_path / "submitted").exists()


def test_a_cut_off_write_leaves_nothing_behind_in_any_shell(shell: ShellThrough, tmp_path: Path) -> None:
    folder = tmp_path / "service"
    folder.mkdir()
    body = f"fill() {{\n{fill(service(LONG.format(tmp_path)))}}}\nservice_dir={folder}\nfill; echo code $?\nput {folder}/line '{'y' * 2000}'; echo code $?"
    head = f"scheduler=local\nstate_dir={tmp_path}\n{script_of('services')}"
    done = subprocess.run(
        [*shell.command, "-c", f"ulimit -f 1\n{head}\n{body}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "code 1\ncode 1\n", done.stderr
    assert sorted(one.name for one in folder.iterdir()) == ["index", "port", "port.sed"]


async def test_a_service_that_cannot_be_written_is_not_added(small: Path) -> None:
    cluster, allocation = await on(small)
    try:
        filler = fill_up(small)
        with pytest.raises(StateFolderFull):
            await cluster.add_service(allocation, service())
        assert not list((Path(allocation.folder) / "services").iterdir())
        filler.unlink()
        await cluster.add_service(allocation, service())
        await until(cluster, lambda s: bool(s.services and s.services[0].port))
    finally:
        await cluster.release(NAME, grace=2)


async def test_a_service_runs_on_in_a_full_folder_is_kept_and_taken_over_and_its_end_is_told(small: Path) -> None:
    """Lease, heartbeat, owner and driver need no further room, and the last word has its own."""
    cluster, allocation = await on(small, service(), heartbeat_limit=4, idle_limit=6)
    folder = Path(allocation.folder)
    try:
        await until(cluster, lambda s: s.services[0].port is not None)
        await take_leases(cluster, [lease_of(allocation)], "driver")
        fill_up(small)
        pid = pid_of(cluster)
        end = time.monotonic() + 8
        while time.monotonic() < end:
            [status] = (await cluster.look([waiter(allocation)])).values()
            assert alive(pid), "the wrapper saw the keeper's heartbeat, and the keeper the lease"
            await asyncio.sleep(0.3)
        assert status.services[0].exit_code is None
        assert int((folder / "lease").read_text()) > time.time() - 5
        assert await confirm_leases(cluster, [lease_of(allocation)], "driver") == {lease_of(allocation): True}
        again = await cluster.submit(
            NAME, "b", AllocationRequest(), [service()], keeper=KeeperSettings(heartbeat_limit=4, idle_limit=6)
        )
        assert (again.adopted, again.key) == (True, allocation.key)
        os.kill(pid, signal.SIGKILL)
        status = await until(cluster, lambda s: s.services[0].exit_code is not None)
        assert (status.services[0].exit_code, status.services[0].exit_text) == (
            137,
            "the service ended with exit code 137",
        )
    finally:
        await cluster.release(NAME, grace=2)
    assert not alive(int(allocation.job_id))
    assert (folder / "ended").read_text().strip()


def waiter(allocation: Allocation):
    from airflow_brayns.cluster.waiter import Waiter

    return Waiter(*allocation.key)


@pytest.mark.parametrize("how", ["release", "cancel", "stop"])
async def test_what_cannot_be_told_to_end_is_ended(small: Path, how: str) -> None:
    cluster, allocation = await on(small, service())
    await until(cluster, lambda s: s.services[0].port is not None)
    pid = pid_of(cluster)
    fill_up(small)
    if how == "stop":
        await cluster.stop_service(allocation, "s1")  # a name alone needs no room
        assert not alive(pid)
    elif how == "cancel":
        assert await cluster.cancel(NAME, "a") == 1
    else:
        assert await cluster.release(NAME, grace=2) == 1
    if how != "stop":
        await asyncio.to_thread(wait_for_death, int(allocation.job_id), 15)
        await asyncio.to_thread(wait_for_death, pid, 5)
    await cluster.release(NAME, grace=2)
    assert not alive(int(allocation.job_id))


@pytest.mark.parametrize("scratch", ["full", "missing"])
async def test_a_job_whose_folder_cannot_be_written_is_cancelled(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scratch: str
) -> None:
    """`release` could not be written: the keeper hears of nothing, and Slurm has to end it."""
    folder = small / "state" / NAME / "1"
    (folder / "claim").mkdir(parents=True)
    (folder / "job").write_text("7 2026-01-01T00:00:00\n")
    (tmp_path / "state.txt").write_text("RUNNING\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {
        "squeue": f'echo "7|$(cat {tmp_path}/state.txt)|None|n1||{NAME}-1|2026-01-01T00:00:00||1:00"',
        "scancel": f"case $* in *--signal*) ;; *) echo CANCELLED >{tmp_path}/state.txt ;; esac; echo $* >>{tmp_path}/asked",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("TMPDIR", str(small if scratch == "full" else small / "nowhere"))
    fill_up(small)
    began = time.monotonic()
    assert await SlurmCluster(LocalShell(), state_dir=str(small / "state")).release(NAME, grace=30) == 1
    assert f"--name={NAME}-1 7" in (tmp_path / "asked").read_text().splitlines()
    assert time.monotonic() - began < 15, "there was nobody to be patient with"


# ---- what is read ----------------------------------------------------------------------------------------------------
FILES = {
    "command": "touch {0}/evil",
    "index": "2",
    "port": "5000",
    "port.sed": "1e touch {0}/evil",
    "keeper.sh": "touch {0}/evil",
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("change", ["cut", "exchanged"])
@pytest.mark.parametrize("added", [False, True], ids=["submitted", "added"])
async def test_what_is_not_what_was_written_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, change: str, added: bool
) -> None:
    """Between the writing and the start: a keeper whose `scontrol` waits for the change."""
    programs, state = tmp_path / "bin", tmp_path / "state"
    programs.mkdir()
    texts = {
        "sbatch": f'while [ "${{1#/}}" = "$1" ]; do shift; done\ncp "$1" {tmp_path}/spool\nSLURM_JOB_NODELIST=two setsid sh {tmp_path}/spool "$2" >{tmp_path}/out 2>&1 </dev/null &\necho 7',
        "scontrol": f"while [ ! -e {tmp_path}/changed ]; do sleep 0.1; done\necho node1\necho node2",
        "srun": 'while [ "$1" != sh ]; do shift; done\nexec "$@"',
        "squeue": f'[ -e {tmp_path}/over ] || echo "7|RUNNING|None|node1||{NAME}-1|2026-01-01T00:00:00||1:00"',
        "scancel": f"case $* in *--signal*) ;; *) touch {tmp_path}/over ;; esac",
    }
    for name, text in texts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    cluster = SlurmCluster(LocalShell(), state_dir=str(state))
    one = service(f"touch {tmp_path}/ran\n{SERVER}")
    allocation = await cluster.submit(NAME, "a", AllocationRequest(), [] if added else [one])
    if added:
        await cluster.add_service(allocation, one)
    folder = Path(allocation.folder)
    path = folder / file if file == "keeper.sh" else folder / "services" / "s1" / file
    whole = path.read_text()
    path.write_text(whole[:-2] if change == "cut" else FILES[file].format(tmp_path) + "\n")
    (tmp_path / "changed").touch()
    try:
        async with asyncio.timeout(30):
            while not (folder / "services" / "s1" / "exit").exists():
                await asyncio.sleep(0.1)
        said = (folder / "services" / "s1" / "exit").read_text()
        assert said.startswith("94 ")
        assert re.search("cut off, or somebody changed it", said)
        assert not (tmp_path / "ran").exists()
        assert not (tmp_path / "evil").exists()
    finally:
        (folder / "release").touch()
        async with asyncio.timeout(20):
            while not (folder / "ended").exists():
                await asyncio.sleep(0.1)


async def test_a_certificate_that_was_cut_off_starts_nothing(tmp_path: Path) -> None:
    cluster = LocalCluster(LocalShell(), state_dir=str(tmp_path / "state"))
    allocation = await cluster.submit(NAME, "a", AllocationRequest(), [], tls=TlsFiles("key", "cert"))
    try:
        (Path(allocation.folder) / "tls" / "cert.pem").write_text("ce")
        await cluster.add_service(allocation, service(f"touch {tmp_path}/second\n{SERVER}"))
        status = await until(cluster, lambda s: bool(s.services and s.services[0].exit_code is not None))
        assert status.services[0].exit_code == 94
        assert not (tmp_path / "second").exists()
    finally:
        await cluster.release(NAME, grace=1)


async def test_what_0_2_0_wrote_still_runs(make: Callable[..., LocalCluster]) -> None:
    """It wrote no proof beside a service that was added."""
    cluster = make()
    allocation = await cluster.submit(NAME, "a", AllocationRequest(), [])
    await until(cluster, lambda s: bool(s.nodes))
    folder = Path(allocation.folder) / "services" / "s1"
    folder.mkdir()
    for name, text in {
        "index": "1\n",
        "port": "0\n",
        "port.sed": service().port_patterns[0] + "\n",
        "command": SERVER + "\n",
    }.items():
        (folder / name).write_text(text)
    await until(cluster, lambda s: bool(s.services and s.services[0].port))


async def test_a_program_that_did_not_arrive_whole_is_copied_again(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho it runs\n")
    cluster = SlurmCluster(LocalShell(), state_dir=str(tmp_path / "state"))
    there = Path(await install(cluster, program))
    assert there.read_text() == program.read_text()
    there.write_text("#!/bin/sh\necho")
    assert Path(await install(cluster, program)).read_text() == program.read_text()


async def test_a_program_that_has_no_room_is_told_of(small: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#" * 400_000)
    cluster = SlurmCluster(LocalShell(), state_dir=str(small / "state"))
    await cluster.call("files", ":", 10)
    (small / "state").mkdir(exist_ok=True)
    (small / "filler").write_bytes(b"x" * 300_000)
    with pytest.raises(StateFolderFull):
        await install(cluster, program)
    assert not list((small / "state" / "bin").iterdir())


async def test_a_folder_that_may_not_be_written_is_not_called_full(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSetting, match="cannot be written"):
        await LocalCluster(LocalShell(), state_dir=str(tmp_path / "file" / "state")).submit(
            NAME, "a", AllocationRequest()
        )
