"""More time for a job: by a Slurm that lets its user raise the limit, one that does not, and this machine's keeper."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus
from airflow_brayns.cluster.extension import Extension, Granted, ask_for_time
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import AllocationLost, AskedForElsewhere, ConnectionLost

NAME = "ab-0123456789ab000"
UNTIL = "2026-11-27T12:00:00+00:00"
SERVICE = ServiceCommand("s1", 1, "sleep 600", "0", ())


class Slurm:
    """A Slurm of scripts, with one job: its state and what it has left, in minutes, are files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.allocation = folder, folder / "state" / NAME / "1"
        (self.allocation / "claim").mkdir(parents=True)
        (self.allocation / "job").write_text("7 2026-01-01T00:00:00\n")
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.job("RUNNING", "5:00")
        self.program("squeue", f'echo "JOBID|STATE|REASON|"; cat {folder}/jobs')
        self.updates(f"sed -i 's/|[^|]*$/|1:05:00/' {folder}/jobs")
        self.cluster = SlurmCluster(LocalShell(), state_dir=str(folder / "state"))

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def job(self, state: str, left: str, incarnation: int = 1) -> None:
        line = f"7|{state}|None|n1|a|comment|{NAME}-{incarnation}|2026-01-01T00:00:00||{left}\n"
        (self.folder / "jobs").write_text(line)

    def updates(self, script: str, show: str = "") -> None:
        """What `scontrol update` does; each call is kept.

        :param show: what `scontrol show` does instead of telling of the job.
        """
        tells = (
            f"IFS='|' read -r id state reason nodes a b name at start left <{self.folder}/jobs\n"
            "case $left in *:*:*) ;; *:*) left=00:$left ;; esac\n"
            'echo "JobId=$id JobName=$name UserId=me(1) JobState=$state Reason=None RunTime=00:00:00 TimeLimit=$left '
            'TimeMin=N/A SubmitTime=$at Comment=JobState=FAILED"'
        )
        asks = f"echo $* >>{self.folder}/asked"
        self.program("scontrol", f"case $* in *show*)\n{show or tells}\nexit ;; esac\n{asks}\n{script}")

    def keep_the_listing(self, listing: str | None = None) -> None:
        """From now on squeue answers with what it answers now, as it does for a minute where sites keep that."""
        kept = self.folder / "kept"
        kept.write_text((self.folder / "jobs").read_text() if listing is None else listing)
        self.program("squeue", f'echo "JOBID|STATE|REASON|"; cat {kept}')

    @property
    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    async def extend(self, seconds: int = 3600) -> Extension:
        return await ask_for_time(self.cluster, NAME, seconds, UNTIL)

    @property
    def until(self) -> str:
        path = self.allocation / "until"
        return path.read_text().strip() if path.exists() else ""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    made = Slurm(tmp_path)
    monkeypatch.setenv("PATH", f"{made.programs}:{os.environ['PATH']}")
    return made


async def test_a_limit_is_raised_by_what_is_missing_and_whoever_keeps_it_reads_until_when(slurm: Slurm) -> None:
    found = await slurm.extend()
    assert found == Extension(Granted.RAISED, 1, "7", "2026-01-01T00:00:00")
    assert slurm.asked == ["update JobId=7 TimeLimit=+55"]
    assert slurm.until == UNTIL
    seen = (await slurm.cluster.look([Waiter(NAME, 1)]))[NAME, 1]
    assert (seen.until, seen.following) == (UNTIL, 0)


async def test_asked_for_twice_it_is_raised_once(slurm: Slurm) -> None:
    """A double click, or an answer that was lost."""
    await slurm.extend()
    assert (await slurm.extend()).granted is Granted.ROOM
    assert len(slurm.asked) == 1


@pytest.mark.parametrize("left", ["2:00:00", "1-00:00:00", "UNLIMITED"])
async def test_where_the_job_has_the_time_nothing_is_asked(slurm: Slurm, left: str) -> None:
    slurm.job("RUNNING", left)
    assert (await slurm.extend()).granted is Granted.ROOM
    assert slurm.asked == [] and slurm.until == UNTIL


@pytest.mark.parametrize(
    "script",
    [
        "echo 'slurm_update error: Access/permission denied' >&2; exit 1",
        "echo 'slurm_update error: Requested time limit is invalid (missing or exceeds some limit)' >&2; exit 1",
        "echo done",
    ],
)
async def test_what_slurm_refuses_is_told_and_changes_nothing(slurm: Slurm, script: str) -> None:
    """Also where it says that it has raised the limit, and has not."""
    slurm.updates(script)
    found = await slurm.extend()
    assert (found.granted, found.incarnation, slurm.until) == (Granted.REFUSED, 1, "")
    assert not found.why or found.why in script


@pytest.mark.parametrize("script", ["echo 'Unable to contact slurm controller' >&2; exit 1", "exit 124"])
async def test_where_slurm_does_not_answer_it_is_not_refused(slurm: Slurm, script: str) -> None:
    slurm.updates(script)
    with pytest.raises(ConnectionLost, match="is not known"):
        await slurm.extend()
    slurm.program("squeue", "exit 1")
    with pytest.raises(ConnectionLost, match="is not known"):
        await slurm.extend()


async def test_a_listing_that_is_kept_for_a_minute_makes_no_refusal_and_no_second_raise(slurm: Slurm) -> None:
    slurm.keep_the_listing()
    assert (await slurm.extend()).granted is Granted.RAISED
    assert (await slurm.extend()).granted is Granted.ROOM
    assert len(slurm.asked) == 1


