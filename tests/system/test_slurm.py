"""Operators on a real Slurm cluster over SSH: what works, what bad input gets, and that nothing is left."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_brayns import BraynsServiceOperator, ReleaseNodesOperator, open_endpoint
from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import probe
from tests.support.cluster import NODES, USER, TestCluster
from tests.support.task import Ti, run_trigger

pytestmark = pytest.mark.slurm
PLUGIN = "braynsCircuitExplorer"


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": Ti()}


def service(**arguments: Any) -> BraynsServiceOperator:
    values = {"task_id": "task", "cluster_conn_id": "test_cluster", "plugins": [PLUGIN], "deferrable": False}
    return BraynsServiceOperator(**{**values, **arguments})


def release(context: Any) -> None:
    ReleaseNodesOperator(task_id="release", cluster_conn_id="test_cluster", allocated_by="task").execute(context)


async def test_four_nodes_from_nothing_to_usable_and_back(slurm: TestCluster, context: Any) -> None:
    import asyncio

    endpoints = await asyncio.to_thread(service(nodes=4).execute, context)
    assert [one["node"] for one in context["ti"].xcom["services"]] == list(NODES)
    assert len(slurm.queue()) == 1
    assert context["ti"].xcom["services"][0]["ends_at"]

    def ask() -> str:
        with open_endpoint(endpoints[2], "test_cluster") as near:
            return asyncio.run(probe(Endpoint.parse(near), [PLUGIN])).version

    assert await asyncio.to_thread(ask) == "3.10.1"
    began = time.monotonic()
    await asyncio.to_thread(release, context)
    slurm.empty(5)
    assert time.monotonic() - began < 8
    await asyncio.to_thread(release, context)


def test_deferred_and_adopted_by_a_retry(slurm: TestCluster, context: Any) -> None:
    before = slurm.jobs_ever()
    with pytest.raises(TaskDeferred):
        service(deferrable=True, patience=0).execute(context)
    context["ti"].id = "second-try"
    with pytest.raises(TaskDeferred) as deferred:
        service(deferrable=True, patience=0).execute(context)
    endpoints = service(deferrable=True).resume(context, event=run_trigger(deferred.value))
    assert len(endpoints) == 1
    release(context)
    slurm.until(lambda: slurm.jobs_ever() >= before + 1)
    assert slurm.jobs_ever() == before + 1, "one job, however often it was tried"


def test_a_job_for_each_node_as_it_comes_free(slurm: TestCluster, context: Any) -> None:
    """One node is taken by somebody else: three of four jobs start, and one usable service is enough."""
    blocker = slurm.ssh("sbatch --parsable -A proj3 -p prod -N1 --exclusive --wrap 'sleep 600'").strip()
    slurm.until(lambda: any("RUNNING" in line for line in slurm.queue()))
    try:
        endpoints = service(nodes=4, exclusive=True, packing="job_per_node", min_ready=3).execute(context)
        assert len(endpoints) == 3
        assert len(slurm.queue()) == 5
        release(context)
        assert [line.split()[0] for line in slurm.queue()] == [blocker]
    finally:
        slurm.ssh(f"scancel {blocker}")


def test_the_manual_recipe(slurm: TestCluster, context: Any) -> None:
    recipe = "--account=proj3 --partition=prod --exclusive --constraint=cpu -c 72 --mem 0"
    service(sbatch_options=recipe, account="", partition="").execute(context)
    job = slurm.run("slurmctl", "scontrol", "show", "job", context["ti"].xcom["services"][0]["job_id"])
    release(context)
    assert "Account=proj3" in job
    assert "Features=cpu" in job
    assert "NumCPUs=72" in job


def test_by_fields_the_same(slurm: TestCluster, context: Any) -> None:
    service(exclusive=True, constraint="cpu", cpus_per_task=72, memory=0).execute(context)
    release(context)


BAD = [
    ({"account": "nobody"}, r"account: .*Slurm\s+refused .*Invalid account", AirflowFailException),
    ({"account": "proj9"}, r"account: .*Slurm\s+refused", AirflowFailException),
    ({"partition": "nope"}, r"partition: .*Slurm\s+refused", AirflowFailException),
    ({"partition": "maint"}, r"PartitionDown|partition", AirflowFailException),
    ({"constraint": "gpu"}, r"constraint: .*Slurm\s+refused", AirflowFailException),
    ({"reservation": "nope"}, r"reservation: .*Slurm\s+refused", AirflowFailException),
    ({"cpus_per_task": 999}, r"cpus_per_task|PartitionConfig", AirflowFailException),
    ({"time_limit": "5-00:00:00"}, r"PartitionTimeLimit|time_limit", AirflowFailException),
    ({"time_limit": "-1"}, r"time_limit", AirflowFailException),
    ({"nodes": 99}, r"nodes|PartitionNodeLimit", AirflowFailException),
    ({"plugins": [""]}, r"plugins", AirflowFailException),
    ({"plugins": ["nope"]}, r"plugins: .*'nope'", AirflowFailException),
    ({"executable": "no-such-brayns"}, r"executable", AirflowFailException),
    ({"setup": "module load nothing"}, r"setup", AirflowFailException),
    ({"sbatch_options": ["--array=1-3"]}, r"sbatch_options: .*keeper\s+owns\s+--array", AirflowFailException),
    ({"sbatch_options": ["--nonsense"]}, r"sbatch_options: .*Slurm\s+refused", AirflowFailException),
    ({"state_dir": "/proc/nowhere"}, r"state_dir", AirflowFailException),
    (
        {"ssh_conn_id": "nowhere"},
        r"ssh_conn_id: .*no\s+connection\s+'nowhere'",
        AirflowException,
    ),  # or the API server is away
]


@pytest.mark.parametrize(("changes", "says", "error"), BAD, ids=[json.dumps(row[0]) for row in BAD])
def test_bad_input_names_the_field_and_leaves_nothing(
    slurm: TestCluster, context: Any, changes: dict[str, Any], says: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"(?s){says}") as raised:
        service(**changes).execute(context)
    assert str(raised.value).strip(), "the user reads something"


@pytest.fixture
def other_login(slurm: TestCluster, monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(**extra: Any) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_CLUSTER_LOGIN", json.dumps(slurm.login(**extra)))

    return use


def test_an_unknown_host_key_is_refused(context: Any, other_login: Any, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    hosts = tmp_path / "known_hosts"
    hosts.write_text(f"[127.0.0.1]:2222 {' '.join((tmp_path / 'key.pub').read_text().split()[:2])}\n")
    other_login(known_hosts=str(hosts))
    with pytest.raises(AirflowFailException, match=r"host\s+key\s+is\s+not\s+trusted"):
        service().execute(context)


def test_a_wrong_key_is_refused(context: Any, other_login: Any, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    other_login(key_file=str(key))
    with pytest.raises(AirflowFailException, match=r"refused\s+the\s+login"):
        service().execute(context)


def test_a_login_shell_that_is_csh_and_greets(slurm: TestCluster, context: Any) -> None:
    rc = Path(f"/home/{USER}/.cshrc")
    rc.write_text("echo Welcome to the cluster\n")
    subprocess.run(["usermod", "-s", "/bin/tcsh", USER], check=True)
    try:
        assert "Welcome" in slurm.ssh("true")
        service().execute(context)
        release(context)
    finally:
        subprocess.run(["usermod", "-s", "/bin/bash", USER], check=True)
        rc.unlink()


def test_a_bashrc_that_greets_and_a_setup_with_source_and_module(slurm: TestCluster, context: Any) -> None:
    home = Path(f"/home/{USER}")
    (home / "modules.sh").write_text('module() { [ "$2" = brayns ] && export LOADED=yes; }\n')
    (home / "modules.sh").chmod(0o644)
    bashrc = home / ".bashrc"
    before = bashrc.read_text() if bashrc.exists() else None
    bashrc.write_text("echo 'Welcome! squeue -h'\n")
    try:
        service(
            setup=["source ~/modules.sh", "module purge || true", "module load brayns", "[ $LOADED = yes ]"]
        ).execute(context)
        release(context)
    finally:
        bashrc.unlink() if before is None else bashrc.write_text(before)
        (home / "modules.sh").unlink()


def test_pending_tells_why_and_killed_while_pending_leaves_nothing(
    slurm: TestCluster, context: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    blocker = slurm.ssh("sbatch --parsable -A proj3 -p prod -N4 --exclusive --wrap 'sleep 600'").strip()
    slurm.until(lambda: any("RUNNING" in line for line in slurm.queue()))
    operator = service(exclusive=True)
    threading.Timer(6, operator.on_kill).start()
    try:
        with pytest.raises(AirflowException, match="told to stop"):
            operator.execute(context)
        assert [line.split()[0] for line in slurm.queue()] == [blocker]
    finally:
        slurm.ssh(f"scancel {blocker}")
    assert "pending (" in capfd.readouterr().out


@pytest.fixture
def one_job_each(slurm: TestCluster) -> Iterator[str]:
    """The account's users may have one job in the queue, which there is: its id."""
    blocker = slurm.ssh("sbatch --parsable -A proj3 -p prod -N1 --wrap 'sleep 600'").strip()
    most = "sacctmgr -i -Q modify user {user} where account=proj3 set MaxSubmitJobs={number}"
    slurm.run("slurmctl", "sh", "-c", most.format(user=USER, number=1))
    slurm.until(
        lambda: (
            "MaxSubmitJobs=1" in slurm.run("slurmctl", "scontrol", "show", "assoc_mgr", "flags=assoc", f"users={USER}")
        )
    )
    try:
        yield blocker
    finally:
        slurm.run("slurmctl", "sh", "-c", most.format(user=USER, number=-1))
        slurm.ssh(f"scancel {blocker}")


