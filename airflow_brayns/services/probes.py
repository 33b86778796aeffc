"""Probes: how many services are asked at once whether they are usable, and how often each.

A wait holds no connection and no thread between two probes. A service that has just begun to listen is asked at once,
however many others there are that do not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar
from weakref import WeakKeyDictionary

from airflow_brayns.brayns.readiness import until
from airflow_brayns.cluster.poller import Poller

PAUSE = 0.5  # seconds between the first probes of a service; nearly all are usable within some seconds
LONGEST_PAUSE = 10.0  # a service that loads for minutes is noticed that late at most
_MOST = 32  # probes of one cluster at once
_MOST_OF_ALL = 96  # of all clusters that are waited for in one loop, as a triggerer's

Result = TypeVar("Result")


class Places:
    """Places for so many probes at once. Half of them are for services that have not been asked yet: those that do not
    answer take ten seconds each time, and must not be what a new one waits for.
    """

    def __init__(self, most: int) -> None:
        self._all, self._again = asyncio.Semaphore(most), asyncio.Semaphore(most // 2)

    @asynccontextmanager
    async def take(self, *, again: bool) -> AsyncIterator[None]:
        """Wait for a place, and keep it for as long as the block runs.

        :param again: whether the service was asked before.
        """
        async with AsyncExitStack() as stack:
            if again:
                await stack.enter_async_context(self._again)
            await stack.enter_async_context(self._all)
            yield


_of_cluster: WeakKeyDictionary[Poller, Places] = WeakKeyDictionary()
_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Places] = WeakKeyDictionary()


async def probe_until(
    poller: Poller,
    attempt: Callable[[], Awaitable[Result]],
    *,
    within: float,
    pause: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> Result:
    """Probe a service again and again until it is usable, the more rarely the longer it takes.

    :param poller: its cluster's.
    :param attempt: one probe; it raises `NotYet` for what may still come.
    :param within: seconds after which the last `NotYet` is raised.
    :param pause: seconds between the first probes; None for `PAUSE`.
    :param tell: a function that is told why not yet, once per change; None for none.
    :raises NotYet: why the last probe failed.
    """
    places = _of_cluster.setdefault(poller, Places(_MOST))
    of_all = _of_loop.setdefault(asyncio.get_running_loop(), Places(_MOST_OF_ALL))
    asked = False

    async def placed() -> Result:
        nonlocal asked
        again, asked = asked, True
        async with places.take(again=again), of_all.take(again=again):
            return await attempt()

    return await until(placed, within=within, pause=PAUSE if pause is None else pause, longest=LONGEST_PAUSE, tell=tell)
