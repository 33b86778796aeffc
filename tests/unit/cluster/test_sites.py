"""Slurm's commands as sites wrap them, and a controller that does not work for a moment: what is known of a job is its name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import JobState
from airflow_brayns.cluster.cluster import Waiter
from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script
from airflow_brayns.cluster.scripts import file_text
from airflow_brayns.errors import (
    AllocationLost,
    ConnectionLost,
    SubmissionRefused,
    SubmissionUnsure,
)
from tests.support.site import NAME, PLAIN, RED, Site, running, site

__all__ = ["site"]

# ---- sbatch that says more than a number ------------------------------------------------------------------------------
WRAPPED = {
    "a banner before": 'echo "Welcome to the site"; "$real" "$@"',
    "a banner behind": '"$real" "$@"; echo "Your balance: 17 node hours"',
    "a number in the banner": 'echo 17; echo "12 jobs are ahead of yours"; "$real" "$@"; echo 3',
    "a banner without an end": 'printf "Welcome: "; "$real" "$@"',
    "in words": 'echo "Submitted batch job $("$real" "$@")"',
    "in words, by cluster": 'echo "Submitted batch job $("$real" "$@") on cluster alps"',
    "in the site's own words": 'echo "OK <$("$real" "$@")> is queued"',
    "id and cluster": 'echo "$("$real" "$@");alps"',
    "in colour": f'printf "{RED}%s{PLAIN}\\n" "$("$real" "$@")"',
    "with carriage returns": 'printf "Welcome\\r\\n%s\\r\\n" "$("$real" "$@")"',
    "lines of sbatch's": 'echo "sbatch: Estimated cost: 42 CHF"; "$real" "$@"; echo "sbatch: lua: done"',
    "silent": '"$real" "$@" >/dev/null',
    "with another's exit code": '"$real" "$@"; exit 3',
    "on the other channel": '"$real" "$@" >&2',
}


@pytest.mark.parametrize("how", WRAPPED)
async def test_a_job_is_known_by_its_name_whatever_sbatch_prints(site: Site, how: str) -> None:
    site.wrap("sbatch", WRAPPED[how])
    allocation = await site.submit()
    assert (allocation.job_id, allocation.submitted) == ("4242", "2026-11-26T08:00:00")
    again = await site.submit()
    assert (again.job_id, again.adopted, len(site.jobs)) == ("4242", True, 1)


@pytest.mark.parametrize("how", ["a banner before", "in words", "in words, by cluster", "id and cluster", "in colour", "with carriage returns"])  # fmt: skip
async def test_where_squeue_does_not_know_the_job_yet_sbatch_is_believed(site: Site, how: str) -> None:
    site.wrap("sbatch", WRAPPED[how])
    site.wrap("squeue", "exit 0")
    assert (await site.submit()).job_id == "4242"


@pytest.mark.parametrize("squeue", ["exit 0", "echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1"])
async def test_no_id_and_no_job_of_the_name_is_not_known(site: Site, squeue: str) -> None:
    """It was told as a refusal, with exit code 0, while the job was in the queue."""
    site.wrap("sbatch", WRAPPED["a number in the banner"])
    site.wrap("squeue", squeue)
    with pytest.raises(SubmissionUnsure) as raised:
        await site.submit()
    assert raised.value.retry
    site.wrap("squeue", '"$real" "$@"')
    assert (await site.submit()).job_id == "4242"
    assert len(site.jobs) == 1


# ---- what is final, and what is not -----------------------------------------------------------------------------------
PASSING = [
    "sbatch: error: Batch job submission failed: Slurm backup controller in standby mode",
    "sbatch: error: Batch job submission failed: Controller is in standby mode, try a different controller",
    "sbatch: fatal: Unable to process configuration file",
    "sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Host name lookup failure",
    "sbatch: fatal: Could not establish a configuration source",
    "sbatch: error: Batch job submission failed: Unable to create job record, try again",
    "sbatch: error: Batch job submission failed: Invalid authentication credential",
    "sbatch: error: Munge encode failed: Failed to access \"/run/munge/munge.socket.2\": No such file or directory",
    "sbatch: error: Batch job submission failed: System submissions disabled",
    "sbatch: error: plugin_load_from_file: dlopen(cli_filter.so): file not found",
    "sbatch: Slurm temporarily unable to accept job, sleeping and retrying",
    "the wrapper has no module named slurm",
    "sbatch: error: slurmctld: takeover in progress",
    "Maintenance reservation on Tuesday\nsbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sbatch: lua: jobs without a time limit get 1 h\nsbatch: error: Batch job submission failed: Slurm backup controller in standby mode",
    "sbatch: error: lua: your account has no GRES\nsbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
    "Access denied? See our pages\nsbatch: fatal: Unable to process configuration file",
    "",
]  # fmt: skip


@pytest.mark.parametrize("said", PASSING)
async def test_a_fault_that_passes_is_no_refusal(site: Site, said: str) -> None:
    site.wrap("sbatch", f"echo '{said}' >&2; exit 1")
    with pytest.raises(SubmissionUnsure) as raised:
        await site.submit()
    assert raised.value.retry
    assert " ".join(said.split()) in " ".join(str(raised.value).split())


async def test_what_was_not_taken_is_submitted_anew(site: Site) -> None:
    site.wrap("sbatch", f"echo '{PASSING[0]}' >&2; exit 1")
    with pytest.raises(SubmissionUnsure):
        await site.submit()
    site.wrap("sbatch", '"$real" "$@"')
    allocation = await site.submit()
    assert (allocation.job_id, allocation.adopted, len(site.jobs)) == ("4242", False, 1)
    late = site.folder / "state" / NAME / "1"
    assert (late / "release").exists(), "a job that arrives all the same finds that it is not wanted"


async def test_an_answer_that_was_lost_is_waited_for(site: Site) -> None:
    """The job may arrive after all: it is looked for, and submitted anew only after a minute."""
    site.wrap(
        "sbatch",
        "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1",
    )
    for _ in range(2):
        with pytest.raises(SubmissionUnsure):
            await site.submit()
    site.wrap("sbatch", '"$real" "$@"')
    with pytest.raises(SubmissionUnsure, match="may still arrive"):
        await site.submit()
    assert not site.jobs


@pytest.mark.parametrize("where", [">&2", ""])
async def test_a_known_refusal_is_final_on_whichever_channel_it_is_told(site: Site, where: str) -> None:
    site.wrap(
        "sbatch",
        f"echo Welcome, the maintenance reservation is over; echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' {where}; exit 1",
    )
    with pytest.raises(SubmissionRefused) as raised:
        await site.submit()
    assert (raised.value.field, raised.value.retry) == ("partition", False)


# ---- squeue that says more than its lines, or less ----------------------------------------------------------------------
LISTINGS = {
    "a banner": 'echo "17|RUNNING|a banner with bars"; "$real" "$@"; echo "Have a nice day"',
    "a banner without an end": 'printf "Welcome 17"; printf "\\n"; "$real" "$@"',
    "in colour": f'"$real" "$@" | sed "s/\\(PENDING\\)/$(printf "{RED}")\\1$(printf "{PLAIN}")/"',
    "with carriage returns": '"$real" "$@" | sed "s/$/$(printf "\\r")/"',
    "with another's exit code": '"$real" "$@"; exit 1',
}


@pytest.mark.parametrize("how", LISTINGS)
async def test_a_line_of_squeues_is_known_by_its_form(site: Site, how: str) -> None:
    allocation = await site.submit()
    site.wrap("squeue", LISTINGS[how])
    [status] = (await site.cluster.look([Waiter(NAME, 1)])).values()
    assert status.job is not None
    assert (status.job.job_id, status.job.word, status.job.reason) == (allocation.job_id, "PENDING", "Priority")
    assert (status.state, status.job.seconds_left) == (JobState.PENDING, 60)


@pytest.mark.parametrize(
    "squeue",
    [
        "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2 | cat",
        "echo 'slurm_load_jobs error: Socket timed out on send/recv operation' 2>&1 | cat",
        "echo Welcome; echo 'squeue: error: Munge encode failed' >&2 | cat",
    ],
)
async def test_an_error_behind_a_wrapper_that_swallows_the_exit_code_is_no_empty_answer(
    site: Site, squeue: str
) -> None:
    await site.submit()
    site.wrap("squeue", squeue)
    [status] = (await site.cluster.look([Waiter(NAME, 1)])).values()
    assert (status.answered, status.state) == (False, JobState.UNKNOWN)
    with pytest.raises(ConnectionLost):
        await site.cluster.survey()


async def test_an_empty_queue_behind_grep_is_an_answer(site: Site) -> None:
    """`squeue | grep` fails where it finds nothing, which says nothing of squeue."""
    site.wrap("squeue", '"$real" "$@" | grep -v WARNING; exit 1')
    assert (await site.submit()).job_id == "4242"
    assert await site.cluster.survey()


async def test_a_step_whose_srun_greets_is_heard(site: Site) -> None:
    site.wrap("srun", 'printf "Welcome"; "$real" "$@"')
    allocation = await site.submit()
    assert "\nsocket ours\n" in await site.cluster.run_step(allocation, "echo socket ours", timeout=20)


# ---- giving back ------------------------------------------------------------------------------------------------------
async def test_a_scancel_that_failed_is_asked_again(site: Site) -> None:
    await site.submit()
    site.wrap(
        "scancel",
        f'[ -e {site.folder}/second ] && exec "$real" "$@"\ntouch {site.folder}/second\necho "backup controller in standby mode" >&2; exit 1',
    )
    running(site)
    assert await site.cluster.release(NAME, grace=0) == 1
    assert "CANCELLED" in site.jobs[0]


async def test_scancel_that_greets_spoils_no_answer(site: Site) -> None:
    await site.submit()
    site.wrap("scancel", 'printf "Welcome"; "$real" "$@"')
    assert await site.cluster.cancel(NAME, "me") == 1


@pytest.mark.parametrize("said", ["released", ""])
async def test_a_slow_epilog_is_the_sites_and_no_failed_release(site: Site, said: str) -> None:
    """COMPLETING for 45 s: it was told to be ended by hand after 28 s."""
    allocation = await site.submit()
    running(site, "COMPLETING")
    if said:
        (Path(allocation.folder) / "ended").write_text(f"{said}\n")
    released = await site.cluster.release(NAME, grace=1)
    assert (released, released.completing) == (1, 0 if said else 1)


async def test_the_cancel_of_a_job_with_a_slow_epilog_is_a_release(site: Site) -> None:
    await site.submit()
    running(site)
    site.wrap("scancel", 'after=COMPLETING "$real" "$@"')
    released = await site.cluster.release(NAME, grace=2)
    assert (released, released.completing) == (1, 1)
    assert "COMPLETING" in site.jobs[0]


CONTROLLER = {
    "it tells": ('case "$(grep -c CANCELLED jobs)" in 0) state=RUNNING ;; *) state=CANCELLED ;; esac; '
                 'echo "JobId=4242 JobName=x UserId=me(1000) JobState=$state Reason=None"'),
    "it has forgotten": "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
}  # fmt: skip


@pytest.mark.parametrize("how", CONTROLLER)
async def test_an_old_listing_of_squeues_makes_no_failed_release(site: Site, how: str) -> None:
    """Sites keep squeue's answer for a minute, to spare the controller."""
    await site.submit()
    running(site)
    (site.folder / "old").write_text((site.folder / "jobs").read_text())
    site.wrap("squeue", f"echo 'JOBID|STATE|REASON|NODELIST'; cat {site.folder}/old")
    site._write(site.bin / "scontrol", f"cd {site.folder}; {CONTROLLER[how]}")
    assert await site.cluster.release(NAME, grace=0) == 1
    assert "CANCELLED" in site.jobs[0]


