"""The end of a loop that a task runs in is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest

from airflow_brayns.task import blocking


def test_the_end_of_a_loop_waits_for_nothing_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """`asyncio.run` would wait for a thread that looks up a name, and for whoever does not heed its cancel."""
    monkeypatch.setattr(blocking, "CLOSE_SECONDS", 0.3)
    let_go = threading.Event()

    async def deaf() -> None:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)

    async def main(keep: list[Any]) -> str:
        keep.append(asyncio.create_task(deaf()))
        keep.append(asyncio.ensure_future(asyncio.to_thread(let_go.wait, 30)))
        await asyncio.sleep(0.1)
        return "proved"

    try:
        began = time.monotonic()
        assert blocking.run(main([])) == "proved"
        assert time.monotonic() - began < 10
    finally:
        let_go.set()


def test_a_loop_that_ends_in_order_is_closed_with_its_tasks_ended() -> None:
    ended = []

    async def other() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("task")

    async def main(keep: list[Any]) -> None:
        keep.append(asyncio.create_task(other()))
        await asyncio.sleep(0)
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        blocking.run(main([]))
    assert ended == ["task"]
