"""Waits for bookings: until a booking has its nodes, or its services are usable; and the check that what was found is
still there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from airflow_brayns.brayns.readiness import NotYet
from airflow_brayns.cluster.allocation import AllocationStatus, ServiceStatus
from airflow_brayns.cluster.finding import Fate
from airflow_brayns.errors import BraynsError, NotReadyInTime, ServiceFailed
from airflow_brayns.services.booking import Booking, Service, awaited
from airflow_brayns.services.probes import probe_until
from airflow_brayns.services.session import Session
from airflow_brayns.services.stream import Event, Failed, Looked, Lost, Proved, ask, endpoint_of, usable
from airflow_brayns.services.tasks import together
from airflow_brayns.services.watch import AllocationWatch

_STILL_SECONDS = 10.0  # time in which a service that was usable must answer once more

# A service's place: its allocation (`Allocation.key`), and its name in it.
_Place = tuple[tuple[str, int], str]


class _Tally:
    """A count of the services of a booking's allocations: which there are, which have proved usable, and which have
    failed.

    :param min_ready: how many services must be usable; None for all.
    :param names: names of the services that count; None for all.
    """

    def __init__(self, booking: Booking, min_ready: int | None, names: Sequence[str] | None) -> None:
        self._booking, self._min_ready, self._names = booking, min_ready, names
        self._expected: dict[tuple[str, int], list[str]] = {}
        self._usable: dict[_Place, Service] = {}
        self._failed: dict[_Place, BraynsError] = {}

    def take(self, event: Event) -> None:
        """Count one event of the stream."""
        key = event.allocation.key
        match event:
            case Looked(status=status):
                self._expected[key] = self.wanted(status)
            case Proved(service=service):
                self._usable[key, service.name] = service
            case Failed(service=service, error=error):
                self._fail(key, service.name, error)
            case Lost(error=error):
                for name in self._expected.setdefault(key, [""]) or [""]:
                    self._fail(key, name, error)

    def _fail(self, key: tuple[str, int], name: str, error: BraynsError) -> None:
        self._usable.pop((key, name), None)
        self._failed[key, name] = error

    def wanted(self, status: AllocationStatus) -> list[str]:
        """The names of an allocation's services that count, in node order."""
        return [one.name for one in awaited(status.services, self._names)]

    def unlisted(self) -> set[str]:
        """The names of services that must be usable, and that no look has told of: a shared file system may show a new
        service late, and others must not be taken for all.
        """
        if self._min_ready or self._names is None:
            return set()
        return set(self._names).difference(*self._expected.values())

    def settled(self) -> bool:
        """Tell whether enough services are usable.

        :raises BraynsError: the first failure, once too few can still become usable.
        """
        total = sum(map(len, self._expected.values()))
        known = len(self._expected) == len(self._booking.allocations) and total > 0 and not self.unlisted()
        if self._names is not None and not self._min_ready:  # services of several jobs may have one name
            known = known and all(self._expected.values())
        want = min(self._min_ready or total, total)
        if self._failed and (not self._min_ready or (known and total - len(self._failed) < want)):
            raise next(iter(self._failed.values()))
        return known and len(self._usable) >= want

    def services(self) -> list[Service]:
        """The services that are usable, in node order."""
        places = [(one.key, name) for one in self._booking.allocations for name in self._expected[one.key]]
        return [self._usable[place] for place in places if place in self._usable]


