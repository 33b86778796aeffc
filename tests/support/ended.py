"""A state folder with allocations that have ended, and a cluster's sweep over it through each shell; `cluster` is a fixture."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from airflow_brayns.cluster.scripts import script_of
from airflow_brayns.cluster.slurm import SlurmCluster
from tests.support.shell import ShellThrough

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
AWKS = ("mawk", "gawk")
HOUR, DAY = 3600, 86400
BROKEN_AFTER = 600  # seconds: a lock of a sweep whose owner was killed (sweep.sh)
BOOKING = "ab-0123456789ab"
NAME, OTHER = f"{BOOKING}000", f"{BOOKING}001"


@pytest.fixture(params=sorted(SHELLS))
def cluster(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    """A Slurm that knows the jobs of the file `queue`, and takes each request; spoken to through each shell and both awks."""
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (apt-get install {command[0]})")
    programs = tmp_path / "bin"
    programs.mkdir()
    awk = shutil.which(AWKS[len(request.param) % 2]) or shutil.which("awk")
    for name, script in {
        "squeue": f"echo 'JOBID|STATE|REASON|NODELIST|COMMENT|NAME|SUBMIT_TIME|START_TIME|TIME_LEFT'\ncat {tmp_path}/queue 2>/dev/null || :",
        "sbatch": "echo 4242",
        "scancel": f'echo "$*" >>{tmp_path}/cancelled; rm -f {tmp_path}/queue',
        "awk": f'exec {awk} "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return SlurmCluster(ShellThrough(command), state_dir=str(tmp_path / "state"))


def ended(
    cluster: SlurmCluster, name: str, n: int = 1, *, ago: float = 2 * DAY, port: int = 5000, node: str = "n1"
) -> Path:
    """An allocation as its keeper left it."""
    folder = Path(cluster.state_dir) / name / str(n)
    service = folder / "services" / "brayns1"
    service.mkdir(parents=True)
    for path, text in {
        "job": "7 2026-01-01T00:00:00", "owner.somebody": "", "release": "1", "ended": "not used for 1800 s (idle_limit)", "asked": "5a3e",
        "services/brayns1/command": "true", "services/brayns1/port.sed": "s/x/y/p", "services/brayns1/node": node,
        "services/brayns1/listening": str(port), "services/brayns1/exit": "0 stopped", "services/brayns1/log": "the last line",
    }.items():  # fmt: skip
        (folder / path).write_text(f"{text}\n")
    os.utime(folder / "ended", (time.time() - ago,) * 2)
    return folder


def lives(cluster: SlurmCluster, name: str, n: int = 1) -> Path:
    """One that has not ended."""
    folder = ended(cluster, name, n)
    for path in ("release", "ended", "services/brayns1/exit"):
        (folder / path).unlink()
    return folder


async def sweep(cluster: SlurmCluster) -> None:
    """What the first submission of an hour does."""
    (Path(cluster.state_dir) / ".swept").unlink(missing_ok=True)
    await cluster.call("submit", "sweep", 60)


def begin(cluster: SlurmCluster, calls: str) -> subprocess.Popen[str]:
    """A process of the cluster's shell that makes some calls on the login machine."""
    assert isinstance(cluster.shell, ShellThrough)
    script = f"scheduler=slurm\nstate_dir='{cluster.state_dir}'\n{script_of('submit')}{calls}\n"
    return subprocess.Popen([*cluster.shell.command, "-c", script], stdout=subprocess.PIPE, text=True)


def run(cluster: SlurmCluster, calls: str, at_once: int = 1) -> list[str]:
    """What so many processes printed that made the same calls at once."""
    return [process.communicate(timeout=60)[0] for process in [begin(cluster, calls) for _ in range(at_once)]]


def folded(cluster: SlurmCluster) -> list[str]:
    """Names and incarnations of what is folded away."""
    return sorted("/".join(one.parts[-2:]) for one in Path(cluster.state_dir).glob(".ab-finished/*/*/*/*"))
