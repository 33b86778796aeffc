"""A ledger: whatever nodes do, together it is the time for which they were held, and each second is told once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from airflow_brayns.errors import StorageFailed
from airflow_brayns.movie.ledger import Ledger
from airflow_brayns.movie.manifest import FrameRecord, Manifest
from airflow_brayns.movie.used import Used, UsedRecord
from tests.support.clock import jumping_clock
from tests.support.movie import KeptFrames, Remembers

__all__ = ["jumping_clock"]


class Clock:
    """`time.monotonic` and `time.time` as the test sets them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def goes(self, seconds: float) -> float:
        self.now += seconds
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(time, "monotonic", one)
    monkeypatch.setattr(time, "time", one)
    return one


def test_a_node_starts_waits_and_renders(clock: Clock) -> None:
    ledger = Ledger()
    ledger.held("7/n1")
    clock.goes(20)
    ledger.held("7/n1")  # each look tells it again
    ledger.ready("7/n1")
    began = clock.goes(5)
    ledger.rendered("7/n1", began, clock.goes(30))
    clock.goes(10)
    assert ledger.used == Used(rendering=30, starting=20, waiting=15, frames=1)
    ledger.gone("7/n1")
    clock.goes(100)
    assert ledger.used.node_seconds == 65, "a node that was given back costs nothing"


def test_the_start_of_a_service_that_dies_is_lost_and_so_is_the_start_of_the_next_one(clock: Clock) -> None:
    ledger = Ledger()
    ledger.held("7/n1")
    clock.goes(20)
    ledger.breaks("7/n1")
    clock.goes(15)
    ledger.ready("7/n1")
    clock.goes(1)
    assert ledger.used == Used(lost=35, waiting=1)


def test_the_time_at_a_frame_that_never_came_is_lost(clock: Clock) -> None:
    ledger = Ledger()
    ledger.held("7/n1")
    ledger.ready("7/n1")
    asked = clock.goes(2)
    clock.goes(50)
    ledger.breaks("7/n1", asked)
    clock.goes(8)
    ledger.breaks("7/n1")
    assert ledger.used == Used(waiting=2, lost=58)


def test_the_time_at_a_frame_that_is_not_whole_is_lost(clock: Clock) -> None:
    ledger = Ledger()
    ledger.held("7/n1")
    ledger.ready("7/n1")
    ledger.rendered("7/n1", clock.now, clock.goes(30))
    ledger.vain(30)
    assert ledger.used == Used(lost=30)


def test_a_job_that_ends_while_a_frame_is_rendered_loses_what_came_before_its_end(clock: Clock) -> None:
    ledger = Ledger()
    ledger.held("7/n1")
    ledger.ready("7/n1")
    asked = clock.now
    clock.goes(10)
    ledger.gone("7/n1")
    clock.goes(6)  # it takes a while until the worker notices
    ledger.breaks("7/n1", asked)
    assert ledger.used == Used(lost=10)


def test_what_is_told_of_a_node_that_nobody_holds_counts_nothing(clock: Clock) -> None:
    ledger = Ledger()
    ledger.ready("7/n1")
    ledger.breaks("7/n1")
    ledger.gone("7/n1")
    ledger.rendered("7/n1", 0, 10)
    assert ledger.used == Used()


def manifest(*records: UsedRecord) -> Manifest:
    return Manifest.read([one.line() for one in records])


def test_the_tries_of_a_movie_add_up_and_nobody_elses(clock: Clock) -> None:
    ledger = Ledger("movie", "third")
    ledger.opens(
        manifest(
            UsedRecord("movie", "first", 10, Used(100, frames=4)),
            UsedRecord("movie", "second", 20, Used(lost=50)),
            UsedRecord("movie", "third", 25, Used(1)),  # its own: the same try went on
            UsedRecord("another", "x", 30, Used(1000)),
        )
    )
    ledger.held("7/n1")
    clock.goes(5)
    assert ledger.used == Used(starting=5)
    assert ledger.total == Used(100, starting=5, lost=50, frames=4)


def test_nodes_that_a_killed_try_left_are_lost_since_it_was_last_heard_of(clock: Clock) -> None:
    ledger = Ledger("movie", "second")
    ledger.held("7/n1")  # a look may come before the manifest is read
    ledger.opens(
        manifest(
            UsedRecord("movie", "first", clock.now - 40, Used(100), ("7/n1", "7/n2", "7/n4")),
            UsedRecord("movie", "clean", clock.now - 90, Used(100)),  # its nodes were given back, or are the DAG's
        )
    )
    ledger.held("7/n2")
    ledger.held("8/n3")
    assert ledger.used == Used(lost=80)


