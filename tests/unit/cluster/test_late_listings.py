"""What sbatch takes no more of, and what squeue does not list yet: nothing is submitted twice, and nothing ended that goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors import (
    SubmissionLimited,
    SubmissionRefused,
    SubmissionUnsure,
)
from tests.support.site import NAME, Site, running, site

__all__ = ["site"]

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
