"""No test waits for ever: what does not come fails it, and says where it stood."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any

SECONDS = 300.0  # ten times what the longest takes alone: xdist, and a machine that others use too


def bounded(
    test: Callable[..., Coroutine[Any, Any, Any]], seconds: float = SECONDS
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """A test that fails when it has waited for so long: an `await` that is never answered hung the whole run."""

    @functools.wraps(test)
    async def run(*arguments: Any, **named: Any) -> Any:
        async with asyncio.timeout(seconds):
            return await test(*arguments, **named)

    return run


def bound_all(items: list[Any]) -> None:
    """The same of all tests that pytest has collected; those that block see to it themselves (`until`), and those on a clock that
    jumps, which would jump over the bound.
    """
    for item in items:
        if "jumping_clock" not in item.fixturenames and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.obj = bounded(item.obj)


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Block until something holds.

    :raises AssertionError: it does not in time.
    """
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:g} s: {inspect.getsource(holds).strip()}"
        time.sleep(0.05)
