"""Probes: how many services are asked at once whether they are usable, how long each may take, and how often it is asked.

A wait holds no connection and no thread between two probes. Only a service whose last probe took long is given longer, and
such have a part of the places: so those that have just begun to listen, and those that say at once that they still load,
wait for the short probes of others alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from airflow_brayns.brayns import readiness
from airflow_brayns.brayns.readiness import NotYet, until
from airflow_brayns.cluster.places import Places
from airflow_brayns.cluster.poller import Poller

PAUSE = 0.5  # seconds between the first probes of a service; nearly all are usable within some seconds
LONGEST_PAUSE = 10.0  # seconds between the later ones; those that take long wait for a place besides
FIRST_SECONDS = 1.0  # for each rung, unless the last probe took long; a usable service answers within milliseconds
SILENT_SECONDS = (
    2.0  # for each rung of a node that has not answered at all: time for TCP to send its first packet twice
)
_MOST, _SLOW = 96, 32  # probes of one cluster at once, and how many of them those may be that took long the last time
_MOST_OF_ALL, _SLOW_OF_ALL = 128, 48  # of all clusters that are waited for in one loop, as a triggerer's

Result = TypeVar("Result")

_of_cluster: WeakKeyDictionary[Poller, Places] = WeakKeyDictionary()
_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Places] = WeakKeyDictionary()


async def probe_until(
    poller: Poller,
    attempt: Callable[[float], Awaitable[Result]],
    *,
    within: float,
    pause: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> Result:
    """Probe a service again and again until it is usable, the more rarely the longer it takes.

    :param poller: its cluster's.
    :param attempt: one probe, given the seconds that each rung may take; it raises `NotYet` for what may still come.
    :param within: seconds after which the last `NotYet` is raised.
    :param pause: seconds between the first probes; None for `PAUSE`.
    :param tell: a function that is told why not yet, once per change; None for none.
    :raises NotYet: why the last probe failed.
    """
    places = _of_cluster.setdefault(poller, Places(_MOST, _SLOW))
    of_all = _of_loop.setdefault(loop := asyncio.get_running_loop(), Places(_MOST_OF_ALL, _SLOW_OF_ALL))
    ends, patience, slow = loop.time() + within, FIRST_SECONDS, False

    async def placed() -> Result:
        nonlocal patience, slow
        async with places.take(slow=slow), of_all.take(slow=slow):
            began = loop.time()
            try:
                return await attempt(min(patience, max(ends - began, FIRST_SECONDS)))
            except NotYet as reason:
                if slow := loop.time() - began > FIRST_SECONDS / 2:
                    patience = readiness.RUNG_SECONDS if reason.answered else SILENT_SECONDS
                else:
                    patience = FIRST_SECONDS
                raise

    return await until(placed, within=within, pause=PAUSE if pause is None else pause, longest=LONGEST_PAUSE, tell=tell)