def test_a_node_that_a_killed_try_left_was_not_lost_while_it_rendered_on(clock: Clock) -> None:
    ledger, killed = Ledger("movie", "second"), UsedRecord("movie", "first", clock.now - 40, Used(100), ("7/n1",))
    frames = [FrameRecord(one, "key", "file", "sha", 1, 1, 15.0, holder="first").line() for one in range(8)]
    ledger.opens(Manifest.read([killed.line(), *frames]))
    ledger.held("7/n1")
    assert ledger.used == Used(lost=20)
    assert ledger.total == Used(rendering=120, lost=20, frames=8)


def test_a_node_is_not_lost_twice_after_a_try_that_has_ended(clock: Clock) -> None:
    ledger = Ledger("movie", "third")
    ledger.opens(
        manifest(
            UsedRecord("movie", "killed", clock.now - 90, Used(100), ("7/n1",)),
            UsedRecord("movie", "ended", clock.now - 40, Used(lost=50)),
        )
    )
    ledger.held("7/n1")
    assert ledger.used == Used()


@pytest.mark.usefixtures("jumping_clock")
async def test_a_try_that_is_killed_has_told_most_of_it() -> None:
    ledger, store = Ledger("movie", "first"), KeptFrames()
    keeping = asyncio.create_task(ledger.kept(store))  # type: ignore[arg-type]
    await asyncio.sleep(150)
    assert store.noted == [], "nothing was used yet"
    ledger.held("7/n1")
    await asyncio.sleep(0.1)
    assert [one.held for one in store.noted] == [("7/n1",)], (
        "which nodes it would leave is told at once, before a frame"
    )
    await asyncio.sleep(200)
    keeping.cancel()
    assert [(one.movie, one.holder) for one in store.noted] == [("movie", "first")] * 4
    assert store.noted[-1].used.starting > 120
    assert store.noted[-1].held == ("7/n1",)
    await ledger.close(store, Remembers())  # type: ignore[arg-type]
    assert store.noted[-1].held == (), "whoever comes next does not take its nodes for those of a killed try"


class Full(KeptFrames):
    async def note(self, record: UsedRecord) -> None:
        raise StorageFailed("no room")


class Slow(KeptFrames):
    async def note(self, record: UsedRecord) -> None:
        await asyncio.sleep(1000)


@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize("store", [KeptFrames(), Full(), Slow()])
async def test_at_the_end_it_is_told_whatever_becomes_of_the_record(store: Any) -> None:
    ledger, told = Ledger(), Remembers()
    ledger.held("7/n1")
    await asyncio.sleep(10)
    began = time.monotonic()
    await ledger.close(store, told)
    assert time.monotonic() - began < 4, "a task that was told to stop has no more"
    [(used, total)] = told.uses
    assert used.starting >= 10 and total.starting >= 10


# ---- the budget --------------------------------------------------------------------------------------------------------
def test_a_frame_is_afforded_with_what_all_nodes_cost_meanwhile(clock: Clock) -> None:
    ledger = Ledger("movie", "this", 0.1)  # 360 node seconds
    ledger.opens(manifest(UsedRecord("movie", "first", 10, Used(100))))
    ledger.held("7/n1")
    ledger.held("7/n2")
    clock.goes(80)  # 260 are used
    assert ledger.affords(49) and not ledger.affords(50)
    ledger.gone("7/n2")
    assert ledger.affords(99) and not ledger.affords(100)
    assert Ledger("movie", "this").affords(1e9), "without one, anything is"


def test_a_budget_that_earlier_tries_have_spent_is_spent(clock: Clock) -> None:
    """Nearly used up it does for no frame either: who ended by it has told so, and a node would only cost."""
    for budget, spent in ((1, True), (2, True), (2.1, False), (None, False)):
        ledger = Ledger("movie", "next", budget)
        ledger.opens(
            manifest(UsedRecord("movie", "first", 10, Used(3600)), UsedRecord("movie", "b", 20, Used(3500), spent=2))
        )
        assert ledger.is_spent_before is spent, budget


@pytest.mark.usefixtures("jumping_clock")
async def test_a_try_that_ends_by_its_budget_writes_that_down() -> None:
    for ended, spent in ((True, 2.5), (False, 0)):
        ledger, store = Ledger("movie", "first", 2.5), KeptFrames()
        ledger.held("7/n1")
        await asyncio.sleep(10)
        ledger.ended_by_budget = ended
        await ledger.close(store, Remembers())  # type: ignore[arg-type]
        assert [one.spent for one in store.noted] == [spent]
