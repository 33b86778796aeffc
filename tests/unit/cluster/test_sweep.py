"""What has ended is folded away a day later, and found there by whoever asks for it by its name."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import JobState
from airflow_brayns.cluster.answers import read_status
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.scripts import script_of
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.waiter import Waiter, question
from airflow_brayns.errors import AllocationLost
from tests.support.shell import ShellThrough

pytestmark = pytest.mark.slow
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
AWKS = ("mawk", "gawk")
HOUR, DAY = 3600, 86400
BROKEN_AFTER = 600  # seconds: a lock of a sweep whose owner was killed (sweep.sh)
BOOKING = "ab-0123456789ab"
NAME, OTHER = f"{BOOKING}000", f"{BOOKING}001"


@pytest.fixture(params=sorted(SHELLS))
def cluster(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    """A Slurm that knows the jobs of the file `queue`, and takes each request; spoken to through each shell and both awks."""
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (apt-get install {command[0]})")
    programs = tmp_path / "bin"
    programs.mkdir()
    awk = shutil.which(AWKS[len(request.param) % 2]) or shutil.which("awk")
    for name, script in {
        "squeue": f"echo 'JOBID|STATE|REASON|NODELIST|COMMENT|NAME|SUBMIT_TIME|START_TIME|TIME_LEFT'\ncat {tmp_path}/queue 2>/dev/null || :",
        "sbatch": "echo 4242",
        "scancel": f'echo "$*" >>{tmp_path}/cancelled; rm -f {tmp_path}/queue',
        "awk": f'exec {awk} "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return SlurmCluster(ShellThrough(command), state_dir=str(tmp_path / "state"))


def ended(
    cluster: SlurmCluster, name: str, n: int = 1, *, ago: float = 2 * DAY, port: int = 5000, node: str = "n1"
) -> Path:
    """An allocation as its keeper left it."""
    folder = Path(cluster.state_dir) / name / str(n)
    service = folder / "services" / "brayns1"
    service.mkdir(parents=True)
    for path, text in {
        "job": "7 2026-01-01T00:00:00", "owner.somebody": "", "release": "1", "ended": "not used for 1800 s (idle_limit)", "asked": "5a3e",
        "services/brayns1/command": "true", "services/brayns1/port.sed": "s/x/y/p", "services/brayns1/node": node,
        "services/brayns1/listening": str(port), "services/brayns1/exit": "0 stopped", "services/brayns1/log": "the last line",
    }.items():  # fmt: skip
        (folder / path).write_text(f"{text}\n")
    os.utime(folder / "ended", (time.time() - ago,) * 2)
    return folder


def lives(cluster: SlurmCluster, name: str, n: int = 1) -> Path:
    """One that has not ended."""
    folder = ended(cluster, name, n)
    for path in ("release", "ended", "services/brayns1/exit"):
        (folder / path).unlink()
    return folder


async def sweep(cluster: SlurmCluster) -> None:
    """What the first submission of an hour does."""
    (Path(cluster.state_dir) / ".swept").unlink(missing_ok=True)
    await cluster.call("submit", "sweep", 60)


def begin(cluster: SlurmCluster, calls: str) -> subprocess.Popen[str]:
    """A process of the cluster's shell that makes some calls on the login machine."""
    assert isinstance(cluster.shell, ShellThrough)
    script = f"scheduler=slurm\nstate_dir='{cluster.state_dir}'\n{script_of('submit')}{calls}\n"
    return subprocess.Popen([*cluster.shell.command, "-c", script], stdout=subprocess.PIPE, text=True)


def run(cluster: SlurmCluster, calls: str, at_once: int = 1) -> list[str]:
    """What so many processes printed that made the same calls at once."""
    return [process.communicate(timeout=60)[0] for process in [begin(cluster, calls) for _ in range(at_once)]]


def folded(cluster: SlurmCluster) -> list[str]:
    """Names and incarnations of what is folded away."""
    return sorted("/".join(one.parts[-2:]) for one in Path(cluster.state_dir).glob(".ab-finished/*/*/*/*"))


