"""An event loop as others in it find it: how long one of them holds it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Held:
    """How long the loop was held.

    :param longest: the most that its thread computed between two turns of another task, in seconds of processor: a machine
        that has much else to do makes no difference.
    """

    longest = 0.0


@asynccontextmanager
async def watched_loop() -> AsyncIterator[Held]:
    """Watch the loop from beside what is done in it."""
    held = Held()

    async def turn() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.001)  # as often as the loop lets it; what is awaited is its turn
            now = time.thread_time()
            held.longest, last = max(held.longest, now - last), now

    turning = asyncio.create_task(turn())
    try:
        await asyncio.sleep(0)
        yield held
        await asyncio.sleep(0.01)
    finally:
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)
