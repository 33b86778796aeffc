"""What has ended is folded away a day later, and found there by whoever asks for it by its name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from airflow_brayns.cluster.allocation import JobState
from airflow_brayns.cluster.answers import read_status
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.waiter import Waiter, question
from airflow_brayns.errors import AllocationLost
from tests.support.ended import (
    BOOKING,
    DAY,
    HOUR,
    NAME,
    OTHER,
    cluster,
    ended,
    folded,
    lives,
    run,
    sweep,
)

__all__ = ["cluster"]
pytestmark = pytest.mark.slow


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


async def test_a_long_log_keeps_its_beginning_and_its_end(cluster: SlurmCluster) -> None:
    folder = ended(cluster, NAME)
    (folder / "keeper.log").write_bytes(b"first\n" + b"x" * (6 << 20) + b"\nlast\n")
    (folder / "services" / "brayns1" / "log").write_bytes(b"y" * (3 << 20))
    await sweep(cluster)
    [now] = Path(cluster.state_dir).glob(f".ab-finished/*/*/{NAME}/1")
    kept = (now / "keeper.log").read_bytes()
    assert kept.startswith(b"first\n") and kept.endswith(b"\nlast\n") and len(kept) < 2 << 20
    assert (now / "services" / "brayns1" / "log").stat().st_size == 3 << 20


async def test_a_wait_for_what_was_folded_away_does_not_take_each_look_for_news(cluster: SlurmCluster) -> None:
    ended(cluster, NAME)
    await sweep(cluster)
    calls = f"sleep() {{ [ $1 = 0.3 ] && command sleep 1; }}\n{question([Waiter(NAME, 1, known=3)], 2, 0.3)}"
    began = time.monotonic()
    told = read_status(await cluster.call("look", calls, 60))
    assert time.monotonic() - began > 1
    assert list(told) == [(NAME, 1)]


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