def test_at_a_limit_of_jobs_a_task_waits_for_room(slurm: TestCluster, context: Any, one_job_each: str) -> None:
    """Slurm's own words and numbers: AssocMaxSubmitJobLimit. Neither a slot nor a retry is used."""
    operator = service(deferrable=True)
    with pytest.raises(TaskDeferred) as waits:
        operator.execute(context)
    assert (waits.value.method_name, [line.split()[0] for line in slurm.queue()]) == ("ask_again", [one_job_each])
    slurm.ssh(f"scancel {one_job_each}")
    slurm.empty()
    operator = service(deferrable=True, patience=60)
    assert len(operator.ask_again(context, event="2026", **waits.value.kwargs)) == 1
    release(context)


def test_a_limit_that_no_end_of_a_job_moves_fails_at_once(slurm: TestCluster, context: Any, one_job_each: str) -> None:
    slurm.ssh(f"scancel {one_job_each}")
    slurm.empty()
    slurm.run("slurmctl", "sh", "-c", f"sacctmgr -i -Q modify user {USER} where account=proj3 set MaxSubmitJobs=0")
    with pytest.raises(AirflowException, match="limit"):
        service(deferrable=True).execute(context)


def test_a_cancelled_job_is_told_from_a_failed_service(slurm: TestCluster, context: Any) -> None:
    operator = service(environment={"BRAYNS_EMULATOR": "start_seconds=60"})

    def cancel() -> None:
        slurm.until(lambda: [line for line in slurm.queue() if "RUNNING" in line])
        time.sleep(1)
        slurm.ssh(f"scancel --user={USER}")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(AirflowException, match=r"(?s)Clear\s+the\s+task.*ended"):
        operator.execute(context)
    thread.join()


def test_commands_of_one_allocation(slurm: TestCluster, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 4 SSH commands up to readiness when it starts at once."""
    from airflow_brayns.cluster.ssh import SSHShell

    scripts = []
    run = SSHShell.run

    async def counted(self: SSHShell, script: str, timeout: float) -> str:
        scripts.append(script.splitlines()[-1][:60])
        return await run(self, script, timeout)

    monkeypatch.setattr(SSHShell, "run", counted)
    service(poll_interval=5).execute(context)  # the default
    used = list(scripts)
    release(context)
    assert len(used) <= 4, used
