"""What the cluster room asks of Slurm, without Airflow and without braynsService: run against every Slurm that Debian carries
(`make test-versions`). The service is a listener of a few lines in the node's own Python."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from airflow_brayns.cluster.allocation import HOPELESS_REASONS, AllocationStatus, JobState
from airflow_brayns.cluster.finding import Fate
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.ssh import SSHShell
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import SubmissionRefused
from tests.support.cluster import NODES, USER, TestCluster
from tests.support.shell import ShellThrough

pytestmark = pytest.mark.slurm
NAME = "ab-00c0ffee0000000"
LISTENER = """exec python3 -u -c '
import os, socket, time
s = socket.socket(); s.bind(("0.0.0.0", int(os.environ["AB_PORT"]))); s.listen()
print("listening on %d" % s.getsockname()[1]); time.sleep(600)'"""


def service(index: int, script: str = LISTENER) -> ServiceCommand:
    return ServiceCommand(f"s{index}", index, script, "0", (r"s/^listening on \([0-9][0-9]*\)$/\1/p",))


REQUEST = {"account": "proj3", "partition": "prod"}


@pytest.fixture
async def cluster(running_slurm: TestCluster) -> AsyncIterator[SlurmCluster]:
    keys = running_slurm.folder / "keys"

    async def connect() -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            "127.0.0.1", 2222, username=USER, client_keys=[str(keys / "user")], known_hosts=str(keys / "known_hosts")
        )

    running_slurm.empty()
    one = SlurmCluster(SSHShell(connect))
    yield one
    await one.release(NAME)
    await asyncio.to_thread(running_slurm.empty, 15)
    await one.shell.close()


async def until(cluster: SlurmCluster, number: int, holds, seconds: float = 40) -> AllocationStatus:
    end = time.monotonic() + seconds
    while True:
        [status] = (await cluster.look([Waiter(NAME, number)])).values()
        if holds(status):
            return status
        assert time.monotonic() < end, status
        await asyncio.sleep(0.3)


async def test_four_nodes_with_a_service_each(cluster: SlurmCluster) -> None:
    allocation = await cluster.submit(
        NAME,
        "a",
        AllocationRequest(nodes=4, time_limit="10", **REQUEST),
        [service(n) for n in (1, 2, 3, 4)],
        "core test",
    )
    status = await until(
        cluster, allocation.incarnation, lambda s: len(s.services) == 4 and all(one.port for one in s.services)
    )
    assert status.nodes == NODES
    assert status.state is JobState.RUNNING
    assert status.job
    assert 0 < (status.job.seconds_left or 0) <= 600
    began = time.monotonic()
    await cluster.release(NAME)
    assert time.monotonic() - began < 15


async def test_a_service_is_known_by_every_name_of_its_node_and_by_what_it_was_started_with(
    cluster: SlurmCluster,
) -> None:
    allocation = await cluster.submit(NAME, "a", AllocationRequest(nodes=2, **REQUEST), [service(1), service(2)])
    status = await until(cluster, allocation.incarnation, lambda s: len([one for one in s.services if one.port]) == 2)
    for one in status.services:
        address = f"10.11.1.{NODES.index(one.node) + 1}"
        for host in (one.node.upper(), f"{one.node}.", address, f"::ffff:{address}"):
            found = await cluster.service_at(host, one.port or 0, direct=False)
            assert found is not None, host
            assert (found.service.name, found.service.node, found.fate) == (one.name, one.node, Fate.OURS)
        assert await cluster.service_at("login", one.port or 0, direct=False) is None
        assert await cluster.command_of(allocation, one.name) == service(int(one.name[1:]))
        assert (await cluster.run_step(allocation, "uname -n", timeout=30, node=one.node)).strip() == one.node


async def test_adopted_and_cancelled_by_its_owner_only(cluster: SlurmCluster) -> None:
    first = await cluster.submit(NAME, "a", AllocationRequest(**REQUEST), [service(1)])
    second = await cluster.submit(NAME, "b", AllocationRequest(**REQUEST), [service(1)])
    assert (second.job_id, second.adopted) == (first.job_id, True)
    assert await cluster.cancel(NAME, "a") == 0
    assert await cluster.cancel(NAME, "b") == 1
    await until(cluster, first.incarnation, lambda s: s.state is JobState.ENDED)
    third = await cluster.submit(NAME, "c", AllocationRequest(**REQUEST), [])
    assert third.incarnation == first.incarnation + 1