@pytest.mark.slow
async def test_a_job_that_goes_on_running_is_a_failed_release(site: Site) -> None:
    await site.submit()
    running(site)
    site.wrap("scancel", "exit 0")
    with pytest.raises(AllocationLost, match="still|is RUNNING"):
        await site.cluster.release(NAME, grace=0)


# ---- partitions -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("listed", "found"), [("maint,prod", ("maint", "prod")), ("prod", ("prod",)), ("", ())])
async def test_where_a_job_may_run_is_asked_of_slurm(site: Site, listed: str, found: tuple[str, ...]) -> None:
    """A site's own rules choose partitions too."""
    (site.folder / "partitions").write_text(f"{listed}\n")
    allocation = await site.submit()
    site.wrap("squeue", 'echo Welcome; "$real" "$@"')
    assert await site.cluster.partitions_of(allocation) == found
    site.wrap("squeue", "exit 1")
    with pytest.raises(ConnectionLost):
        await site.cluster.partitions_of(allocation)


# ---- in the job -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("listed", "number", "scontrol", "found"),
    [
        ("r1i1n[0-1]", 2, "echo r1i1n0; echo r1i1n1", "r1i1n0 r1i1n1"),
        ("r1i1n[0-1]", 2, "echo Welcome; echo 'to the site'; echo r1i1n0; echo r1i1n1; echo 17", "r1i1n0 r1i1n1"),
        ("r1i1n[0-1]", 2, f"printf '{RED}r1i1n0{PLAIN}\\r\\n'; echo r1i1n1", "r1i1n0 r1i1n1"),
        ("node7", 1, "echo 'scontrol: error: no configuration' >&2; exit 1", "node7"),
        ("a-1,b.x", 2, "exit 127", "a-1 b.x"),
    ],
)
@pytest.mark.parametrize("shell", [["dash"], ["bash", "--posix"], ["busybox", "sh"]], ids=["dash", "bash", "busybox"])
def test_a_jobs_nodes_are_told_from_what_greets(
    site: Site, listed: str, number: int, scontrol: str, found: str, shell: list[str]
) -> None:
    site._write(site.bin / "scontrol", scontrol)
    script = f"{file_text('common')}\n{file_text('keeper').partition('case ${2-} in')[0]}\nnode_names"
    environment = {
        "PATH": f"{site.bin}:/usr/bin:/bin",
        "SLURM_JOB_NODELIST": listed,
        "SLURM_JOB_NUM_NODES": str(number),
    }
    told = subprocess.run([*shell, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert told.stdout.split() == found.split()


def test_a_keeper_that_does_not_see_its_folder_says_so(tmp_path: Path) -> None:
    script = tmp_path / "keeper.sh"
    script.write_text(keeper_script(KeeperSettings(), scheduler="slurm"))
    done = subprocess.run(["sh", script, tmp_path / "elsewhere" / "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"does not see {tmp_path}/elsewhere/1: state_dir must be on a file system that" in done.stdout
    assert not (tmp_path / "elsewhere").exists()
