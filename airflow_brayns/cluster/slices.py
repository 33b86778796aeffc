"""Work in slices: what a loop's thread does for thousands at once lets everybody else of that loop have a turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

SLICE_SECONDS = 0.01
Item = TypeVar("Item")


async def in_slices(items: Iterable[Item], most: int | None = None) -> AsyncIterator[Item]:
    """Yield each item. When the work on the last ones has taken `SLICE_SECONDS`, whoever else is ready runs first.

    :param most: items of one slice, where each wakes somebody whose work comes on top; None for any number.
    """
    began, number = time.perf_counter(), 0
    for item in items:
        yield item
        number += 1
        if number == most or time.perf_counter() - began >= SLICE_SECONDS:
            await asyncio.sleep(0)
            began, number = time.perf_counter(), 0
