"""A sweep of the state folder: one at a time, for so long, and only over what is ours."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from airflow_brayns.cluster.slurm import SlurmCluster
from tests.support.ended import (
    BOOKING,
    BROKEN_AFTER,
    DAY,
    HOUR,
    NAME,
    OTHER,
    begin,
    cluster,
    ended,
    folded,
    run,
    sweep,
)

__all__ = ["cluster"]
pytestmark = pytest.mark.slow


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
