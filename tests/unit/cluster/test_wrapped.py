"""Wrappers of Slurm's commands that hide how a command ended: what it did is seen by its words, and by asking again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import JobState
from airflow_brayns.cluster.cluster import Waiter
from airflow_brayns.errors import ConnectionLost, SubmissionRefused, SubmissionUnsure
from tests.support.site import NAME, Site, running, site

__all__ = ["site"]
REFUSES = "echo 'sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified' >&2; exit 1"
OLD = "echo 'JOBID|STATE|REASON|NODELIST'"  # a listing of before
DEAD = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"


# ---- the exit code is the wrapper's ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wrapper", ['"$real" "$@" 2>&1 | tee -a said', '"$real" "$@"; echo "Good bye"', '"$real" "$@" || logger-that-is-not-there']
)  # fmt: skip
async def test_a_refusal_is_known_whatever_the_exit_code(site: Site, wrapper: str) -> None:
    """It was told as 'sbatch told no job, with exit code 0', again with each try."""
    site._write(site.real / "sbatch", REFUSES)
    site.wrap("sbatch", f"cd {site.folder}; {wrapper}")
    with pytest.raises(SubmissionRefused) as raised:
        await site.submit()
    assert (raised.value.field, raised.value.retry) == ("account", False)


@pytest.mark.parametrize("code", [0, 3])
async def test_a_number_of_a_greeting_makes_no_refusal_a_job(site: Site, code: int) -> None:
    """It was submitted as job 17, and lost when no listing had it."""
    site._write(site.real / "sbatch", REFUSES)
    site._write(site.bin / "scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    site.wrap("sbatch", f'"$real" "$@"; echo 17; exit {code}')
    with pytest.raises(SubmissionRefused) as raised:
        await site.submit()
    assert raised.value.field == "account"


async def test_a_fault_that_passes_is_none_either(site: Site) -> None:
    site.wrap("sbatch", f"{DEAD.replace('slurm_load_jobs', 'sbatch:').removesuffix('exit 1')} logger-that-is-not-there")
    with pytest.raises(SubmissionUnsure, match="Unable to contact"):
        await site.submit()


@pytest.mark.parametrize("squeue", [OLD, DEAD])
@pytest.mark.parametrize("code", ["logger-that-is-not-there", "exit 3"])
async def test_a_job_whose_id_was_told_is_not_refused_by_a_wrappers_exit_code(
    site: Site, code: str, squeue: str
) -> None:
    """127 was told as 'sbatch was not found', while the job was in the queue; the next try made a second one."""
    site.wrap("sbatch", f'"$real" "$@"; {code}')
    site.wrap("squeue", squeue)
    site._write(site.bin / "scontrol", DEAD)
    with pytest.raises(SubmissionUnsure, match="4242"):
        await site.submit()
    if code != "exit 3":
        site.wrap("squeue", '"$real" "$@"')
        assert (await site.submit()).job_id == "4242"
        assert len(site.jobs) == 1


async def test_slurmctld_knows_a_job_that_squeue_does_not_list_yet(site: Site) -> None:
    """Each try was told that it is not known, and left a job in the queue."""
    site.wrap("sbatch", '"$real" "$@"; exit 3')
    site.wrap("squeue", OLD)
    site._write(
        site.bin / "scontrol", f'echo "JobId=$4 JobName={NAME}-1 JobState=PENDING SubmitTime=2026-11-26T08:00:00"'
    )
    allocation = await site.submit()
    assert (allocation.job_id, allocation.submitted) == ("4242", "2026-11-26T08:00:00")
    site._write(site.bin / "scontrol", 'echo "JobId=$4 JobName=another JobState=PENDING"')  # fmt: skip
    (Path(allocation.folder) / "release").touch()
    with pytest.raises(SubmissionUnsure):
        await site.submit()
    assert not (Path(allocation.folder).parent / "2" / "job").exists(), "a number of a banner's is not its id"


@pytest.mark.parametrize(
    "said",
    [
        "Note: the reservation of your account is over\nssh: connect to host head port 22: Connection refused",
        "Job submission is closed for maintenance until 18:00 (reservation maint).",
        "sbatch: your reservation is noted\nConnection to head closed by remote host.",
    ],
)
@pytest.mark.parametrize("code", [0, 1, 255])
async def test_a_sites_own_words_refuse_nothing(site: Site, said: str, code: int) -> None:
    site.wrap("sbatch", f"printf '%s\\n' '{said}' >&2; exit {code}")
    with pytest.raises(SubmissionUnsure) as raised:
        await site.submit()
    assert said.partition("\n")[0] in str(raised.value)


@pytest.mark.parametrize(
    "said",
    [
        "sbatch.real: error: Invalid --time specification",
        "/opt/slurm/bin/sbatch-orig: unrecognized option --nix",
        "ERROR: Invalid account or account/partition combination specified",
        "Your connection to Alps is monitored\nsbatch: unrecognized option --nix",
    ],
)
async def test_slurms_words_refuse_whatever_name_a_wrapper_gives_sbatch(site: Site, said: str) -> None:
    """Each was asked again for ten minutes, as if its answer had been lost."""
    site.wrap("sbatch", f"printf '%s\\n' '{said}' >&2; exit 1")
    with pytest.raises(SubmissionRefused):
        await site.submit()


@pytest.mark.parametrize("squeue", [OLD, DEAD])
async def test_a_greeting_beside_a_job_without_an_id_refuses_nothing(site: Site, squeue: str) -> None:
    site.wrap("sbatch", '"$real" "$@" >/dev/null; echo "sbatch: reservation maint is over" >&2')
    site.wrap("squeue", squeue)
    with pytest.raises(SubmissionUnsure):
        await site.submit()
    site.wrap("squeue", '"$real" "$@"')
    assert (await site.submit()).adopted


# ---- squeue's answer is another one, or only a part ---------------------------------------------------------------------
NO_ANSWERS = {
    "too often": 'echo "You ask too often; wait a minute"',
    "no way there": 'echo "ssh: connect to host head port 22: Connection refused" >&2; exit 0',
    "a kept listing in another form": "echo ' JOBID PARTITION NAME ST'; echo '  4242 prod ab-0123 PD'",
    "cut off in time": '"$real" "$@" | head -n 1; exit 124',
    "cut off by a signal": '"$real" "$@" | head -n 1; kill $$',
    "cut off with its connection": '"$real" "$@" | head -n 1; exit 255',
}


@pytest.mark.parametrize("how", NO_ANSWERS)
async def test_what_is_no_listing_does_not_say_that_a_job_has_ended(site: Site, how: str) -> None:
    """A job that ran was taken for one that had ended, and its release was green although nobody had ended it."""
    await site.submit()
    running(site)
    site.wrap("squeue", NO_ANSWERS[how])
    [status] = (await site.cluster.look([Waiter(NAME, 1)])).values()
    assert (status.answered, status.state) == (False, JobState.UNKNOWN)
    assert status.trouble and "|" not in status.trouble, "what differs with each look is told with each look"
    with pytest.raises(ConnectionLost, match="did not answer"):
        await site.cluster.release(NAME, grace=0)


@pytest.mark.parametrize(
    "squeue", ['"$real" -h "$@"', 'echo "CLUSTER: alps"; "$real" "$@"', '"$real" "$@"; "$real" "$@"']
)
async def test_a_listing_without_its_heading_or_with_two_is_one(site: Site, squeue: str) -> None:
    await site.submit()
    site.wrap("squeue", squeue)
    [status] = (await site.cluster.look([Waiter(NAME, 1)])).values()
    assert (status.answered, status.state) == (True, JobState.PENDING)


@pytest.mark.parametrize("word", ["RESV_DEL_HOLD", "SPECIAL_EXIT"])
async def test_a_job_that_is_held_is_in_the_queue(site: Site, word: str) -> None:
    """It was taken for one that has ended: released, green, and left in the queue."""
    allocation = await site.submit()
    (Path(allocation.folder) / "claim").mkdir()  # it has run before
    site.wrap("squeue", f'"$real" "$@" | sed s/PENDING/{word}/')
    assert await site.cluster.release(NAME, grace=0) == 1
    assert "CANCELLED" in site.jobs[0]


@pytest.mark.parametrize("moved", ["T09:00", "T07:00", "T13:30"])
async def test_login_nodes_in_different_time_zones_know_the_same_job(site: Site, moved: str) -> None:
    """Squeue tells times in its machine's zone: by another one the job was gone, while it ran."""
    await site.submit()
    site.wrap("squeue", f'"$real" "$@" | sed s/T08:00/{moved}/')
    [status] = (await site.cluster.look([Waiter(NAME, 1)])).values()
    assert status.state is JobState.PENDING


async def test_a_login_without_a_home_has_its_accounts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of systemd's: 'The scheduler did not say whether the job was taken', and no word more."""
    monkeypatch.delenv("HOME")
    site._write(site.bin / "getent", f"echo me:x:1000:1000::{site.folder}/home:/bin/sh")
    site.cluster.state_dir = "~/state"
    assert (await site.submit()).folder == f"{site.folder}/home/state/{NAME}/1"
    assert "HOME" not in os.environ
