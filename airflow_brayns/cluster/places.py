"""Places: how much is done at once, such that what may take long leaves room for what does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager


class Places:
    """Places for so much work at once. What may take long has a part of them only, so that the rest never waits behind it.

    :param most: how many there are.
    :param slow: how many of them work may have that may take long.
    """

    def __init__(self, most: int, slow: int) -> None:
        self._all, self._slow = asyncio.Semaphore(most), asyncio.Semaphore(slow)

    @asynccontextmanager
    async def take(self, *, slow: bool) -> AsyncIterator[None]:
        """Wait for a place, and keep it for as long as the block runs.

        :param slow: whether the work may take long.
        """
        async with AsyncExitStack() as stack:
            if slow:
                await stack.enter_async_context(self._slow)
            await stack.enter_async_context(self._all)
            yield
