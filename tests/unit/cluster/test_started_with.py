"""What a service was started with is read back as it was written, or not believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.errors import ServiceFailed

NAME = "ab-0123456789ab000"
ODD = "exec sleep 30 # \u200b\x1b[1m 'quoted' \"$HOME\" \\\\ über\n\n"
SERVICES = [
    ServiceCommand("s1", 1, ODD, "5000-5010", (r"s/^port \(.*\)/\1/p", "s/a/b/")),
    ServiceCommand("s10", 1, "exec sleep 30", "0", ()),
]
ADDED = ServiceCommand("s2", 1, "exec sleep 30", "0", ())


async def submitted(tmp_path: Path, *, shared: bool = False) -> tuple[LocalCluster, Allocation, Path]:
    cluster = LocalCluster(LocalShell(), state_dir=str(tmp_path), shared_parents=shared)
    allocation = await cluster.submit(NAME, "me", AllocationRequest(), SERVICES)
    await cluster.add_service(allocation, ADDED)
    return cluster, allocation, tmp_path / NAME / "1" / "services"


@pytest.mark.parametrize("shared", [False, True])
async def test_it_is_read_back_as_it_was_written(tmp_path: Path, shared: bool) -> None:
    cluster, allocation, _ = await submitted(tmp_path, shared=shared)
    for one in (*SERVICES, ADDED):
        assert await cluster.command_of(allocation, one.name) == one
    await cluster.release(NAME, grace=1)


async def test_what_was_changed_or_is_gone_is_not_run_again(tmp_path: Path) -> None:
    cluster, allocation, folder = await submitted(tmp_path)
    for name in ("s1", "s2"):
        with (folder / name / "command").open("a") as file:
            file.write("rm -rf everything\n")
        with pytest.raises(ServiceFailed, match=f"{name} is not what was written"):
            await cluster.command_of(allocation, name)
    (folder / "s10" / "command").unlink()
    for name in ("s10", "s3"):
        with pytest.raises(ServiceFailed, match="not in its folder"):
            await cluster.command_of(allocation, name)
    await cluster.release(NAME, grace=1)
