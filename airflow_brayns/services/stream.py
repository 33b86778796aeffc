"""The stream of usable services: here, and nowhere else, started services are looked at, checked, and proved by asking
them.

Who waits for a booking (`services.waiting`) and who renders with it (`rendering.service_pool`) read the same events:

    look at an allocation ──▶ Looked ──▶ each service that listens is asked ──▶ Proved
                          └─▶ Lost                └─ it has ended, or takes too long ──▶ Failed
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import NotYet, Usable, probe
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, ServiceStatus
from airflow_brayns.cluster.failing import Failure
from airflow_brayns.cluster.slices import in_slices
from airflow_brayns.errors import BraynsError, ConnectionLost, NotReadyInTime, ServiceFailed, known, reason_of
from airflow_brayns.services.booking import Booking, Service, awaited
from airflow_brayns.services.probes import probe_until
from airflow_brayns.services.session import Session
from airflow_brayns.services.tasks import beside, within
from airflow_brayns.services.tunnel import near_endpoint
from airflow_brayns.services.watch import AllocationWatch

_TELL_SECONDS = 30.0
_NOTE_SECONDS = 10.0  # that a failure may be told later, for its note
_LATELY_SECONDS = 15.0  # a service that is late, and of which no probe has ended within them, is asked once more
_MORE_SECONDS = 4.0  # for which it is asked then
_ONCE_MORE_SECONDS = 15.0  # the same with the wait for a place: so much later than `start_timeout` it fails at most


@dataclass(frozen=True)
class Looked:
    """The event that a look at an allocation was answered; what the look means for each service follows."""

    allocation: Allocation
    status: AllocationStatus


@dataclass(frozen=True)
class Proved:
    """The event that a service is usable."""

    allocation: Allocation
    service: Service


@dataclass(frozen=True)
class Failed:
    """The event that a service will not become usable, or has ended since; nothing further is told of that service."""

    allocation: Allocation
    service: ServiceStatus
    error: BraynsError


@dataclass(frozen=True)
class Lost:
    """The event that an allocation has ended, or cannot be waited for; nothing further is told of that allocation."""

    allocation: Allocation
    error: BraynsError


Event = Looked | Proved | Failed | Lost


class ServiceStream:
    """An asynchronous iterator of events, in the order in which they happened; it does not end by itself."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.tell: Callable[[Event], None] = self._events.put_nowait

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await self._events.get()

    @property
    def is_read(self) -> bool:
        """Whether every event that has happened was read."""
        return self._events.empty()


@asynccontextmanager
async def usable(
    session: Session,
    booking: Booking,
    plugins: Sequence[str] = (),
    *,
    names: Sequence[str] | None = None,
    want: int = 1,
    since: datetime | None = None,
) -> AsyncIterator[ServiceStream]:
    """Follow the services of a booking for as long as the block runs, and yield the stream of their events.

    :param plugins: names of the plugins that each service must have loaded.
    :param names: names of the services to follow; None for every one of each allocation.
    :param want: how many services must listen before their listening makes news.
    :param since: when the wait began, which `queue_timeout` is counted from; None for now.
    """
    stream = ServiceStream()
    async with beside() as group:
        for allocation in booking.allocations:
            watch = AllocationWatch(session, allocation, plugins, since)
            group.create_task(_Following(session, watch, names, stream.tell).run(want))
        yield stream


