"""The services of a booking as rendering uses them: each as it becomes usable, started anew where one dies, followed on
where an allocation's time is over, and never shared with another driver.

A driver holds a lease on each allocation: a file on the cluster that only it confirms. One that could not confirm for
`LEASE_SECONDS` stops asking for frames and throws away what still comes; one that takes over waits that long since the
one before was last heard of. So two drivers - a worker that was thought dead and its retry, a trigger that moved - never
use a service at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from airflow_brayns.booking import Booking, Service, book_on, service_command, way_to
from airflow_brayns.brayns.readiness import parse_endpoint
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, JobState
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.driving import Occupied
from airflow_brayns.cluster.finding import Fate
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.errors import BraynsError, ServiceFailed
from airflow_brayns.follow import Follower
from airflow_brayns.in_use import what_became
from airflow_brayns.movie.store import Superseded
from airflow_brayns.movie.supply import Proof, Standing, Station
from airflow_brayns.settings import ClusterSettings

LEASE_SECONDS = 20.0
_CONFIRM_SECONDS = 5.0
_TURN_SECONDS = 3.0  # between two looks whether another movie has stopped
_MOST_TAKEN = 2  # how often the services may be taken from one that has just taken them over
# The keeper is told 60 s before the end (`--signal=B:TERM@60`) and stops the services; Slurm may tell it up to 60 s earlier
# (sbatch's manual; seen: 25 s on 22.05).
_SLURM_WARNING = 120.0
_LOCAL_WARNING = 2.0
_NEXT_LOOK_SECONDS = 3.0  # beyond the poll interval
_PROVE_SECONDS = 30.0
_STANDINGS = {
    Fate.OURS: Standing.OURS,
    Fate.ENDED: Standing.ENDED,
    Fate.STRANGE: Standing.ENDED,
    Fate.UNPROVEN: Standing.UNPROVEN,
    Fate.UNKNOWN: Standing.UNKNOWN,
}


@dataclass(eq=False)
class _Part:
    """One allocation of the booking.

    :param alive: services that may still render; None while the job waits.
    :param seen: services that were told of.
    :param confirmed: when the lease was last known to be ours.
    :param over: set when nothing further comes from it, and why has been told.
    """

    allocation: Allocation
    alive: set[str] | None = None
    seen: set[str] = field(default_factory=set)
    status: AllocationStatus | None = None
    running_since: datetime | None = None
    ends_at: float | None = None
    confirmed: float = 0.0
    followed: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


async def prove(cluster: Cluster, allocation: Allocation, service: str) -> Proof:
    """Ask what has become of a service, for `Station.prove`."""
    try:
        async with asyncio.timeout(_PROVE_SECONDS):
            found = await what_became(cluster, allocation, service)
    except (BraynsError, TimeoutError) as error:
        return Proof(Standing.UNKNOWN, str(error) or f"the cluster did not answer within {_PROVE_SECONDS:.0f} s")
    if found is None:
        return Proof(
            Standing.ENDED, f"{service} of job {allocation.job_id} is not in the cluster's state_dir any more."
        )
    return Proof(_STANDINGS[found.fate], found.text())


class Crew:
    """A `Supply` from a booking; an asynchronous context manager.

    :param booking: what is rendered with.
    :param plugins: that each service must have loaded.
    :param token: of this driver; another one for each process that drives.
    :param owner: token of the task that owns the allocations; for follow-ups.
    :param about: what follow-ups are for.
    :param renew_before: seconds before an allocation's end at which the follow-up is queued; None for no follow-ups.
    :param log: a task's log.
    :param by: which movie is rendered; another one waits until this one has stopped.
    """

    def __init__(
        self,
        poller: Poller,
        settings: ClusterSettings,
        booking: Booking,
        plugins: tuple[str, ...],
        *,
        token: str,
        owner: str,
        about: str,
        renew_before: float | None,
        log: Any,
        by: str = "",
    ) -> None:
        self._by = by
        self._poller, self._settings, self._plugins, self._log = poller, settings, plugins, log
        self._token, self._owner, self._about, self._renew_before = token, owner, about, renew_before
        self._booking = booking
        self._parts = [_Part(allocation) for allocation in booking.allocations]
        self._queue: asyncio.Queue[Station | BraynsError] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()
        self._left: float | None = None
        self._restarts = 0
        self._last: BraynsError | None = None
        self._places: dict[str, tuple[_Part, str, int]] = {}

    async def __aenter__(self) -> Crew:
        await self._stack.__aenter__()
        try:
            await self._take_over()
        except BaseException:
            await self._stack.aclose()
            raise
        self._start(self._keep_lease())
        for part in self._parts:
            self._start(self._follow(part))
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        with contextlib.suppress(BraynsError, TimeoutError):
            async with asyncio.timeout(3):
                await self._poller.cluster.let_go([part.allocation for part in self._parts], self._token)

    def _start(self, main: Any) -> None:
        task = asyncio.create_task(main)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._queue.put_nowait(error if isinstance(error, BraynsError) else BraynsError(repr(error)))

    def allocations(self) -> list[Allocation]:
        """Those that run, the newest first."""
        running = [part for part in self._parts if part.status is not None and part.status.state is JobState.RUNNING]
        return [part.allocation for part in reversed(running) if part.alive]

    # ---- the supply --------------------------------------------------------------------------------------------
    async def stations(self) -> AsyncIterator[Station]:
        """See `Supply.stations`."""
        while True:
            found = await self._queue.get()
            if isinstance(found, Station):
                yield found
            elif isinstance(found, Superseded):
                raise found
            else:
                self._last = found
                if self._is_over():
                    raise found

    async def set_aside(self, station: Station, why: str, *, again: bool) -> bool:
        """See `Supply.set_aside`."""
        part, name, index = self._places[station.endpoint]
        comes = False
        if again and part.status is not None and part.status.state is JobState.RUNNING:
            comes = await self._start_anew(part, name, index)
        if part.alive is not None:
            part.alive.discard(name)
        if self._is_over() and not await self._lost(part):
            self._queue.put_nowait(self._last or ServiceFailed(f"{station} was the last one: {why}"))
        return comes

    async def _lost(self, part: _Part) -> bool:
        """Whether the allocation itself has ended. A broken connection is noticed before the next look tells why it broke:
        preempted, cancelled, out of time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poller.interval + _NEXT_LOOK_SECONDS):
                await part.over.wait()
        return part.over.is_set()

    def outlook(self, seconds: float | None) -> None:
        """See `Supply.outlook`."""
        self._left = seconds

    def _is_over(self) -> bool:
        """Whether no further service can come."""
        return all(part.alive is not None and not part.alive for part in self._parts)

    # ---- the lease ---------------------------------------------------------------------------------------------
    async def _take_over(self) -> None:
        allocations = [part.allocation for part in self._parts]
        told, taken = "", 0
        while taken < _MOST_TAKEN:
            try:
                heard = await self._poller.cluster.drive(allocations, self._token, self._by)
            except Occupied as error:
                if error.by != told:
                    told = error.by
                    self._log.info(
                        "%s renders with these services; waiting until it has stopped.", told or "Another movie"
                    )
                await asyncio.sleep(_TURN_SECONDS)
                continue
            ages = [seconds for seconds in heard.values() if seconds >= 0]
            if ages and (wait := LEASE_SECONDS - min(ages)) > 0:
                self._log.info(
                    "Another driver was heard of %d s ago; waiting %d s until it has certainly stopped.",
                    min(ages),
                    wait,
                )
                await asyncio.sleep(wait)
            if await self._confirm():
                return
            taken += 1
        # Of two tries that wait for each other the one that came later goes on: taking the services back in turn, neither would.
        raise Superseded("Another try of this movie has taken its services over; this one stops.", retry=False)

    async def _keep_lease(self) -> None:
        lost = ""
        while True:
            await asyncio.sleep(_CONFIRM_SECONDS)
            try:
                await self._confirm()
                lost = ""
            except Superseded:
                raise
            except BraynsError as error:
                if str(error) != lost:
                    lost = str(error)
                    self._log.info("The lease could not be confirmed; no frames are asked for meanwhile: %s", error)
            await self._follow_on()

    async def _confirm(self) -> bool:
        """Say that the services are in use. Whether all that are there are still ours.

        :raises Superseded: some are not any more.
        """
        asked = time.monotonic()
        parts = [part for part in self._parts if part.alive is None or part.alive]
        ours = await self._poller.cluster.confirm([part.allocation for part in parts], self._token, self._by)
        for part in parts:
            if ours.get(part.allocation.key):
                part.confirmed = asked
            elif part.allocation.key in ours and part.confirmed:
                raise Superseded(
                    f"Job {part.allocation.job_id}: another try of this movie renders with its services now; this one stops.",
                    retry=False,
                )
        return all(ours.values())

    def _holds(self, part: _Part) -> bool:
        return time.monotonic() - part.confirmed < LEASE_SECONDS

    # ---- services ----------------------------------------------------------------------------------------------
    async def _follow(self, part: _Part) -> None:
        """Each service of an allocation as it becomes usable."""
        follower = Follower(
            self._poller, Booking(self._booking.name, (part.allocation,)), self._settings, self._plugins, self._log
        )
        proving: dict[str, asyncio.Task[Service]] = {}
        try:
            async for status in follower.statuses(part.allocation, want=1):
                await self._look(part, follower, status, proving)
        except (
            BraynsError
        ) as error:  # lost, or out of reach: what is rendering goes on, nothing further comes from here
            part.alive = set()
            self._log.warning("%s", error)
            self._queue.put_nowait(error)
            part.over.set()
        finally:
            for task in proving.values():
                task.cancel()

    async def _look(
        self, part: _Part, follower: Follower, status: AllocationStatus, proving: dict[str, asyncio.Task[Service]]
    ) -> None:
        part.status = status
        if status.job is not None and status.job.seconds_left is not None and status.state is JobState.RUNNING:
            warning = _SLURM_WARNING if self._poller.cluster.scheduler == "slurm" else _LOCAL_WARNING
            part.ends_at = time.time() + status.job.seconds_left - warning
        if not status.nodes or not status.services:
            return
        if part.alive is None:
            part.alive, part.running_since = {service.name for service in status.services}, datetime.now(UTC)
            await self._fill_empty_nodes(part, follower, status)
        for service in status.services:
            if service.name in part.seen:
                continue
            part.alive.add(service.name)
            try:
                follower.check(status, service)
                follower.check_start(status, part.running_since, service, proven=False)
            except BraynsError as error:
                part.seen.add(service.name)
                part.alive.discard(service.name)
                if probe := proving.pop(service.name, None):
                    probe.cancel()
                self._log.warning("%s on %s will not render: %s", service.name, service.node, error)
                self._queue.put_nowait(error)
                continue
            if service.port and service.name not in proving:
                proving[service.name] = asyncio.create_task(follower.prove(status, service))
                proving[service.name].add_done_callback(partial(self._proved, part, status, service.name, service.node))

    async def _fill_empty_nodes(self, part: _Part, follower: Follower, status: AllocationStatus) -> None:
        """What died before this try began is started anew; a node on which it cannot start tells why."""
        assert part.alive is not None
        living = {service.node for service in status.services if service.exit_code is None}
        for index, node in enumerate(status.nodes, 1):
            dead = [service for service in status.services if service.node == node and service.exit_code is not None]
            if node in living or not dead:
                continue
            try:
                follower.check(status, dead[-1])
            except BraynsError as error:
                if not error.retry:
                    continue
            await self._start_anew(part, dead[-1].name, index)
            part.seen.update(service.name for service in dead)
        for service in status.services:
            if service.exit_code is not None and (service.node in living or service.exit_text == "stopped"):
                part.seen.add(service.name)
        part.alive -= part.seen

    def _proved(self, part: _Part, status: AllocationStatus, name: str, node: str, task: asyncio.Task[Service]) -> None:
        if task.cancelled():
            return
        part.seen.add(name)
        error = task.exception()
        if error is not None:
            assert part.alive is not None
            part.alive.discard(name)
            self._queue.put_nowait(error if isinstance(error, BraynsError) else BraynsError(repr(error)))
            return
        self._start(self._offer(part, task.result(), status.nodes.index(node) + 1 if node in status.nodes else 1))

    async def _offer(self, part: _Part, service: Service, index: int) -> None:
        host, port = parse_endpoint(service.endpoint)
        near, near_port = await self._stack.enter_async_context(
            way_to(self._poller.cluster, self._settings.route, host, port)
        )
        endpoint = f"[{near}]:{near_port}" if ":" in near else f"{near}:{near_port}"
        self._places[endpoint] = (part, service.name, index)
        self._queue.put_nowait(
            Station(
                endpoint, service.name, service.node, service.job_id, service.usable.version,
                ends_at=lambda: part.ends_at, holds=partial(self._holds, part), ssl_context=service.ssl_context,
                told=service.endpoint,
                prove=partial(prove, self._poller.cluster, part.allocation, service.name),
            )
        )  # fmt: skip

    async def _start_anew(self, part: _Part, name: str, index: int) -> bool:
        """End a service for certain, start another on its node. Whether that could be asked for."""
        self._restarts += 1
        new = f"{name.partition('-')[0]}-{self._restarts}{self._token[-4:].lower()}"
        try:
            with contextlib.suppress(BraynsError):  # a wrapper that is lost cannot say that its service has ended
                await self._poller.cluster.stop_service(part.allocation, name)
            await self._poller.cluster.add_service(
                part.allocation, service_command(self._settings, self._plugins, new, index)
            )
        except BraynsError as error:
            self._last = error
            self._log.warning("%s cannot be started anew: %s", name, error)
            return False
        assert part.alive is not None
        part.alive.add(new)
        part.running_since = datetime.now(UTC)
        return True

    # ---- the follow-up -----------------------------------------------------------------------------------------
    async def _follow_on(self) -> None:
        """Queue the next allocation in time, where this one's time will not do."""
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
                allocation = await book_on(
                    self._poller.cluster, self._settings, part.allocation, self._owner,
                    nodes=len(part.status.nodes) if part.status else 1, plugins=self._plugins, about=self._about,
                )  # fmt: skip
                await self._poller.cluster.drive([allocation], self._token, self._by)
            except BraynsError as error:
                part.followed = False
                self._log.warning("The follow-up of job %s could not be queued: %s", part.allocation.job_id, error)
                continue
            self._log.info(
                "Job %s ends in %d s and the movie is not done: job %s is queued to follow on.",
                part.allocation.job_id, left, allocation.job_id,
            )  # fmt: skip
            following = _Part(allocation, confirmed=time.monotonic())
            self._parts.append(following)
            self._start(self._follow(following))