async def test_what_ended_a_day_ago_is_folded_away_and_nothing_else(cluster: SlurmCluster) -> None:
    state = Path(cluster.state_dir)
    ended(cluster, NAME, 1)
    living = lives(cluster, NAME, 2)
    ended(cluster, OTHER)
    late = ended(cluster, f"{BOOKING}002", ago=DAY - HOUR)
    strangers = [ended(cluster, one) for one in ("thesis", "ab-my own", "ab-it's")]
    await sweep(cluster)
    assert folded(cluster) == [f"{NAME}/1", f"{OTHER}/1"]
    assert living.is_dir() and late.is_dir() and all(one.is_dir() for one in strangers)
    assert not (state / OTHER).exists(), "an empty folder has no use"
    [status] = await cluster.list_all()
    assert (status.name, status.incarnation) == (NAME, 2)


async def test_what_was_folded_away_is_still_told_of_with_its_end_and_its_log(cluster: SlurmCluster) -> None:
    """A wait that comes late, since Airflow was away for hours, is not told that the folder has gone."""
    ended(cluster, NAME)
    before = await cluster.look([Waiter(NAME, 1)])
    await sweep(cluster)
    after = await cluster.look([Waiter(NAME, 1)])
    assert after == before
    [status] = after.values()
    assert status.state is JobState.ENDED and status.ended == "not used for 1800 s (idle_limit)"
    assert status.services[0].log
    known = await cluster.look([Waiter(NAME, 1, known=2, offsets={"brayns1": 4})])
    assert len(known[NAME, 1].services[0].log) < len(status.services[0].log), "what is new of it"
    finding = await cluster.examine(NAME, 1, "brayns1")
    assert finding is not None and "the last line" in "".join(finding.tail)


async def test_a_name_counts_on_behind_what_was_folded_away(cluster: SlurmCluster) -> None:
    """An old handle must never mean a new allocation."""
    ended(cluster, NAME, 1)
    ended(cluster, NAME, 2)
    await sweep(cluster)
    assert not (Path(cluster.state_dir) / NAME).exists()
    allocation = await cluster.submit(NAME, "me", AllocationRequest())
    assert (allocation.incarnation, allocation.adopted) == (3, False)


@pytest.mark.parametrize("asked", [NAME, BOOKING, BOOKING[:9]])
async def test_a_release_counts_what_was_folded_away_by_any_beginning_of_its_name(
    cluster: SlurmCluster, asked: str
) -> None:
    ended(cluster, NAME)
    await sweep(cluster)
    assert await cluster.release(asked) == 1
    assert await cluster.release("ab-99") == 0


async def test_what_follows_on_what_was_folded_away_is_noted_there_unless_that_was_given_back(
    cluster: SlurmCluster,
) -> None:
    (ended(cluster, NAME) / "release").unlink()
    await sweep(cluster)
    [folder] = Path(cluster.state_dir).glob(f".ab-finished/*/*/{NAME}/1")
    assert (await cluster.submit(NAME, "me", AllocationRequest(), after=1)).incarnation == 2
    assert (folder / "next").read_text() == "2\n"
    await cluster.release(NAME, grace=0)
    with pytest.raises(AllocationLost):
        await cluster.submit(NAME, "me", AllocationRequest(), after=1)