class _Following:
    """The part of a stream that tells of one allocation."""

    def __init__(
        self,
        session: Session,
        watch: AllocationWatch,
        names: Sequence[str] | None,
        tell: Callable[[Event], None],
    ) -> None:
        self._session, self._watch, self._names, self._tell = session, watch, names, tell
        self._proofs: dict[str, asyncio.Task[None]] = {}
        self._began: dict[str, datetime] = {}
        self._proved, self._failed, self._asked_once_more = set[str](), set[str](), set[str]()
        self._told_at: datetime | None = None

    async def run(self, want: int) -> None:
        """Follow the allocation to its end."""
        try:
            async with beside() as group, aclosing(self._watch.statuses(want)) as looks:
                async for status in looks:
                    self._tell(Looked(self._watch.allocation, status))
                    failed = []
                    async for service in in_slices(awaited(status.services, self._names)):
                        if service.name not in self._failed:
                            failed += self._look(status, service, group)
                    await self._fail(failed)
                    self._tell_how_far()
        except BraynsError as error:
            self._tell(Lost(self._watch.allocation, error))

    def _look(
        self, status: AllocationStatus, service: ServiceStatus, group: asyncio.TaskGroup
    ) -> list[tuple[ServiceStatus, BraynsError]]:
        """Judge what a look tells of a service: what it fails by, if it does."""
        try:
            self._watch.check(service)
            self._check_stopped(status, service)
            self._check_start(status, service, group)
        except BraynsError as error:
            if proof := self._proofs.get(service.name):
                proof.cancel()
            self._failed.add(service.name)
            return [(service, error)]
        if service.port and service.exit_code is None and service.name not in self._proofs:
            self._session.log.info(
                "%s on %s listens on port %d; looking whether it is usable", service.name, service.node, service.port
            )
            self._proofs[service.name] = group.create_task(self._prove(status, service))
        return []

    async def _fail(self, failed: Sequence[tuple[ServiceStatus, BraynsError]]) -> None:
        """Tell of services that have failed. What may be their nodes' fault is noted first: whoever is told may end all this."""
        failures = [found for service, error in failed if (found := self._failure(service, error))]
        if failures:
            try:
                await within(_NOTE_SECONDS, self._session.cluster.note(self._watch.allocation, failures))
            except Exception as trouble:  # the note is for later requests, the failure for this one
                self._session.log.debug("What failed could not be noted of its node: %s", reason_of(trouble))
        for service, error in failed:
            self._tell(Failed(self._watch.allocation, service, error))

    def _failure(self, service: ServiceStatus, error: BraynsError) -> Failure | None:
        """What is noted of a failure's node; None where there is nothing: it has ended, which its keeper notes, was stopped, or no
        probe of it has ended, which says nothing of its node.
        """
        if service.exit_code is not None:
            return None
        limit, why = self._session.settings.start_timeout, self._watch.reasons.get(service.name, "")
        if isinstance(error, NotReadyInTime) and service.port is None:
            return Failure(service.name, "start", f"it did not listen within {limit:.0f} s")
        if isinstance(error, NotReadyInTime) and why:
            return Failure(service.name, "ready", f"it listened, and was not usable within {limit:.0f} s: {why}")
        if isinstance(error, ServiceFailed) and error.field == "plugins":
            return Failure(service.name, "start", error.why)
        return None

    async def _prove(self, status: AllocationStatus, service: ServiceStatus, seconds: float | None = None) -> None:
        try:
            found = await prove(self._session, self._watch, status, service, seconds)
        except Exception as error:
            self._failed.add(service.name)
            await self._fail([(service, known(error))])
            return
        if service.name in self._failed:
            return
        self._proved.add(service.name)
        self._tell(Proved(self._watch.allocation, found))

    def _check_stopped(self, status: AllocationStatus, service: ServiceStatus) -> None:
        """Raise an error for a service that was stopped alone: nobody starts it again, and its job goes on without it."""
        if self._watch.is_stopped_alone(status, service):
            raise ServiceFailed(
                f"{service.name} on {service.node} was stopped before it was usable, while job {status.job_id} goes on: by "
                "scancel of its step, or by a StopBraynsServiceOperator.",
                remedy="Clear the task that started it: that starts it anew.",
            )

    def _tell_how_far(self) -> None:
        """Log now and then what a start waits for: a service that loads for minutes logs nothing itself."""
        waiting = [name for name in self._began if name not in self._proved | self._failed]
        now = datetime.now(UTC)
        if not waiting or (now - (self._told_at or min(self._began.values()))).total_seconds() < _TELL_SECONDS:
            return
        self._told_at = now
        passed = (now - min(self._began[name] for name in waiting)).total_seconds()
        asked = [name for name in waiting if name in self._proofs]
        silent = [name for name in waiting if name not in self._proofs]
        texts = [f"{_some(silent)}: no port in its log yet"] if silent else []
        texts += [f"{_some(asked)}: listens, but is not usable yet"] if asked else []
        limit = self._session.settings.start_timeout
        self._session.log.info("%.0f of %.0f s (start_timeout). %s", passed, limit, "; ".join(texts))

    def _is_asked_once_more(self, status: AllocationStatus, service: ServiceStatus, group: asyncio.TaskGroup) -> bool:
        """Whether a service that is late is asked a last time. Its turn may not have come for long, behind others that do not
        answer, and that is neither its fault nor its node's.
        """
        name, now = service.name, asyncio.get_running_loop().time()
        if name in self._asked_once_more:
            return not self._proofs[name].done()
        if name not in self._proofs or now - self._watch.probed.get(name, -_LATELY_SECONDS) < _LATELY_SECONDS:
            return False
        self._proofs[name].cancel()
        self._asked_once_more.add(name)
        last = self._prove(status, service, _MORE_SECONDS)
        self._proofs[name] = group.create_task(within(_ONCE_MORE_SECONDS, last))
        return True

    def _check_start(self, status: AllocationStatus, service: ServiceStatus, group: asyncio.TaskGroup) -> None:
        """Raise an error for a service that was not usable within `start_timeout`."""
        if service.name in self._proved or not status.nodes:
            return
        limit, now = self._session.settings.start_timeout, datetime.now(UTC)
        if (now - self._began.setdefault(service.name, now)).total_seconds() >= limit:
            if self._is_asked_once_more(status, service, group):
                return
            reason = self._watch.reasons.get(service.name, "")
            why = f" ({reason})" if reason and service.port is not None else ""
            raise NotReadyInTime(
                f"{service.name} on {service.node} was not usable {limit:.0f} s after the job started{why}.\n{self._watch.last_lines(service)}",
                remedy="see in its last lines how far it came; raise start_timeout if it is only slow.",
                field="start_timeout",
            )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


