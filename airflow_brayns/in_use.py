"""A service that somebody works with: it counts as used meanwhile, and when the connection breaks its end is told."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from airflow_brayns.brayns.readiness import parse_endpoint
from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.finding import Fate, Finding
from airflow_brayns.errors import BraynsError, ConnectionLost, ServiceFailed, reason_of
from airflow_brayns.task_state import supervisor_has_gone

_LOOK_SECONDS = 20.0  # for the first look; the login node may have to be reached first
_TOLD_SECONDS = 5.0  # a wrapper says within a second that its service has ended; a file system may show it later
_ASK_SECONDS = 15.0  # for all of that; a node that is lost is asked for 5 s (`examine` in login.sh)
_MOST_SECONDS, _SHARE = 60.0, 4  # between two renewals: as many in an `idle_limit`
_PAUSE = 0.3
# What clients raise whose errors are no OSErrors: the official one, websockets, websocket-client, aiohttp, requests, httpx.
_BROKEN = frozenset(
    {
        "WebSocketError", "ConnectionClosedError", "ConnectionClosed", "WebSocketException", "ClientConnectionError",
        "ConnectionError", "TransportError", "NetworkError",
    }
)  # fmt: skip
_ERRNOS = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENOTCONN})  # fmt: skip


def connection_broke(error: BaseException) -> bool:
    """Whether an error of somebody's code says that the connection to a service broke, rather than something of its own."""
    seen: BaseException | None = error
    while seen is not None:
        kinds = type(seen).__mro__
        if kinds[0].__module__.startswith("airflow."):
            return False  # somebody decided what becomes of the task
        if isinstance(seen, ConnectionLost | ConnectionError | TimeoutError | EOFError | socket.gaierror):
            return True
        if isinstance(seen, OSError) and seen.errno in _ERRNOS:
            return True
        if any(kind.__name__ in _BROKEN and not kind.__module__.startswith("builtins") for kind in kinds):
            return True
        if isinstance(seen, BaseExceptionGroup):
            return any(connection_broke(one) for one in seen.exceptions)
        seen = seen.__cause__
    return False


async def what_became(cluster: Cluster, allocation: Allocation, service: str) -> Finding | None:
    """What has become of a service: where it has just ended, its exit is awaited for a few seconds. None: it is not known.

    :raises ConnectionLost: the cluster could not be asked.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _TOLD_SECONDS
    while True:
        now = await cluster.examine(*allocation.key, service)
        if now is None or now.told or now.fate is Fate.OURS or loop.time() > give_up:
            return now
        await asyncio.sleep(_PAUSE)


def check_ours(found: Finding) -> None:
    """Whoever listens at an endpoint of ours must be ours.

    :raises ServiceFailed: the service has ended, or its port is somebody else's. One that was asked for a port of its own and
        has ended says nothing of who listens there today.
    """
    fixed = found.asked_port != "0"
    if found.fate is Fate.STRANGE or (found.fate is Fate.ENDED and not fixed):
        raise ServiceFailed(f"{found.text()}\nClear the task that started it to start it anew.", retry=False)


class InUse:
    """An endpoint that somebody works with.

    :param endpoint: `host:port` as it was handed on.
    :param log: a task's log.
    """

    def __init__(self, cluster: Cluster, endpoint: str, log: Any) -> None:
        self._cluster, self._endpoint, self._log = cluster, endpoint, log
        self.found: Finding | None = None
        self._told = ""

    async def look(self) -> None:
        """Find the service, prove that it is ours, count it as used. An endpoint that is none of ours is left as it is.

        :raises ServiceFailed: it has ended, or its port is somebody else's.
        """
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._find()
        except (BraynsError, TimeoutError) as error:
            self._tell(f"{str(error) or 'no answer in time'}")
            return
        if self.found is not None:
            check_ours(self.found)
            if self.found.fate is Fate.ENDED:  # of an earlier service at this port
                self.found = None

    async def _find(self) -> None:
        host, port = parse_endpoint(self._endpoint)
        self.found = await self._cluster.service_at(self._cluster.node_at(host), port)

    def _tell(self, why: str) -> None:
        """Once per change."""
        if self._told != why:
            self._told = why
            self._log.warning(
                "The cluster could not be told that %s is in use, so `idle_limit` may end it; asking again: %s",
                self._endpoint, why,
            )  # fmt: skip

    async def keep(self) -> None:
        """Renew the lease, for as long as this runs: work that moves no byte for long is use, too.

        Whoever lost its supervisor works for nobody any more, and keeps nothing.
        """
        while not supervisor_has_gone():
            idle_limit = self.found.idle_limit if self.found else _MOST_SECONDS * _SHARE
            await asyncio.sleep(max(0.5, min(_MOST_SECONDS, idle_limit / _SHARE)))
            try:
                if self.found is None:
                    if not self._told:
                        return  # it is none of ours
                    await self._find()
                elif not await self._cluster.renew(*self.found.allocation.key):
                    return  # it has ended
                self._told = ""
            except BraynsError as error:
                self._tell(str(error))

    async def explain(self, error: BaseException, near: str = "") -> BraynsError:
        """What to say when the connection broke: who ended, where and how; asked of the cluster, within a few seconds.

        :param error: what the client said.
        :param near: the local `host:port` that it knew, which says nothing to the reader.
        """
        said = f"{type(error).__name__}: {reason_of(error)}"
        said = said.replace(near, self._endpoint) if near else said
        if self.found is None:
            return ConnectionLost(
                f"The connection to braynsService at {self._endpoint} broke ({said}). It runs in no allocation of ours, so what "
                "became of it can only be told where it was started."
            )
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                now = await what_became(self._cluster, self.found.allocation, self.found.service.name) or self.found
        except (BraynsError, TimeoutError) as trouble:
            return ConnectionLost(
                f"The connection to braynsService {self.found} at {self._endpoint} broke ({said}). The cluster could not be asked "
                f"what became of it: {str(trouble) or 'no answer in time'}"
            )
        if now.fate in (Fate.ENDED, Fate.STRANGE):
            return ServiceFailed(
                f"{now.text()}\nThe client at {self._endpoint} said: {said}. Clear the task that started the service to start "
                "it anew.",
                retry=False,
            )
        return ConnectionLost(
            f"The connection to braynsService {now} at {self._endpoint} broke ({said}), and the service still runs: it was the "
            f"way there, or the service closed it.\n{now.last_lines()}"
        )
