"""Which variables go where: a worker's environment holds Airflow's secrets, and a job's around us holds its options."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from airflow_brayns.cluster.answers import decode
from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.owner import comment
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import NAMED, ServiceCommand, sbatch_line, submission
from airflow_brayns.cluster.waiter import Waiter
from tests.support.local import running

NAME = "ab-0123456789ef000"
SHELLS_OWN = {"PWD", "SHLVL", "_", "OLDPWD"}  # bash as sh sets these itself
SECRETS = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://airflow:secret@db/airflow",
    "AIRFLOW__CORE__FERNET_KEY": "secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "MANY_LINES": "one\nSLURM_TWO=secret",
}
OPTIONS = {
    "SLURM_MEM_PER_CPU": "1G", "SLURM_JOB_ID": "7", "SLURM_EXPORT_ENV": "NONE", "SBATCH_EXPORT": "NONE", "SBATCH_ACCOUNT": "x",
    "SALLOC_ACCOUNT": "x", "SRUN_CPUS_PER_TASK": "9", "SQUEUE_FORMAT": "x", "SCANCEL_NAME": "x", "SLURM_TIME_FORMAT": "relative",
}  # fmt: skip


MACHINES = frozenset(["SHELL", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "BRAYNS_EMULATOR"])


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Slurm whose programs write down what they are given; the worker's environment is as full as one is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, answer in {"sbatch": "echo 77", "squeue": ":", "srun": "exec /bin/sh -s", "scancel": ":"}.items():
        text = f"#!/bin/sh\ntr '\\0' '\\n' </proc/$$/environ >{tmp_path}/{name}.env\n{answer}\n"
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for name, value in (SECRETS | OPTIONS).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/it's.conf")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path


def seen(path: Path) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in path.read_text().splitlines())


def assert_named(found: dict[str, str], more: frozenset[str] = frozenset()) -> None:
    assert not set(found) - set(NAMED) - SHELLS_OWN - more
    assert "secret" not in str(found)


async def test_sbatch_gets_what_is_named_and_no_more(programs: Path) -> None:
    cluster = SlurmCluster(LocalShell(), state_dir=str(programs / "state"))
    await cluster.submit(NAME, "me", AllocationRequest(memory="4G"), [ServiceCommand("s1", 1, "true", "0", ())])
    found = seen(programs / "sbatch.env")
    assert_named(found)
    assert found["SLURM_CONF"] == "/etc/slurm/it's.conf"
    assert {"HOME", "PATH"} <= set(found)


async def test_a_step_gets_no_more(programs: Path) -> None:
    cluster = SlurmCluster(LocalShell(), state_dir=str(programs / "state"))
    allocation = await cluster.submit(NAME, "me", AllocationRequest(), [])
    assert "secret" not in await cluster.run_step(allocation, "env", timeout=10)
    assert_named(seen(programs / "srun.env"), frozenset({"TMPDIR"}))


async def test_a_connection_that_is_tried_gets_no_more(programs: Path) -> None:
    """Whoever may edit a connection could have its `setup` show the secrets of the machine that tests it."""
    cluster = SlurmCluster(LocalShell(), state_dir=str(programs / "state"))
    told = dict(await cluster.ask("inspect", "tested --account=proj3\nran 20 'env; exit 3'", 30))
    assert_named(seen(programs / "sbatch.env"), MACHINES)
    assert told["ran"][0] == "3"
    assert "secret" not in decode(told["ran"][1])
    assert "HOME=" in decode(told["ran"][1])


async def test_the_logins_own_options_change_no_question(programs: Path) -> None:
    cluster = SlurmCluster(LocalShell(), state_dir=str(programs / "state"))
    await cluster.look([Waiter(NAME, 1)])
    asked = seen(programs / "squeue.env")
    assert not {name for name in asked if name in OPTIONS}
    assert asked["SLURM_CONF"]


async def test_on_this_machine_services_and_keeper_get_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SECRETS | {"BRAYNS_EMULATOR": "snapshot_seconds=0", "LANG": "C.UTF-8"}).items():
        monkeypatch.setenv(name, value)
    cluster = LocalCluster(LocalShell(), state_dir=str(tmp_path / "state"))
    script = f"export MINE=named\ntr '\\0' '\\n' </proc/$$/environ >{tmp_path}/service.env\nenv >{tmp_path}/mine.env\nexec sleep 600"
    allocation = await cluster.submit(NAME, "me", AllocationRequest(), [ServiceCommand("s1", 1, script, "0", ())])
    try:
        async with asyncio.timeout(15):
            while not (tmp_path / "mine.env").exists() or "MINE=named" not in (tmp_path / "mine.env").read_text():
                await asyncio.sleep(0.05)
        found = seen(tmp_path / "service.env")
        assert_named(
            found,
            MACHINES | {"AB_PORT", "AB_FOLDER", "AB_JOB", "AB_SERVICE"},
        )
        assert (found["BRAYNS_EMULATOR"], found["LANG"]) == ("snapshot_seconds=0", "C.UTF-8")
        assert "secret" not in Path(f"/proc/{allocation.job_id}/environ").read_text()
        assert "secret" not in await cluster.run_step(allocation, "env", timeout=10)
    finally:
        await cluster.release(NAME, grace=1)
    assert not running(tmp_path / "state")


def test_the_line_that_is_printed_is_the_line_that_runs() -> None:
    request = AllocationRequest(account="proj3")
    line = sbatch_line(request, comment(NAME, "a"))
    assert line in submission(NAME, "me", request, [], "a", KeeperSettings(), "#!/bin/sh\n")
    assert line.startswith("env -i ")