async def prove(
    session: Session,
    watch: AllocationWatch,
    status: AllocationStatus,
    service: ServiceStatus,
    seconds: float | None = None,
) -> Service:
    """Ask a service that listens, until every rung of readiness holds.

    :param seconds: how long it is asked again, and once at least; None for `start_timeout`.
    :raises NotReadyInTime: the service was not usable within `start_timeout`.
    :raises ServiceFailed: the service never will be usable.
    :raises ConnectionLost: the service cannot be reached, and trying again would not help.
    """
    settings, log, where = session.settings, session.log, f"{service.name} on {service.node}"
    endpoint = endpoint_of(session, status, service)
    limit = settings.start_timeout if seconds is None else seconds

    async def attempt(patience: float) -> Usable:
        try:
            return await ask(session, endpoint, watch.plugins, patience)
        except (NotYet, ConnectionLost) as error:
            watch.probed[service.name] = asyncio.get_running_loop().time()
            if isinstance(error, NotYet) or not error.retry:
                raise  # a refused host key or login does not mend itself
            raise NotYet(str(error)) from None

    def tell(why: str) -> None:
        watch.reasons[service.name] = why
        log.info("%s is not usable yet: %s", where, why)

    try:
        found = await probe_until(session.poller, attempt, within=limit, tell=tell)
    except NotYet as reason:
        raise NotReadyInTime(
            f"{where} listens, but was not usable within {settings.start_timeout:.0f} s: {reason}",
            remedy="see that Airflow reaches the nodes (route, node_suffix); raise start_timeout if it is only slow.",
            field="start_timeout",
        ) from None
    watch.proved(service.name)
    log.info("%s is usable: braynsService %s at %s", service.name, found.version, endpoint)
    left = status.job.seconds_left if status.job else None
    ends = datetime.now(UTC) + timedelta(seconds=left) if left else None
    return Service(
        service.name, service.node, endpoint, status.job_id, found, watch.allocation.log_of(service.name),
        ends.isoformat(timespec="seconds") if ends else None, status.certificate,
    )  # fmt: skip


def endpoint_of(session: Session, status: AllocationStatus, service: ServiceStatus) -> Endpoint:
    """The endpoint of a service that listens, as Airflow, or the login node on its behalf, reaches it."""
    assert service.port is not None
    host = session.cluster.address(service.node)
    return Endpoint(host, service.port, session.settings.client_context(status.name, host, status.certificate))


async def ask(session: Session, endpoint: Endpoint, plugins: Sequence[str], seconds: float | None = None) -> Usable:
    """Probe a service once from here, through a tunnel if need be. Errors name the service's own port, since a tunnel's
    is another one each time.

    :param seconds: how long each rung may take, and half of what the way there may take to open, which may need a login; None
        for `RUNG_SECONDS`, and a way that takes as long as it takes.
    :raises NotYet: a rung of readiness is not reached yet.
    :raises ServiceFailed: a rung will never be reached.
    :raises ConnectionLost: the node cannot be reached.
    """
    async with AsyncExitStack() as stack:
        way = near_endpoint(session.cluster, session.settings.route, endpoint)
        near = await within(None if seconds is None else 2 * seconds, stack.enter_async_context(way))
        if near is None:
            raise NotYet(f"the way to {endpoint} (route '{session.settings.route}') was not open in time")
        return await probe(near, plugins, told=str(endpoint), seconds=seconds)
