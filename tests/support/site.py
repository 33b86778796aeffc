"""A Slurm of this machine, of which a test wraps each command as a site does."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster

NAME = "ab-0123456789ab000"
# What sbatch, squeue and scancel do, as far as it is asked for here. `jobs` has a line of squeue's for each job.
REAL = {
    "sbatch": """for one; do case $one in --job-name=*) name=${one#*=} ;; esac; done
id=$((4242 + $(wc -l <jobs)))
echo "$id|PENDING|Priority||c|$name|2026-11-26T08:00:0$(wc -l <jobs)||1:00" >>jobs
echo $id""",
    "squeue": """case $* in *-j*) echo "in $(cat partitions)"; exit ;; esac
case $* in *-h*) ;; *) echo 'JOBID|STATE|REASON|NODELIST|COMMENT|NAME|SUBMIT_TIME|START_TIME|TIME_LEFT' ;; esac
cat jobs""",
    "scancel": """echo "$*" >>cancelled
case $* in *--signal*) ;; *) sed -i "s/PENDING/CANCELLED/;s/RUNNING/${after:-CANCELLED}/" jobs ;; esac""",
    "srun": 'shift $(($# - 2)); exec "$@"',
}
RED, PLAIN = r"\033[1;31m", r"\033[0m\033(B"


class Site:
    """A Slurm of this machine, of which each command can be wrapped."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.real = folder, folder / "bin", folder / "real"
        self.bin.mkdir()
        self.real.mkdir()
        (folder / "jobs").touch()
        for name, text in REAL.items():
            self._write(self.real / name, f"cd {folder}\n{text}")
            self.wrap(name, '"$real" "$@"')
        self.cluster = SlurmCluster(LocalShell(), state_dir=str(folder / "state"))

    def wrap(self, name: str, text: str) -> None:
        """Put a script in the place of a command; what the command does itself is `$real`."""
        self._write(self.bin / name, f"real={self.real}/{name}\n{text}")

    def _write(self, path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    @property
    def jobs(self) -> list[str]:
        return (self.folder / "jobs").read_text().splitlines()

    async def submit(self, after: int = 0) -> Allocation:
        return await self.cluster.submit(NAME, "me", AllocationRequest(), [], "a test", after=after)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return Site(tmp_path)


def running(site: Site, word: str = "RUNNING") -> None:
    """Whatever waits in its queue runs by now, or is as the word says."""
    text = (site.folder / "jobs").read_text().replace("PENDING", word)
    (site.folder / "jobs").write_text(text)
