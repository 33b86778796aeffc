"""Which field is to be mended is read from Slurm's words, and nowhere else."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from airflow_brayns.cluster.sbatch_errors import REFUSALS, refusal


@pytest.mark.parametrize(
    ("said", "code", "field", "retry"),
    [
        ("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy", "1", "account, qos, nodes or time_limit", True),
        ("sbatch: error: AssocMaxSubmitJobLimit: submit limit", "1", "account, qos, nodes or time_limit", True),
        ("Invalid account or account/partition combination specified", "1", "account", False),
        ("invalid partition specified: nope", "1", "partition", False),
        ("sh: 1: sbatch: not found", "127", "scheduler", False),
        ("something that no version of Slurm said so far", "1", "", False),
        ("", "3", "", False),
    ],
)  # fmt: skip
def test_a_refusal_knows_its_field_and_whether_a_retry_helps(said: str, code: str, field: str, retry: bool) -> None:
    error = refusal(said, code)
    assert (error.field, error.retry) == (field, retry)
    assert str(error).startswith(f"{field}: " if field else "Compare the request with the site's rules")
    assert (said or f"nothing, with exit code {code}") in str(error)


@pytest.mark.parametrize(
    ("said", "field", "remedy"),
    [
        ("Job violates accounting/QOS policy", "account, qos, nodes or time_limit", "at a limit"),
        ("Invalid account or account/partition combination specified", "account", "which accounts you may use"),
        ("invalid partition specified: nope", "partition", "sinfo -s"),
        ("Invalid feature specification", "constraint", "feature"),
        (
            "Requested node configuration is not available",
            "nodes, cpus_per_task, memory or constraint",
            "no node of the partition fits",
        ),
        ("Memory specification can not be satisfied", "nodes, cpus_per_task, memory or constraint", "no node"),
        ("Requested reservation is invalid", "reservation", "scontrol show reservation"),
        ("Invalid qos specification", "qos", "sacctmgr show assoc"),
        ("Invalid --time specification: time specification", "time_limit", "partition's limit"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "time_limit", "partition's limit"),
        ("Invalid generic resource (gres) specification", "gres", "resource"),
        ("Node count specification invalid", "nodes", "partition's limit"),
        ("sbatch: unrecognized option '--x'", "sbatch_options", "man sbatch"),
        ("User's group not permitted: access denied", "account or partition", "ask the site"),
        ("Required partition is down", "account or partition", "ask the site"),
    ],
)
def test_a_refusal_begins_with_its_field_and_says_what_to_do(said: str, field: str, remedy: str) -> None:
    error = refusal(f"sbatch: error: {said}\n", "1")
    told = str(error)
    assert error.field == field
    assert told.startswith(f"{field}: ")
    assert remedy in told.splitlines()[0]
    assert told.splitlines()[1] == f"    Slurm refused the request: sbatch: error: {said}"


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("No partition specified or system default partition", "partition"),
        ("Multiple partition job request not supported when a partition is set in the association", "partition"),
        ("Requested partition configuration not available now", "nodes, cpus_per_task, memory or constraint"),
        ("CPU count specification invalid", "nodes, cpus_per_task, memory or constraint"),
        ("Memory required by task is not available", "nodes, cpus_per_task, memory or constraint"),
        ("Requested nodes not in this partition", "nodes"),
        ("Time limit specification required, but not provided", "time_limit"),
        ("Access/permission denied", "account or partition"),
        ("Required partition not available (inactive or drain)", "account or partition"),
        ("Invalid license specification", "sbatch_options"),
        ("Invalid Trackable RESource (TRES) specification", "sbatch_options"),
        ("Job dependency problem", "sbatch_options"),
    ],
)
@pytest.mark.parametrize("shell", [["/bin/grep"], ["busybox", "grep"]], ids=["grep", "busybox"])
def test_what_only_another_request_mends_is_known_on_the_login_machine_too(
    said: str, field: str, shell: list[str]
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed (apt-get install {shell[0]})")
    told = f"sbatch: error: Batch job submission failed: {said}\n"
    assert refusal(told, "1").field == field
    assert subprocess.run([*shell, "-qiE", "-e", REFUSALS], input=told, text=True, check=False).returncode == 0


def test_a_word_that_is_not_found_is_sbatch_itself() -> None:
    assert refusal("sh: sbatch: not found", "1").field == refusal("", "127").field == "scheduler"


def test_where_sbatch_is_not_found_the_commonest_cause_comes_first() -> None:
    """With ssh_conn_id set, it said 'set ssh_conn_id'."""
    assert str(refusal("sh: 1: sbatch: not found", "127")).startswith("scheduler: put Slurm's programs on the PATH")


def test_what_is_not_known_is_told_as_it_is() -> None:
    assert str(refusal("  something\n  else ", "1")).splitlines()[1] == "    Slurm refused the request: something else"
    assert str(refusal("", "3")).splitlines()[1] == "    Slurm refused the request: nothing, with exit code 3"
    assert len(str(refusal("x " * 5000, "1"))) < 700


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("Our reservation is over\nsbatch: error: Batch job submission failed: Invalid partition name specified", "partition"),
        ("sbatch: error: invalid account x\nsbatch: error: Batch job submission failed: Unspecified error", "account"),
        ("sbatch: your account x has no gres\nsbatch: error: Batch job submission failed: Unspecified error", "gres"),
        ("Our reservation is over\nsbatch: unrecognized option '--x'", "sbatch_options"),
        ("Nodes are reserved: progress is slow", ""),
    ],
)  # fmt: skip
def test_what_a_site_says_beside_slurm_decides_nothing(said: str, field: str) -> None:
    """The greeting told of a reservation, and a controller that was passing by became a refusal for good."""
    assert refusal(said, "1").field == field


def test_behind_a_wrapper_sbatch_may_have_another_name() -> None:
    said = "The time limit of guests is 1 h\nsbatch.real: error: Invalid qos specification"
    assert refusal(said, "1").field == "qos", "and not of the greeting's time_limit"