async def test_a_job_that_slurm_still_has_is_ended_although_its_folder_was_folded_away(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    ended(cluster, NAME)
    await sweep(cluster)
    (tmp_path / "queue").write_text(f"7|RUNNING|None|n1||{NAME}-1|2026-01-01T00:00:00||1:00\n")
    await cluster.release(BOOKING, grace=0)
    assert f"--name={NAME}-1 7" in (tmp_path / "cancelled").read_text()


async def test_who_listened_at_a_port_last_is_found_among_what_was_folded_away(cluster: SlurmCluster) -> None:
    ended(cluster, NAME, ago=4 * DAY)
    ended(cluster, OTHER, ago=2 * DAY)
    ended(cluster, f"{BOOKING}002", ago=3 * DAY)
    ended(cluster, f"{BOOKING}003", port=5001)
    ended(cluster, f"{BOOKING}004", node="n2")
    await sweep(cluster)
    answer = await cluster.call("find", "listening_at 5000", 60)
    assert sorted(answer.split("\n"))[-2:] == [f"at {OTHER} 1 brayns1 over n1", f"at {BOOKING}004 1 brayns1 over n2"]


async def test_what_was_folded_away_a_week_ago_is_removed(cluster: SlurmCluster) -> None:
    state = Path(cluster.state_dir)
    today = int(time.time()) // DAY
    ended(cluster, NAME, ago=9 * DAY)
    for number, day in enumerate((today - 8, today - 7, today - 1)):
        (state / ".ab-finished" / str(day) / BOOKING / f"{BOOKING}10{number}" / "1").mkdir(parents=True)
        (state / ".ab-finished" / str(day) / "fared").write_text("n1 x/1 brayns1 5a3e 5000\n")
    await sweep(cluster)
    assert folded(cluster) == [f"{BOOKING}101/1", f"{BOOKING}102/1"]
    assert not (state / NAME).exists()
    assert not (state / ".ab-finished" / str(today - 8)).exists()


async def test_a_long_log_keeps_its_beginning_and_its_end(cluster: SlurmCluster) -> None:
    folder = ended(cluster, NAME)
    (folder / "keeper.log").write_bytes(b"first\n" + b"x" * (6 << 20) + b"\nlast\n")
    (folder / "services" / "brayns1" / "log").write_bytes(b"y" * (3 << 20))
    await sweep(cluster)
    [now] = Path(cluster.state_dir).glob(f".ab-finished/*/*/{NAME}/1")
    kept = (now / "keeper.log").read_bytes()
    assert kept.startswith(b"first\n") and kept.endswith(b"\nlast\n") and len(kept) < 2 << 20
    assert (now / "services" / "brayns1" / "log").stat().st_size == 3 << 20


async def test_programs_that_nobody_asks_for_are_removed(cluster: SlurmCluster) -> None:
    programs = Path(cluster.state_dir) / "bin"
    programs.mkdir(parents=True)
    Path(cluster.state_dir).chmod(0o700)
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of nothing
    old, used, part, mine = (
        programs / one
        for one in (
            "ffmpeg-linux-x86_64-v7.0.2-0123456789ab",
            "ffmpeg-linux-x86_64-v7.0.2-e3b0c44298fc",
            "ffmpeg-linux-x86_64-v7.0.2-0123456789ab.01234567",
            "mine",
        )
    )
    for one in (old, used, part, mine):
        one.touch(0o700)
        os.utime(one, (time.time() - 40 * DAY,) * 2)
    assert "there" in dict(await cluster.ask("files", f"find_program {used.name} {digest}", 60))
    await sweep(cluster)
    assert sorted(one.name for one in programs.iterdir()) == [used.name, "mine"]


async def test_a_lock_that_its_owner_left_is_removed_with_its_folder(cluster: SlurmCluster) -> None:
    locks = [Path(cluster.state_dir) / one / ".lock" for one in (NAME, OTHER)]
    for number, lock in enumerate(locks):
        lock.mkdir(parents=True)
        os.utime(lock, (time.time() - 9 * DAY * number,) * 2)
    await sweep(cluster)
    assert [one.is_dir() for one in locks] == [True, False]


async def test_a_sweep_between_a_lock_and_its_folder_does_not_keep_a_submission_waiting(cluster: SlurmCluster) -> None:
    """The folder was empty for a moment, and a sweep took it away: the lock could never be made."""
    # `mkdir` of the folder is followed at once by whoever takes it away; the second time nobody does.
    once = f'mkdir() {{ command mkdir "$@" || return; [ -n "${{done-}}" ] || {{ done=yes; rmdir "{cluster.state_dir}/{NAME}"; }}; }}\n'
    told, _ = begin(cluster, f"{once}sleep() {{ :; }}\nlocked {NAME} && echo locked").communicate(timeout=60)
    assert told == "locked\n"


async def test_a_wait_for_what_was_folded_away_does_not_take_each_look_for_news(cluster: SlurmCluster) -> None:
    ended(cluster, NAME)
    await sweep(cluster)
    calls = f"sleep() {{ [ $1 = 0.3 ] && command sleep 1; }}\n{question([Waiter(NAME, 1, known=3)], 2, 0.3)}"
    began = time.monotonic()
    told = read_status(await cluster.call("look", calls, 60))
    assert time.monotonic() - began > 1
    assert list(told) == [(NAME, 1)]


@pytest.mark.parametrize("at_once", [2, 3])
@pytest.mark.parametrize(
    "calls",
    ["sweep", "swept=$(now); day=$((swept / 86400)); deadline=$((swept + 60)); cd $state_dir; find_ended; fold_ended"],
    ids=["sweeps", "folding, with a lock that was broken"],
)
def test_sweeps_at_once_lose_nothing(cluster: SlurmCluster, at_once: int, calls: str) -> None:
    """The second one took what the first had just moved for what lay in its way, and removed it."""
    # Each has listed what has ended before any moves it.
    together = f"""sort() {{ command sort "$@"; : >"$state_dir/../listed.$$"; tries=0
while [ $tries -lt 20 ] && [ "$(ls "$state_dir/.." | grep -c '^listed')" -lt {at_once} ]; do tries=$((tries + 1)); command sleep 0.05; done; }}
"""
    names = [f"ab-{number:012x}000" for number in range(60)]
    for name in names:
        ended(cluster, name)
    Path(cluster.state_dir).chmod(0o700)
    run(cluster, together + calls, at_once)
    assert folded(cluster) == [f"{name}/1" for name in names]
    logs = Path(cluster.state_dir).glob(".ab-finished/*/*/*/1/services/brayns1/log")
    assert [one.read_text() for one in logs] == ["the last line\n"] * 60


@pytest.mark.parametrize(("age", "left"), [(BROKEN_AFTER / 2, True), (BROKEN_AFTER * 2, False)])
def test_a_lock_whose_owner_was_killed_keeps_nobody_from_sweeping_for_long(
    cluster: SlurmCluster, age: float, left: bool
) -> None:
    ended(cluster, NAME)
    lock = Path(cluster.state_dir) / ".sweeping"
    lock.mkdir()
    os.utime(lock, (time.time() - age,) * 2)
    assert run(cluster, "sweep || echo not now") == ["not now\n"]
    assert (lock.exists(), folded(cluster)) == (left, [])
    run(cluster, "sweep")
    assert folded(cluster) == ([] if left else [f"{NAME}/1"])


def test_a_sweep_that_is_ended_leaves_no_lock(cluster: SlurmCluster) -> None:
    Path(cluster.state_dir).mkdir()
    assert run(cluster, "is_due() { [ -z $lock ] || kill -TERM $$; }\nsweep; echo went on") == [""]
    assert not (Path(cluster.state_dir) / ".sweeping").exists()


def test_a_sweep_that_waited_for_the_lock_does_not_sweep_again(cluster: SlurmCluster) -> None:
    """The one before it ended between its look at the age and its lock."""
    ended(cluster, NAME)
    run(cluster, 'mkdir() { command mkdir "$@" && put "$state_dir/.swept" 1; }\nsweep')
    assert folded(cluster) == []


def test_what_lies_at_the_place_of_what_is_folded_stays_and_so_does_this(cluster: SlurmCluster) -> None:
    """A version that does not look there counts from 1 again."""
    ended(cluster, NAME)
    run(cluster, "sweep")
    [before] = Path(cluster.state_dir).glob(f".ab-finished/*/*/{NAME}/1")
    (before / "about").write_text("the first")
    again = ended(cluster, NAME)
    (Path(cluster.state_dir) / ".swept").unlink()
    run(cluster, "sweep")
    assert (before / "about").read_text() == "the first" and not (before / "1").exists()
    assert (again / "ended").exists()


@pytest.mark.parametrize("full", ["ulimit -f 0", "mkdir() { return 1; }"], ids=["no block", "no folder"])
def test_without_room_nothing_is_folded_and_what_is_old_is_removed(cluster: SlurmCluster, full: str) -> None:
    """What was not noted was swept by each submission; what is removed makes room."""
    late = ended(cluster, NAME)
    old = ended(cluster, OTHER, ago=9 * DAY)
    run(cluster, f"{full}\nsweep")
    assert (late.exists(), old.exists(), folded(cluster)) == (True, False, [])


def test_without_room_a_sweep_is_noted_in_the_place_of_the_one_before(cluster: SlurmCluster) -> None:
    ended(cluster, NAME)
    noted = Path(cluster.state_dir) / ".swept"
    noted.write_text(f"{time.time():.0f}\n")
    os.utime(noted, (time.time() - 2 * HOUR,) * 2)
    assert run(cluster, "put() { return 1; }\nsweep && echo swept; sweep || echo not again") == ["swept\nnot again\n"]


def test_one_deadline_is_for_all_and_is_looked_at_every_ten_folders(cluster: SlurmCluster) -> None:
    """By an hour glass that runs 4 s for each look at it."""
    for number in range(80):
        ended(cluster, f"ab-{number:012x}000", ago=9 * DAY if number < 30 else 2 * DAY)
    run(
        cluster,
        'now() { echo x >>"$state_dir/looks"; echo $(($(date +%s) + 4 * $(wc -l <"$state_dir/looks"))); }\nsweep',
    )
    gone = 80 - len(list(Path(cluster.state_dir).glob("ab-*/1")))
    assert 30 < gone < 60 and len(folded(cluster)) == gone - 30


def test_what_is_somebodys_own_in_the_state_folder_stays(cluster: SlurmCluster, tmp_path: Path) -> None:
    """The state folder may be a home, or a project's folder."""
    state = Path(cluster.state_dir)
    ended(cluster, NAME)
    elsewhere = tmp_path / "elsewhere"
    theirs = [
        state / "finished/2023/results/a", state / ".ab-finished/2023/results/a", state / ".ab-finished/2023/ab-thesis/a",
        state / "ab-2023/1/ended", elsewhere / "1/ended", elsewhere / f"{NAME}/1/ended", elsewhere / BOOKING / NAME / "1/ended",
    ]  # fmt: skip
    programs = [state / "bin" / one for one in ("my-visualise.py", "my-0123456789ab", "ffmpeg-convert-many")]
    for one in (*theirs, *programs):
        one.parent.mkdir(parents=True, exist_ok=True)
        one.write_text("mine")
        os.utime(one, (time.time() - 90 * DAY,) * 2)
    (state / "ab-thesis").mkdir()
    (elsewhere / ".lock").mkdir()
    links = {
        state / OTHER: elsewhere, state / f"{BOOKING}002": elsewhere / NAME, state / ".ab-finished/20000": elsewhere,
        state / ".ab-finished/2023" / BOOKING: elsewhere,
    }  # fmt: skip
    for link, target in links.items():
        link.symlink_to(target)
    (state / f"{BOOKING}003").mkdir()
    (state / f"{BOOKING}003" / "1").symlink_to(elsewhere / "1")
    for one in (state / "ab-thesis", elsewhere / ".lock"):
        os.utime(one, (time.time() - 90 * DAY,) * 2)
    run(cluster, "sweep")
    assert all(one.read_text() == "mine" for one in (*theirs, *programs))
    assert all(link.is_symlink() for link in links)
    assert (state / "ab-thesis").is_dir() and (elsewhere / ".lock").is_dir()
    assert f"{NAME}/1" in folded(cluster)


def test_a_finished_folder_or_one_of_a_booking_that_is_a_link_gets_nothing(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    state, elsewhere = Path(cluster.state_dir), tmp_path / "elsewhere"
    kept = ended(cluster, NAME)
    old = elsewhere / "20000" / BOOKING / NAME / "1"
    old.mkdir(parents=True)
    (state / ".ab-finished").symlink_to(elsewhere)
    run(cluster, "sweep")
    assert kept.is_dir() and old.is_dir()
    assert [one.name for one in elsewhere.iterdir()] == ["20000"]
    (state / ".ab-finished").unlink()
    today = state / ".ab-finished" / str(int(time.time()) // DAY)
    today.mkdir(parents=True)
    (today / BOOKING).symlink_to(elsewhere)
    (state / ".swept").unlink()
    run(cluster, "sweep")
    assert kept.is_dir() and [one.name for one in elsewhere.iterdir()] == ["20000"]


@pytest.mark.parametrize("part", ["head", "tail"])
def test_a_long_log_that_cannot_be_read_stays(cluster: SlurmCluster, tmp_path: Path, part: str) -> None:
    log = ended(cluster, NAME) / "keeper.log"
    log.write_bytes(b"x" * (6 << 20))
    run(cluster, f"{part}() {{ return 1; }}\nsweep")
    [now] = Path(cluster.state_dir).glob(f".ab-finished/*/*/{NAME}/1")
    assert (now / "keeper.log").stat().st_size == 6 << 20
    assert not list(now.glob("*.new.*"))
