"""Endpoints that somebody gave, as rendering uses them: each as it is free and usable, and driven by one movie at a time.

A service of ours is known by where it listens, and its seat is in its allocation's folder, where whoever renders with the whole
allocation sees it too. Of any other only its address is known: its seat is a folder of its own in the cluster's `state_dir`, so
it is kept among all who use that folder, and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from airflow_brayns.brayns.readiness import NotYet, parse_endpoint, probe
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.driving import Occupied, Seat, seat_elsewhere, seat_of
from airflow_brayns.cluster.finding import Finding
from airflow_brayns.crew import LEASE_SECONDS, prove
from airflow_brayns.endpoint import Reached, reachable
from airflow_brayns.errors import BraynsError, ConnectionLost, ServiceFailed, reason_of
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.in_use import InUse
from airflow_brayns.movie.store import Superseded
from airflow_brayns.movie.supply import Station
from airflow_brayns.settings import ClusterSettings

_CONFIRM_SECONDS = 5.0
_TURN_SECONDS = 3.0  # between two looks whether another movie has stopped
_MOST_TAKEN = 2  # as in `crew`


class EndpointSupply:
    """A `Supply` of endpoints that nobody can start anew; an asynchronous context manager.

    :param endpoints: `host:port` of each; one that is named twice counts once.
    :param token: of this driver; another one for each process that drives.
    :param by: which movie is rendered: its next try takes over, another movie waits for each service that this one has.
    :param log: a task's log.
    :raises ServiceFailed: (`stations`) none of them is usable.
    :raises Superseded: (`stations`) another try of this movie renders with them now.
    """

    def __init__(
        self,
        hook: BraynsClusterHook,
        settings: ClusterSettings,
        endpoints: Sequence[str],
        *,
        token: str,
        by: str,
        log: Any,
    ) -> None:
        self._hook, self._settings, self._log = hook, settings, log
        self._endpoints = list(dict.fromkeys(endpoints))
        self._token, self._by = token, by
        self._confirmed: dict[Seat, float] = {}
        self._queue: asyncio.Queue[Station | BraynsError | None] = asyncio.Queue()
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> EndpointSupply:
        await self._stack.__aenter__()
        try:
            near = await self._stack.enter_async_context(reachable(self._hook, self._settings, self._endpoints))
            poller = await self._stack.enter_async_context(self._hook.connect(self._settings))
        except BaseException:
            await self._stack.aclose()
            raise
        self._cluster: Cluster = poller.cluster
        self._tasks = [
            asyncio.create_task(self._bring(told, one)) for told, one in zip(self._endpoints, near, strict=True)
        ]
        self._tasks.append(asyncio.create_task(self._keep_seats()))
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(BraynsError, TimeoutError):
            async with asyncio.timeout(3):
                await self._cluster.leave_seats(list(self._confirmed), self._token)
        await self._stack.aclose()

    # ---- the supply --------------------------------------------------------------------------------------------
    async def stations(self) -> AsyncIterator[Station]:
        """See `Supply.stations`."""
        awaited, usable = len(self._endpoints), 0
        while awaited:
            found = await self._queue.get()
            if isinstance(found, Superseded):
                raise found
            awaited -= 1
            if isinstance(found, Station):
                usable += 1
                yield found
        if not usable:
            raise ServiceFailed(f"endpoints: none of {', '.join(self._endpoints)} is a usable braynsService.")

    async def set_aside(self, station: Station, why: str, *, again: bool) -> bool:
        """See `Supply.set_aside`: nobody starts it anew."""
        return False

    def outlook(self, seconds: float | None) -> None:
        """See `Supply.outlook`."""

    # ---- one endpoint ------------------------------------------------------------------------------------------
    async def _bring(self, endpoint: str, near: Reached) -> None:
        """Wait until no other movie renders with it, then prove that it is usable."""
        try:
            use = InUse(self._cluster, endpoint, self._log)
            await use.look()
            seat = await self._sit(endpoint, use.found)
            usable = await probe(near.host, near.port, ssl_context=near.ssl_context)
        except (NotYet, BraynsError) as error:
            self._log.warning("%s will not render: %s", endpoint, reason_of(error))
            self._queue.put_nowait(error if isinstance(error, BraynsError) else None)
            return
        self._queue.put_nowait(self._station(endpoint, near, seat, use.found, usable.version))

    def _station(self, endpoint: str, near: Reached, seat: Seat | None, found: Finding | None, version: str) -> Station:
        holds = partial(self._holds, seat)
        if found is None:
            host = endpoint.rpartition(":")[0]
            return Station(
                near.endpoint, endpoint, host, version=version, owned=False, holds=holds, ssl_context=near.ssl_context, told=endpoint
            )  # fmt: skip
        return Station(
            near.endpoint, found.service.name, found.service.node, found.allocation.job_id, version, owned=False, holds=holds,
            ssl_context=near.ssl_context, told=endpoint,
            prove=partial(prove, self._cluster, found.allocation, found.service.name),
        )  # fmt: skip

    async def _sit(self, endpoint: str, found: Finding | None) -> Seat | None:
        """Take a service for this movie alone; None where the cluster cannot be asked who has it."""
        seat = seat_of(found.allocation, found.service.name) if found else seat_elsewhere(self._address(endpoint))
        told, taken = "", 0
        while taken < _MOST_TAKEN:
            try:
                heard = (await self._cluster.drive_seats([seat], self._token, self._by)).get(seat)
                if heard is not None and 0 <= heard < LEASE_SECONDS:
                    self._log.info("An earlier try renders with %s; waiting until it has certainly stopped.", endpoint)
                    await asyncio.sleep(LEASE_SECONDS - heard)
                asked = time.monotonic()
                if (await self._cluster.confirm_seats([seat], self._token, self._by)).get(seat):
                    self._confirmed[seat] = asked
                    return seat
                taken += 1
            except Occupied as error:
                if error.by != told:
                    told = error.by
                    self._log.info("%s is rendered with by %s; waiting until that has stopped.", endpoint, told)
            except ConnectionLost as error:
                if self._settings.route != "direct":
                    raise
                self._log.warning(
                    "It cannot be told whether another movie renders with %s: %s", endpoint, reason_of(error)
                )
                return None
            await asyncio.sleep(_TURN_SECONDS)
        raise Superseded(f"Another try of this movie has taken {endpoint} over; this one stops.", retry=False)

    def _address(self, endpoint: str) -> str:
        """The same for all names of one address, as far as this machine can tell."""
        host, port = parse_endpoint(endpoint)
        if self._settings.route != "direct":
            return f"{self._cluster.node_at(host).lower()}:{port}"
        with contextlib.suppress(OSError):
            host = socket.gethostbyname(host)
        own = socket.gethostname() if host.startswith("127.") else ""  # each machine's loopback is its own
        return f"{own}/{host.lower()}:{port}"

    # ---- the seats ---------------------------------------------------------------------------------------------
    def _holds(self, seat: Seat | None) -> bool:
        return seat is None or time.monotonic() - self._confirmed.get(seat, 0.0) < LEASE_SECONDS

    async def _keep_seats(self) -> None:
        lost = ""
        while True:
            await asyncio.sleep(_CONFIRM_SECONDS)
            seats, asked = list(self._confirmed), time.monotonic()
            if not seats:
                continue
            try:
                ours = await self._cluster.confirm_seats(seats, self._token, self._by)
                if gone := [
                    seat for seat in seats if seat not in ours
                ]:  # their folder has; an allocation that has ended stays so
                    ours |= dict.fromkeys(await self._cluster.drive_seats(gone, self._token, self._by), True)
                lost = ""
            except BraynsError as error:
                if str(error) != lost:
                    lost = str(error)
                    self._log.info("It cannot be told that the endpoints are in use; no frames are asked for meanwhile: %s", lost)  # fmt: skip
                continue
            for seat, still in ours.items():
                if not still:
                    self._queue.put_nowait(
                        Superseded("Another try of this movie renders with these endpoints now; this one stops.", retry=False)
                    )  # fmt: skip
                    return
                self._confirmed[seat] = asked
