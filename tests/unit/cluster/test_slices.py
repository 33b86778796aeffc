"""Work in slices: everybody else of the loop has turns meanwhile, and nothing of the work is left out."""

from __future__ import annotations

import asyncio
import time

import pytest

from airflow_brayns.cluster import slices
from airflow_brayns.cluster.slices import in_slices


async def turns_during(items: int, seconds: float, most: int | None = None) -> int:
    """How often another task has a turn while each item takes a while."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    seen = []
    async for item in in_slices(range(items), most):
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass
        seen.append(item)
    task.cancel()
    assert seen == list(range(items))
    return turns


async def test_whoever_else_is_ready_runs_between_slices_of_long_work() -> None:
    assert await turns_during(10, slices.SLICE_SECONDS) >= 9


async def test_short_work_is_one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 60)
    assert await turns_during(1000, 0) == 0


async def test_a_slice_has_so_many_items_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wakes somebody, whose work is not this one's time."""
    monkeypatch.setattr(slices, "SLICE_SECONDS", 60)
    assert await turns_during(100, 0, most=20) == 5
