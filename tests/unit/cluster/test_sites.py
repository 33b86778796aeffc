"""Slurm's commands as sites wrap them, and a controller that does not work for a moment: what is known of a job is its name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import Allocation, JobState
from airflow_brayns.cluster.cluster import Waiter
from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.scripts import file_text
from airflow_brayns.cluster.shell import LocalShell, quote
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import (
    AllocationLost,
    ConnectionLost,
    SubmissionLimited,
    SubmissionRefused,
    SubmissionUnsure,
)

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


# ---- limits that pass -------------------------------------------------------------------------------------------------
LIMIT = "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("queue", "said", "kind"),
    [
        ("job 17", LIMIT, SubmissionLimited),
        ("Welcome\njob 17\njob 18", LIMIT, SubmissionLimited),
        ("", LIMIT, SubmissionRefused),
        ("job 17", LIMIT.replace("AssocMaxSubmitJobLimit", "QOSGrpSubmitJobsLimit"), SubmissionLimited),
        ("job 17", LIMIT.replace("AssocMaxSubmitJobLimit", "AssocMaxWallDurationPerJobLimit"), SubmissionRefused),
        ("job 17", LIMIT.partition("\n")[2], SubmissionRefused),
        ("Welcome to the site", LIMIT, SubmissionRefused),
        ("job 17", "sbatch: error: invalid partition specified: nope", SubmissionRefused),
    ],
)
async def test_a_limit_may_pass_while_there_are_jobs_that_end(
    site: Site, queue: str, said: str, kind: type[Exception]
) -> None:
    """Slurm says the same of a limit of jobs, which passes, and of one job that is too large, which never does."""
    site.wrap("sbatch", f"printf '%s\\n' {quote(said)} >&2; exit 1")
    site.wrap("squeue", f'case $* in *-h*) printf \'%s\\n\' {quote(queue)} ;; *) "$real" "$@" ;; esac')
    with pytest.raises(SubmissionRefused) as raised:
        await site.submit()
    assert type(raised.value) is kind


@pytest.mark.parametrize("after", [0, 1])
async def test_what_is_refused_leaves_nothing_that_fills_a_folder(site: Site, after: int) -> None:
    """At a limit a task asks every minute: each time 15 files and a key were left for a week."""
    first = await site.submit()
    if not after:
        (Path(first.folder) / "release").touch()
    site.wrap("sbatch", f"printf '%s\\n' {quote(LIMIT)} >&2; exit 1")
    for _ in range(2):
        with pytest.raises(SubmissionRefused):
            await site.submit(after)
    left = {one.name: len(list(one.rglob("*"))) for one in (site.folder / "state" / NAME).iterdir()}
    del left["1"]
    assert sorted(left) == (["2", "3"] if after else []) and all(files < 8 for files in left.values())
    site.wrap("sbatch", '"$real" "$@"')
    assert (await site.submit(after)).incarnation == (4 if after else 2), "a number that others know is not given again"
    assert (Path(first.folder) / "next").exists() is bool(after)


@pytest.mark.parametrize("said", [LIMIT, "sbatch: error: Batch job submission failed: something new"])
async def test_nothing_follows_on_where_sbatch_takes_no_job(site: Site, said: str) -> None:
    """Whoever holds the first one took the end of what was to follow for the end of all."""
    first = await site.submit()
    site.wrap("sbatch", f"printf '%s\\n' {quote(said)} >&2; exit 1")
    with pytest.raises((SubmissionRefused, SubmissionUnsure)):
        await site.submit(after=1)
    assert not (Path(first.folder) / "next").exists() and not (Path(first.folder) / "release").exists()
    site.wrap("sbatch", '"$real" "$@"')
    second = await site.submit(after=1)
    assert (Path(first.folder) / "next").read_text() == f"{second.incarnation}\n"


# ---- a listing that squeue's answers are kept in ------------------------------------------------------------------------
def listed_late(site: Site) -> None:
    """Squeue's listing is one of before, and scontrol tells of the jobs that there are."""
    site.wrap("squeue", "echo 'JOBID|STATE|REASON|NODELIST'")
    tell = (
        f"cd {site.folder}; grep \"^$4|\" jobs | (IFS='|' read -r id state r n c name at s l && "
        'echo "JobId=$id JobName=$name JobState=$state RunTime=00:00:00 TimeLimit=01:00:00 SubmitTime=$at")'
    )
    site._write(site.bin / "scontrol", tell)


@pytest.mark.parametrize("after", [0, 1])
async def test_a_job_of_a_moment_ago_is_adopted_though_no_listing_has_it(site: Site, after: int) -> None:
    if after:
        await site.submit()
    listed_late(site)
    one = await site.submit(after)
    again = await site.submit(after)
    assert (one.job_id, one.incarnation, again.adopted) == (again.job_id, again.incarnation, True)
    assert len(site.jobs) == 1 + after and not (site.folder / "cancelled").exists()


async def test_a_job_of_a_moment_ago_that_nobody_tells_of_is_not_known(site: Site) -> None:
    await site.submit()
    listed_late(site)
    site._write(site.bin / "scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(SubmissionUnsure, match="may not be listed yet"):
        await site.submit()
    assert len(site.jobs) == 1


async def test_one_that_has_ended_within_the_moment_makes_room_for_another(site: Site) -> None:
    await site.submit()
    running(site, "FAILED")
    listed_late(site)
    assert (await site.submit()).incarnation == 2


async def test_what_may_still_arrive_to_follow_on_must_not_start_beside_another(site: Site) -> None:
    """The answer to its submission was lost, so nobody gives it back."""
    await site.submit()
    site.wrap("sbatch", "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1")
    with pytest.raises(SubmissionUnsure):
        await site.submit(after=1)
    lost = site.folder / "state" / NAME / "2"
    os.utime(lost / "attempt", (1, 1))
    site.wrap("sbatch", '"$real" "$@"')
    assert (await site.submit(after=1)).incarnation == 3
    assert (lost / "release").exists()


async def test_a_bar_in_a_comment_moves_no_field(site: Site) -> None:
    site.wrap("squeue", '"$real" "$@" | sed "s/|c|/|a|b|c|/"')
    one = await site.submit()
    (Path(one.folder) / "job").unlink()
    again = await site.submit()
    assert (again.adopted, (Path(one.folder) / "job").read_text()) == (True, "4242 2026-11-26T08:00:00\n")
    running(site)
    (Path(one.folder) / "ended").write_text("killed\n")
    assert await site.cluster.release(NAME, grace=0) == 1
    assert "CANCELLED" in site.jobs[0]


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
def running(site: Site, word: str = "RUNNING") -> None:
    text = (site.folder / "jobs").read_text().replace("PENDING", word)
    (site.folder / "jobs").write_text(text)


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
