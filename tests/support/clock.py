"""A clock that jumps: what waits for minutes is over at once, in the order in which it would be."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from typing import Any

import pytest

_REAL_SECONDS = 0.02  # given to threads that work before the clock jumps
_LONGEST, _LONGEST_REAL = 1e6, 60.0  # what has not come by then never comes


@pytest.fixture
async def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is left to do but to wait, `time.monotonic`, `time.time` and the test's loop jump to the end of the wait.

    It knows of no sockets: a test that talks through some needs the real clock.
    """
    loop: Any = asyncio.get_running_loop()
    monotonic, wall, select = time.monotonic, time.time, loop._selector.select
    jumped = 0.0
    at_work: set[concurrent.futures.Future[Any]] = set()

    def in_thread(executor: Any, work: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """As the loop's own; the thread counts as at work until the loop has been told what came of it."""
        executor = executor or loop._default_executor
        if executor is None:
            loop.set_default_executor(executor := concurrent.futures.ThreadPoolExecutor())
        given = executor.submit(work, *arguments)
        told = asyncio.wrap_future(given, loop=loop)
        at_work.add(given)
        given.add_done_callback(at_work.discard)
        return told

    def jump(timeout: float | None = None) -> Any:
        nonlocal jumped
        if timeout is None:
            events = select(_LONGEST_REAL)
            assert events, "nothing will ever happen: what is awaited has no time-out"
            return events
        assert jumped < _LONGEST, "it waits for ever"
        real = min(timeout, _REAL_SECONDS) if at_work else 0
        if not (events := select(real)):
            jumped += timeout - real
        return events

    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + jumped)
    monkeypatch.setattr(time, "time", lambda: wall() + jumped)
    monkeypatch.setattr(loop, "run_in_executor", in_thread)
    monkeypatch.setattr(loop._selector, "select", jump)
