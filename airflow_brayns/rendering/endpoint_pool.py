"""Endpoints that somebody gave, as a source of services: each comes when it is free and usable, and one movie at a time
renders with it.

A service of ours is found by where it listens, and its lease is in its allocation's folder, where whoever renders with
the whole allocation sees it too. Of any other service only its addresses are known: each address has a lease, a folder
of its own in the cluster's `state_dir`. So the lease holds among all who use that folder, by whichever name they know
the service, and among nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import NotYet, probe
from airflow_brayns.cluster.finding import Finding
from airflow_brayns.cluster.location import Host, spelled
from airflow_brayns.cluster.render_lease import RenderLease, lease_elsewhere, lease_of
from airflow_brayns.errors import BraynsError, ConnectionLost, ServiceFailed, Superseded, reason_of
from airflow_brayns.movie.interfaces import RenderService
from airflow_brayns.rendering.lease import Leases
from airflow_brayns.rendering.service_pool import prove
from airflow_brayns.services.endpoints import reachable
from airflow_brayns.services.in_use import InUse
from airflow_brayns.services.session import Session
from airflow_brayns.services.tasks import beside

_LOOK_PAUSES = (1.0, 3.0)  # seconds; what hangs takes its own time besides


class EndpointPool:
    """A `ServiceSource` of endpoints that nobody can start anew; an asynchronous context manager.

    :param endpoints: `host:port` of each; a service that is named twice, however it is spelled, counts once.
    :param token: the token of this holder of the leases; each process has another one.
    :param by: the movie that is rendered: its next try takes over, another movie waits for each service that this one
        has.
    :raises ServiceFailed: (`services`) none of the endpoints is usable.
    :raises Superseded: (`services`) another try of this movie renders with them now.
    """

    def __init__(
        self,
        session: Session,
        endpoints: Sequence[str],
        *,
        token: str,
        by: str,
    ) -> None:
        self._session, self._cluster = session, session.cluster
        self._settings, self._log = session.settings, session.log
        self._endpoints = list(dict.fromkeys(endpoints))
        self._leases = Leases(session, "these endpoints", token=token, by=by)
        self._wanted: set[RenderLease] = set()
        self._taken: set[RenderLease] = set()
        self._queue: asyncio.Queue[RenderService | BraynsError | None] = asyncio.Queue()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> EndpointPool:
        near = await self._stack.enter_async_context(reachable(self._session, self._endpoints))
        self._stack.push_async_callback(self._leases.leave)
        tasks = await self._stack.enter_async_context(beside())
        for told, one in zip(self._endpoints, near, strict=True):
            tasks.create_task(self._bring(told, one))
        tasks.create_task(self._keep_leases())
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    # ---- the source --------------------------------------------------------------------------------------------
    async def services(self) -> AsyncIterator[RenderService]:
        """See `ServiceSource.services`."""
        awaited, usable, failures = len(self._endpoints), 0, list[BraynsError]()
        while awaited:
            found = await self._queue.get()
            if isinstance(found, Superseded):
                raise found
            awaited -= 1
            if isinstance(found, RenderService):
                usable += 1
                yield found
            elif found is not None:
                failures.append(found)
        if not usable:
            raise ServiceFailed(
                f"none of {', '.join(self._endpoints)} is a usable braynsService.",
                remedy="see that a braynsService listens at each, and that its port is right.",
                field="endpoints",
                retry=any(one.retry for one in failures),
            )

    async def set_aside(self, service: RenderService, why: str, *, again: bool, hung: bool = False) -> bool:
        """See `ServiceSource.set_aside`; nobody starts the service anew."""
        return False

    def outlook(self, seconds: float | None) -> None:
        """See `ServiceSource.outlook`."""

    # ---- one endpoint ------------------------------------------------------------------------------------------
    async def _bring(self, endpoint: str, near: Endpoint) -> None:
        """Wait until no other movie renders with an endpoint, prove that it is usable, and offer it."""
        try:
            use = InUse(self._cluster, endpoint, self._log, direct=self._settings.route == "direct")
            await self._look(use)
            leases = await self._leases_of(endpoint, use.found)
            if not self._wanted.isdisjoint(leases):
                self._log.info("%s is the same service as another one of the list, and counts once.", endpoint)
                self._queue.put_nowait(None)
                return
            self._wanted |= set(leases)
            leases = await self._take(endpoint, leases)
            usable = await probe(near, told=endpoint)
        except (NotYet, BraynsError) as error:
            self._log.warning("%s will not render: %s", endpoint, reason_of(error))
            self._queue.put_nowait(error if isinstance(error, BraynsError) else ServiceFailed(str(error)))
            return
        self._queue.put_nowait(self._service(endpoint, near, leases, use.found, usable.version))
        if (
            use.found is None
        ):  # an endpoint of which the cluster could not be asked may be ours, and idle in its keeper's eyes
            await use.keep(lambda: False)

    async def _look(self, use: InUse) -> None:
        """Find out whose an endpoint is. Where the cluster does not answer it is asked again, for some seconds: a service of ours whose
        allocation is not known has another lease than for others, so that two movies would render with it at once, and
        nobody proves it.
        """
        await use.look()
        for pause in _LOOK_PAUSES:
            if use.is_told:
                return
            await asyncio.sleep(pause)
            await use.look()

    def _service(
        self, endpoint: str, near: Endpoint, leases: Sequence[RenderLease], found: Finding | None, version: str
    ) -> RenderService:
        holds = partial(self._leases.hold, *leases)
        if found is None:
            return RenderService(
                str(near), endpoint, Endpoint.parse(endpoint).host, version=version, owned=False, holds=holds, ssl_context=near.ssl_context, told=endpoint
            )  # fmt: skip
        return RenderService(
            str(near), found.service.name, found.service.node, found.allocation.job_id, version, owned=False, holds=holds,
            ssl_context=near.ssl_context, told=endpoint,
            prove=partial(prove, self._cluster, found.allocation, found.service.name),
        )  # fmt: skip

    async def _leases_of(self, endpoint: str, found: Finding | None) -> Sequence[RenderLease]:
        """The leases that are taken for an endpoint: all who name the same service have at least one of them in common."""
        if found is not None:
            return [lease_of(found.allocation, found.service.name)]
        where = Endpoint.parse(endpoint)
        meant = Host()
        try:
            meant, _ = await self._cluster.hosts(where.host, direct=self._settings.route == "direct")
        except ConnectionLost as error:
            self._log.info("The cluster does not tell what else %s is called: %s", endpoint, reason_of(error))
        return [lease_elsewhere(f"{one}:{where.port}") for one in sorted(meant.addresses) or [spelled(where.host)]]

    async def _take(self, endpoint: str, leases: Sequence[RenderLease]) -> Sequence[RenderLease]:
        """Take the leases of a service for this movie alone, and return those; none where the cluster cannot be asked
        who has them.
        """
        try:
            await self._leases.take(leases, endpoint)
        except ConnectionLost as error:
            if self._settings.route != "direct":
                raise
            self._log.warning("It cannot be told whether another movie renders with %s: %s", endpoint, reason_of(error))
            return ()
        self._taken |= set(leases)
        return leases

    async def _keep_leases(self) -> None:
        try:
            async for _ in self._leases.kept(lambda: self._taken):
                pass
        except Superseded as error:
            self._queue.put_nowait(error)