class Waiting:
    """A wait for a booking, which tells the session's log what happens meanwhile.

    :param plugins: names of the plugins that each service must have loaded.
    :param since: when the wait began, so that a wait that moves to another process keeps its time-outs; None for now.
    :param tell: what is told of each look, for people who watch the wait; it must raise no error.
    """

    def __init__(
        self,
        session: Session,
        booking: Booking,
        plugins: Sequence[str] = (),
        *,
        since: datetime | None = None,
        tell: Callable[[AllocationStatus], None] = lambda status: None,
    ) -> None:
        self._session, self._booking, self._plugins = session, booking, tuple(plugins)
        self._tell = tell
        self._since = since or datetime.now(UTC)
        self._running: dict[tuple[str, int], datetime] = {}
        # The seconds that were spent in the queue and with starting, by the name of their metric.
        self.waits: dict[str, float] = {}

    async def nodes(self) -> list[AllocationStatus]:
        """Wait until every job runs and its keeper has named the nodes.

        :raises NotReadyInTime: `queue_timeout` passed.
        :raises AllocationLost: a job ended first.
        """
        found: dict[tuple[str, int], AllocationStatus] = {}
        async with usable(self._session, self._booking, names=(), since=self._since) as events:
            while len(found) < len(self._booking.allocations):
                match await anext(events):
                    case Looked(allocation, status):
                        self._tell(status)
                        if status.nodes:
                            found[allocation.key] = status
                    case Lost(error=error):
                        raise error
        return [found[allocation.key] for allocation in self._booking.allocations]

    async def services(self, names: Sequence[str] | None = None) -> list[Service]:
        """Wait until `min_ready` services (default: all) are usable, and return them in node order.

        Each service is looked at to the end of the wait: the one that was ready first must still be there at the last.

        :param names: names of the services; None for every one of each allocation.
        :raises ServiceFailed: too few can still become usable; the error has the last lines of a log.
        :raises NotReadyInTime: `queue_timeout` or `start_timeout` passed.
        :raises AllocationLost: a job ended first.
        """
        min_ready = self._session.settings.min_ready
        tally = _Tally(self._booking, min_ready, names)
        # By default all services of an allocation make news together; the first look tells how many there are.
        want = min_ready or (len(names) if names else 1)
        async with usable(
            self._session, self._booking, self._plugins, names=names, want=want, since=self._since
        ) as events:
            while not (events.is_read and tally.settled()):
                event = await anext(events)
                tally.take(event)
                if isinstance(event, Looked):
                    listed = [] if tally.unlisted() else tally.wanted(event.status)
                    if error := self._look(event, listed):
                        tally.take(Lost(event.allocation, error))
        passed = (datetime.now(UTC) - self._since).total_seconds()
        self.waits["brayns.start_wait"] = passed - self.waits.get("brayns.queue_wait", 0.0)
        return tally.services()

    def _look(self, event: Looked, services: Sequence[str]) -> BraynsError | None:
        """Judge a look: an error where the wait is in vain, since what is waited for was not started in the allocation; else None.

        :param services: those that are waited for, where it has all of them.
        """
        self._tell(event.status)
        if not event.status.nodes:
            return None
        now, key = datetime.now(UTC), event.allocation.key
        if key not in self._running:
            self._running[key] = now
            self.waits["brayns.queue_wait"] = (now - self._since).total_seconds()
        limit = self._session.settings.start_timeout
        if services or (now - self._running[key]).total_seconds() <= limit:
            return None
        return NotReadyInTime(
            "no such service is in the allocation.",
            remedy="start one with StartBraynsServiceOperator, and hand on what it returns.",
            retry=False,
            field="started",
        )

    async def still_there(self, found: Sequence[dict[str, Any]] | None) -> list[tuple[AllocationStatus, ServiceStatus]]:
        """Look once at services that were found before, which must still be there as far as the cluster knows. The log has
        shown before what they and their jobs say, and is shown none of it again. A service that a shared file system shows late is looked
        for once more.

        :param found: entries of XCom's `services`; None to look at the nodes only.
        :return: the services with their allocations' states, for `still_answer`.
        :raises BraynsError: a job has ended, or one of the services has.
        """
        names = None if found is None else {(str(one["job_id"]), one["service"]) for one in found}
        jobs = None if names is None else {job_id for job_id, _ in names}
        there = []
        for allocation in self._booking.allocations:
            if jobs is not None and allocation.job_id not in jobs:
                continue
            watch = AllocationWatch(self._session, allocation, self._plugins, self._since, shows=False)
            wanted = {name for job_id, name in names or () if job_id == allocation.job_id}
            async with aclosing(watch.statuses()) as looks:
                async for status in looks:
                    listed = [one for one in status.services if one.name in wanted]
                    for service in listed:
                        watch.check(service)
                        if service.exit_code is not None:  # the service was stopped, and its job goes on
                            raise ServiceFailed(
                                f"{service.name} on {service.node} was stopped meanwhile.",
                                remedy="Clear the task that started the service.",
                            )
                    if len(listed) == len(wanted):
                        break
            there += [(status, service) for service in listed]
        return there

    async def still_answer(self, there: Sequence[tuple[AllocationStatus, ServiceStatus]]) -> None:
        """Ask services once more. Slurm takes minutes to notice that a node is off, and then nobody is there to write
        that its service has ended.

        :raises ServiceFailed: a service does not answer any more.
        :raises ConnectionLost: a service cannot be reached to be asked.
        """
        await together(self._still_answers(status, service) for status, service in there)

    async def _still_answers(self, status: AllocationStatus, service: ServiceStatus) -> None:
        endpoint = endpoint_of(self._session, status, service)

        async def attempt(seconds: float) -> None:
            # this may take seconds, so it comes first: the answer must not be older
            await self._check_ours(status, service)
            await ask(self._session, endpoint, self._plugins, seconds)

        try:
            await probe_until(self._session.poller, attempt, within=_STILL_SECONDS)
        except NotYet as reason:
            raise ServiceFailed(
                f"{service.name} on {service.node} was usable, and does not answer any more: {reason}",
                remedy="Clear the task that started the service.",
            ) from None

    async def _check_ours(self, status: AllocationStatus, service: ServiceStatus) -> None:
        """Raise an error unless whoever answers is the service: another account's process may have waited for a dead
        one's port.
        """
        found = await self._session.cluster.examine(status.name, status.incarnation, service.name)
        if found is not None and found.fate in (Fate.ENDED, Fate.STRANGE):
            raise ServiceFailed(
                found.text(),
                remedy="Clear the task that started the service.",
                node=found.service.node,
                idle=found.idle,
            )