async def test_where_only_a_listing_tells_and_nobody_said_no_it_is_not_refused(slurm: Slurm) -> None:
    slurm.updates("exit 0", show="echo 'scontrol: error' >&2; exit 1")
    with pytest.raises(ConnectionLost, match="is not known"):
        await slurm.extend()


@pytest.mark.parametrize(("state", "granted"), [("RUNNING", Granted.RAISED), ("PENDING", Granted.WAITS)])
async def test_a_new_job_that_is_not_listed_yet_is_there_all_the_same(
    slurm: Slurm, state: str, granted: Granted
) -> None:
    slurm.job(state, "5:00")
    slurm.keep_the_listing("")
    (slurm.allocation / "attempt").touch()
    assert (await slurm.extend()).granted is granted


async def test_a_new_job_that_nobody_tells_of_is_not_over(slurm: Slurm) -> None:
    slurm.keep_the_listing("")
    slurm.updates("exit 1", show="exit 1")
    (slurm.allocation / "attempt").touch()
    with pytest.raises(ConnectionLost, match="may not be listed yet"):
        await slurm.extend()
    os.utime(slurm.allocation / "attempt", (1, 1))
    with pytest.raises(AllocationLost):
        await slurm.extend()


@pytest.mark.parametrize("tells", ["echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "echo 'JobId=7 JobName=another JobState=RUNNING RunTime=00:00:00 TimeLimit=05:00:00'"])  # fmt: skip
async def test_a_job_that_slurmctld_does_not_know_is_over_though_it_is_listed(slurm: Slurm, tells: str) -> None:
    """Ids are given out again."""
    slurm.updates("exit 1", show=tells)
    with pytest.raises(AllocationLost):
        await slurm.extend()


async def test_one_that_waits_for_its_nodes_is_left_as_it_is(slurm: Slurm) -> None:
    slurm.job("PENDING", "1:00:00")
    assert (await slurm.extend()).granted is Granted.WAITS
    assert slurm.asked == []


@pytest.mark.parametrize("end", ["release", "ending", "ended", "cancelled"])
async def test_what_was_given_back_gets_no_time(slurm: Slurm, end: str) -> None:
    (slurm.allocation / end).touch()
    with pytest.raises(AllocationLost, match="nothing left to give more time") as raised:
        await slurm.extend()
    assert not raised.value.retry and slurm.asked == []


async def test_what_another_airflow_asked_for_is_left_alone(slurm: Slurm) -> None:
    (slurm.allocation / "about").write_text('{"installation": "mark", "dag_id": "d", "deployment": "production"}\n')
    slurm.cluster.deployment = "staging"
    with pytest.raises(AskedForElsewhere):
        await slurm.extend()
    assert slurm.asked == []


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    one = LocalCluster(LocalShell(), state_dir=str(tmp_path))
    yield one
    await one.release(NAME, grace=1)


async def look(
    cluster: LocalCluster, one: Allocation, *, until: Callable[[AllocationStatus], bool]
) -> AllocationStatus:
    """What is seen of an allocation, once it is as a test wants it."""
    async with asyncio.timeout(60):
        while not until(seen := (await cluster.look([Waiter(*one.key)], patience=1))[one.key]):
            pass
    return seen


async def submitted(cluster: LocalCluster, after: int = 0, minutes: int = 1) -> Allocation:
    return await cluster.submit(NAME, "me", AllocationRequest(time_limit=minutes), [SERVICE], after=after)


@pytest.mark.slow
async def test_a_keeper_of_this_machine_is_given_more_time(here: LocalCluster) -> None:
    one = await submitted(here)
    await look(here, one, until=lambda seen: bool(seen.nodes))
    assert (await ask_for_time(here, NAME, 600, UNTIL)).granted is Granted.RAISED
    seen = await look(here, one, until=lambda seen: seen.until == UNTIL)
    assert seen.job is not None and 590 <= (seen.job.seconds_left or 0) <= 601
    assert (await ask_for_time(here, NAME, 580, UNTIL)).granted is Granted.ROOM


@pytest.mark.slow
async def test_one_that_follows_on_is_known_to_the_one_before_and_goes_back_with_it(here: LocalCluster) -> None:
    one = await submitted(here)
    two = await submitted(here, after=1)
    again = await submitted(here, after=1)
    assert (two.incarnation, again.incarnation, again.adopted) == (2, 2, True), "once, however often it is asked for"
    assert (await look(here, one, until=lambda seen: True)).following == 2
    assert (await ask_for_time(here, NAME, 5, UNTIL)).incarnation == 2, "the newest is the one that gets more time"
    assert await here.release(NAME, grace=1) == 2


@pytest.mark.slow
async def test_nothing_follows_on_what_was_given_back(here: LocalCluster) -> None:
    """Nobody would give it back: the release has been and gone."""
    await submitted(here)
    await here.release(NAME, grace=1)
    with pytest.raises(AllocationLost):
        await submitted(here, after=1)
    assert not (Path(here.state_dir) / NAME / "2").exists()


@pytest.mark.slow
async def test_one_that_is_submitted_while_the_one_before_is_given_back_is_given_back_too(here: LocalCluster) -> None:
    one = await submitted(here)
    release = Path(one.folder) / "release"
    shell = here.shell.run

    async def run(script: str, timeout: float) -> str:
        # Between the first look and the keeper's start: whoever releases has listed the folders by then.
        meanwhile = f"real=start_here\n{script}".replace("start_here() {", f"start_here() {{ : >{release}\n", 1)
        return await shell(meanwhile, timeout)

    here.shell.run = run  # type: ignore[method-assign]
    two = await submitted(here, after=1)
    here.shell.run = shell  # type: ignore[method-assign]
    async with asyncio.timeout(30):
        await look(here, two, until=lambda seen: seen.ended is not None)
