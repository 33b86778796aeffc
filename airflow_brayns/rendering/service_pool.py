"""The services of a booking, as a source of services: each comes when it is usable, is started anew where it dies, and
is never shared with another holder. Where an allocation's time is over, another one follows on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, JobState, ServiceStatus
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.failing import Failure
from airflow_brayns.cluster.finding import Fate
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.cluster.render_lease import RenderLease, lease_of
from airflow_brayns.errors import BraynsError, ServiceFailed, Superseded, known
from airflow_brayns.movie.interfaces import Liveness, Proof, RenderService, place_of
from airflow_brayns.movie.ledger import Ledger
from airflow_brayns.rendering.lease import Leases
from airflow_brayns.services.booking import Booking, Service, book_on
from airflow_brayns.services.in_use import what_became
from airflow_brayns.services.session import Session
from airflow_brayns.services.stream import Failed, Looked, Lost, Proved, usable
from airflow_brayns.services.tasks import beside
from airflow_brayns.services.tunnel import near_endpoint

# The keeper is told 60 s before the end (`--signal=B:TERM@60`) and stops the services; Slurm may tell it up to 60 s earlier
# (sbatch's manual; seen: 25 s on 22.05).
_SLURM_WARNING = 120.0
_LOCAL_WARNING = 2.0
_NEXT_LOOK_SECONDS = 3.0  # time beyond the poll interval after which the next look has been answered
_PROVE_SECONDS = 30.0
_LIVENESS = {
    Fate.OURS: Liveness.OURS,
    Fate.ENDED: Liveness.ENDED,
    Fate.STRANGE: Liveness.ENDED,
    Fate.UNPROVEN: Liveness.UNPROVEN,
    Fate.UNKNOWN: Liveness.UNKNOWN,
}


@dataclass(eq=False)
class _Part:
    """An allocation of the booking.

    :param alive: names of services that may still render; None while the job waits.
    :param seen: names of services that were told of.
    :param found_dead: names of services that had ended before this try began, each the last one of its node.
    :param over: set when nothing further comes from the allocation, and the reason has been told.
    """

    allocation: Allocation
    alive: set[str] | None = None
    seen: set[str] = field(default_factory=set)
    found_dead: set[str] = field(default_factory=set)
    status: AllocationStatus | None = None
    ends_at: float | None = None
    followed: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def lease(self) -> RenderLease:
        """The lease that whoever renders with the allocation holds."""
        return lease_of(self.allocation)


async def prove(cluster: Cluster, allocation: Allocation, service: str) -> Proof:
    """Ask the cluster what has become of a service, for `RenderService.prove`."""
    try:
        async with asyncio.timeout(_PROVE_SECONDS):
            found = await what_became(cluster, allocation, service)
    except (BraynsError, TimeoutError) as error:
        return Proof(Liveness.UNKNOWN, str(error) or f"the cluster did not answer within {_PROVE_SECONDS:.0f} s")
    if found is None:
        return Proof(
            Liveness.ENDED, f"{service} of job {allocation.job_id} is not in the cluster's state_dir any more."
        )
    return Proof(_LIVENESS[found.fate], found.text(), found.idle)


class ServicePool:
    """A `ServiceSource` of a booking's services; an asynchronous context manager.

    :param booking: the booking whose services render.
    :param plugins: names of the plugins that each service must have loaded.
    :param token: the token of this holder of the leases; each process has another one.
    :param owner: the task that owns the allocations, and their follow-ups; another movie waits until this one has stopped.
    :param renew_before: seconds before an allocation's end at which the follow-up is queued; None for no follow-ups.
    :param ledger: the ledger in which it is noted which nodes are held; None for one that nobody reads.
    """

    def __init__(
        self,
        session: Session,
        booking: Booking,
        plugins: tuple[str, ...],
        *,
        token: str,
        owner: Owner,
        renew_before: float | None,
        ledger: Ledger | None = None,
    ) -> None:
        self._session, self._plugins = session, plugins
        self._cluster, self._settings, self._log = session.cluster, session.settings, session.log
        self._token, self._owner, self._renew_before = token, owner, renew_before
        self._leases = Leases(session, "these services", token=token, by=owner.movie)
        self._booking, self._ledger = booking, ledger or Ledger()
        self._parts = [_Part(allocation) for allocation in booking.allocations]
        self._queue: asyncio.Queue[RenderService | BraynsError] = asyncio.Queue()
        self._stack, self._tunnels = AsyncExitStack(), AsyncExitStack()
        self._left: float | None = None
        self._restarts = 0
        self._last: BraynsError | None = None
        self._places: dict[str, tuple[_Part, str]] = {}

    async def __aenter__(self) -> ServicePool:
        await self._leases.take([part.lease for part in self._parts])
        self._stack.push_async_callback(self._leases.leave)
        await self._stack.enter_async_context(self._tunnels)
        self._tasks = await self._stack.enter_async_context(beside())
        self._start(self._keep_leases())
        for part in self._parts:
            self._start(self._follow(part))
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some work beside the rendering; its error is given to whoever waits for services."""

        async def told() -> None:
            try:
                await work
            except Exception as error:
                self._queue.put_nowait(known(error))

        self._tasks.create_task(told())

    def nodes(self) -> list[tuple[Allocation, str]]:
        """The nodes of the allocations that run, the newest allocation's first, and among them those first on which a
        service lives.
        """
        found = []
        for part in reversed(self._parts):
            if part.status is None or part.status.state is not JobState.RUNNING or part.over.is_set():
                continue
            living = {service.node for service in part.status.services if service.exit_code is None}
            found += [(part.allocation, node) for node in sorted(part.status.nodes, key=lambda one: one not in living)]
        return found

    # ---- the source --------------------------------------------------------------------------------------------
    async def services(self) -> AsyncIterator[RenderService]:
        """See `ServiceSource.services`."""
        while True:
            found = await self._queue.get()
            if isinstance(found, RenderService):
                yield found
            elif isinstance(found, Superseded):
                raise found
            else:
                self._last = found
                if self._is_over():
                    raise found

    async def set_aside(self, service: RenderService, why: str, *, again: bool, hung: bool = False) -> bool:
        """See `ServiceSource.set_aside`."""
        part, name = self._places[service.endpoint]
        comes = False
        if hung:
            with contextlib.suppress(BraynsError):  # it is for later requests
                await self._cluster.note(part.allocation, [Failure(name, "run", "it hung while it rendered")])
        if again and part.status is not None and part.status.state is JobState.RUNNING:
            comes = await self._start_anew(part, name)
        if part.alive is not None:
            part.alive.discard(name)
        if self._is_over() and not await self._lost(part):
            self._queue.put_nowait(
                self._last
                or ServiceFailed(
                    f"{service} was the last one: {why}",
                    remedy="Clear the task, where it has no retries left: it goes on from the frames that are there.",
                )
            )
        return comes

    async def _lost(self, part: _Part) -> bool:
        """Tell whether the allocation itself has ended. The next look is awaited, since a broken connection is noticed
        before that tells why it broke: preempted, cancelled, out of time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._session.poller.interval + _NEXT_LOOK_SECONDS):
                await part.over.wait()
        return part.over.is_set()

    def outlook(self, seconds: float | None) -> None:
        """See `ServiceSource.outlook`."""
        self._left = seconds

    def _is_over(self) -> bool:
        """Tell whether no further service can come."""
        return all(part.alive is not None and not part.alive for part in self._parts)

    # ---- services ----------------------------------------------------------------------------------------------
    async def _follow(self, part: _Part) -> None:
        """Follow an allocation to its end, and offer each of its services as it becomes usable."""
        async with usable(self._session, Booking(self._booking.name, (part.allocation,)), self._plugins) as events:
            async for event in events:
                match event:
                    case Looked(status=status):
                        await self._look(part, status)
                    case Proved(service=service) if service.name not in part.seen:
                        part.seen.add(service.name)
                        self._start(self._offer(part, service))
                    case Failed(service=service, error=error) if service.name not in part.seen:
                        await self._fail(part, service, error)
                    case Lost(error=error):  # services that render go on, but no further one comes from this allocation
                        part.alive = set()
                        for node in part.status.nodes if part.status else ():
                            self._ledger.gone(place_of(part.allocation.job_id, node))
                        self._log.warning("%s", error)
                        self._queue.put_nowait(error)
                        part.over.set()
                        return

    def _account(self, part: _Part, status: AllocationStatus) -> None:
        """Note which nodes an allocation holds, and that it holds them no more."""
        for node in status.nodes:
            place = place_of(part.allocation.job_id, node)
            if status.state is JobState.RUNNING:
                self._ledger.held(place)
            elif status.state in (JobState.ENDING, JobState.ENDED):
                self._ledger.gone(place)

    async def _look(self, part: _Part, status: AllocationStatus) -> None:
        self._account(part, status)
        part.status = status
        if status.job is not None and status.job.seconds_left is not None and status.state is JobState.RUNNING:
            warning = _SLURM_WARNING if self._cluster.scheduler == "slurm" else _LOCAL_WARNING
            part.ends_at = time.time() + status.job.seconds_left - warning
        if not status.nodes or not status.services:
            return
        if part.alive is None:
            part.alive = {service.name for service in status.services}
            await self._fill_empty_nodes(part, status)
        part.alive |= {service.name for service in status.services} - part.seen

    async def _fill_empty_nodes(self, part: _Part, status: AllocationStatus) -> None:
        """Start those services anew that died before this try began; for a node on which none can start, the reason is
        told (`_fail`).
        """
        assert part.alive is not None
        dead = [service for service in status.services if service.exit_code is not None]
        # of several dead services of a node, the last one tells of it
        last = {service.node: service for service in dead}
        for service in status.services:
            if service.exit_code is None:
                last.pop(service.node, None)
        for service in dead:
            if last.get(service.node) is not service:
                part.seen.add(service.name)
            elif service.stopped:
                part.seen.add(service.name)
                await self._start_anew(part, service.name)
            else:
                part.found_dead.add(service.name)
        part.alive -= part.seen

    async def _fail(self, part: _Part, service: Service | ServiceStatus, error: BraynsError) -> None:
        """Take note of a service that will not become usable; one that was found dead is started anew where that can
        help.
        """
        part.seen.add(service.name)
        self._ledger.breaks(place_of(part.allocation.job_id, service.node))
        mends = service.name in part.found_dead and error.retry
        if not (mends and await self._start_anew(part, service.name)):
            self._log.warning("%s on %s will not render: %s", service.name, service.node, error)
            self._queue.put_nowait(error)
        if part.alive is not None:
            part.alive.discard(service.name)

    async def _offer(self, part: _Part, service: Service) -> None:
        try:
            near = await self._tunnels.enter_async_context(
                near_endpoint(self._cluster, self._settings.route, service.endpoint)
            )
        except BraynsError as error:
            await self._fail(part, service, error)
            return
        self._places[str(near)] = (part, service.name)
        self._queue.put_nowait(
            RenderService(
                str(near), service.name, service.node, service.job_id, service.usable.version,
                ends_at=lambda: part.ends_at, holds=partial(self._leases.hold, part.lease), ssl_context=near.ssl_context,
                told=str(service.endpoint),
                prove=partial(prove, self._cluster, part.allocation, service.name),
            )
        )  # fmt: skip

    async def _start_anew(self, part: _Part, name: str) -> bool:
        """End a service for certain, and start another on its node with the same command, which another task may have
        chosen. Tell whether that could be asked for.
        """
        self._restarts += 1
        new = f"{name.partition('-')[0]}-{self._restarts}{self._token[-4:].lower()}"
        try:
            with contextlib.suppress(BraynsError):  # a lost wrapper cannot say that its service has ended
                await self._cluster.stop_service(part.allocation, name)
            command = await self._cluster.command_of(part.allocation, name)
            await self._cluster.add_service(part.allocation, replace(command, name=new))
        except BraynsError as error:
            self._last = error
            self._log.warning("%s cannot be started anew: %s", name, error)
            return False
        assert part.alive is not None
        part.alive.add(new)
        return True

    # ---- the follow-up -----------------------------------------------------------------------------------------
    async def _keep_leases(self) -> None:
        """Confirm the leases of the allocations that still render, or wait to, and queue follow-ups when they are due."""
        async for _ in self._leases.kept(
            lambda: [part.lease for part in self._parts if part.alive is None or part.alive]
        ):
            await self._follow_on()

    async def _follow_on(self) -> None:
        """Queue the next allocation in time, where the time of the present one will not do."""
        if self._renew_before is None:
            return
        for part in list(self._parts):
            left = None if part.ends_at is None else part.ends_at - time.time()
            if part.followed or left is None or left > self._renew_before or not part.alive:
                continue
            if self._left is not None and self._left < left:
                continue
            part.followed = True
            try:
                command = await self._cluster.command_of(part.allocation, min(part.alive))
                allocation = await book_on(
                    self._cluster, self._settings, part.allocation, self._owner,
                    nodes=len(part.status.nodes) if part.status else 1, command=command,
                )  # fmt: skip
                await self._leases.take_free(lease_of(allocation))
            except BraynsError as error:
                part.followed = False
                self._log.warning("The follow-up of job %s could not be queued: %s", part.allocation.job_id, error)
                continue
            self._log.info(
                "Job %s ends in %d s and the movie is not done: job %s is queued to follow on.",
                part.allocation.job_id, left, allocation.job_id,
            )  # fmt: skip
            following = _Part(allocation)
            self._parts.append(following)
            self._start(self._follow(following))