async def test_asked_for_otherwise_it_is_not_adopted(cluster: SlurmCluster) -> None:
    first = await cluster.submit(NAME, "a", AllocationRequest(nodes=1, **REQUEST), [])
    second = await cluster.submit(NAME, "a", AllocationRequest(nodes=2, **REQUEST), [])
    assert second.job_id != first.job_id
    await until(cluster, first.incarnation, lambda s: s.state is JobState.ENDED)


async def test_a_lost_answer_of_sbatch_is_searched_for(cluster: SlurmCluster) -> None:
    """As if the worker had died between sbatch's answer and storing it."""
    first = await cluster.submit(NAME, "a", AllocationRequest(**REQUEST), [])
    Path(first.folder, "job").unlink()
    second = await cluster.submit(NAME, "b", AllocationRequest(**REQUEST), [])
    assert second.job_id == first.job_id


@pytest.mark.parametrize("bad", [{"account": "nobody"}, {"partition": "nope"}, {"constraint": "gpu"}])
async def test_refusals_name_the_field(cluster: SlurmCluster, bad: dict[str, str]) -> None:
    with pytest.raises(SubmissionRefused, match=next(iter(bad))):
        await cluster.submit(NAME, "a", AllocationRequest(**{**REQUEST, **bad}), [])


@pytest.mark.parametrize("bad", [{"time_limit": "9-00"}, {"partition": "maint"}])
async def test_what_can_never_run_is_refused_or_tells_its_reason(cluster: SlurmCluster, bad: dict[str, str]) -> None:
    try:
        allocation = await cluster.submit(NAME, "a", AllocationRequest(**{**REQUEST, **bad}), [])
    except SubmissionRefused:
        return
    status = await until(
        cluster, allocation.incarnation, lambda s: s.job is not None and s.job.reason not in ("None", "Priority")
    )
    assert status.job
    assert status.job.reason in HOPELESS_REASONS


async def test_a_stopped_controller_is_not_an_empty_answer(cluster: SlurmCluster, running_slurm: TestCluster) -> None:
    allocation = await cluster.submit(NAME, "a", AllocationRequest(**REQUEST), [])
    await until(cluster, allocation.incarnation, lambda s: bool(s.nodes))
    running_slurm.fault("stop-ctld", "slurmctl")
    try:
        [status] = (await cluster.look([Waiter(*allocation.key)])).values()
        assert not status.answered
        assert status.state is JobState.UNKNOWN
        await cluster.release(NAME)  # the keeper needs no controller: it has read `release` and ended
        assert Path(allocation.folder, "ended").read_text().strip() == "released"
    finally:
        running_slurm.fault("cont-ctld", "slurmctl")


def shell_on_login() -> ShellThrough:
    """As a worker on the login node itself speaks to Slurm, without ssh: its environment is Airflow's."""
    environment = ("AIRFLOW__CORE__FERNET_KEY=fernet-0815", "SLURM_MEM_PER_CPU=512", "SBATCH_EXPORT=NONE")
    user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "env", f"HOME=/home/{USER}")
    return ShellThrough([TestCluster().folder / "bin" / "in", "login", *user, *environment, "/bin/sh"])


async def test_airflows_secrets_stay_on_the_login_node(running_slurm: TestCluster) -> None:
    """Without ssh: what the processes of a job and of its step really have, and that a step starts although memory was asked for."""
    cluster = SlurmCluster(shell_on_login())
    environ = f"/home/{USER}/environ.txt"
    script = f"cat /proc/$$/environ /proc/$PPID/environ | tr '\\0' '\\n' >{environ}.new; mv {environ}.new {environ}\n{LISTENER}"
    running_slurm.empty()
    allocation = await cluster.submit(
        NAME, "a", AllocationRequest(memory="1G", cpus_per_task=1, **REQUEST), [service(1, script)]
    )
    try:
        status = await until(cluster, allocation.incarnation, lambda s: bool(s.services and s.services[0].port))
        found = Path(environ).read_text()
        jobs = running_slurm.run(status.nodes[0], "sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'")
        assert "AB_SERVICE=s1" in found
        assert "fernet-0815" not in found + jobs
        assert "SLURM_MEM_PER_CPU" not in found
        assert "fernet-0815" not in await cluster.run_step(allocation, "env", timeout=20)
    finally:
        await cluster.release(NAME)
        Path(environ).unlink(missing_ok=True)
        await asyncio.to_thread(running_slurm.empty, 15)
