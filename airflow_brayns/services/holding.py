"""Holding services for a person: they are watched until a time, and whatever ends them earlier is told at once. Somebody
may give them more time meanwhile: then they are held longer, or those that follow on are held beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, JobState, ServiceStatus
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import AllocationLost, BraynsError, ConnectionLost, ServiceFailed
from airflow_brayns.services.booking import Booking, Service
from airflow_brayns.services.extending import SPARE_SECONDS
from airflow_brayns.services.session import Session
from airflow_brayns.services.stream import Failed, Looked, Lost, Proved, usable
from airflow_brayns.services.tasks import beside
from airflow_brayns.services.watch import AllocationWatch


@dataclass(frozen=True)
class Held:
    """What there is to tell of what is held.

    :param until: when it ends; None while nobody knows.
    :param following: allocations that follow on, as they were seen last.
    :param services: their services that have proved usable.
    :param ended: ids of jobs that have ended since, on which another one followed.
    """

    until: datetime | None
    following: tuple[AllocationStatus, ...] = ()
    services: tuple[Service, ...] = ()
    ended: tuple[str, ...] = ()


Tell = Callable[[Held], None]


async def hold(
    session: Session,
    booking: Booking,
    until: datetime | None,
    names: Sequence[str] | None = None,
    *,
    plugins: Sequence[str] = (),
    tell: Tell = lambda held: None,
) -> str:
    """Watch the services of a booking until a time. They count as used meanwhile.

    :param until: None for as long as the booking lasts. What its folders tell is later where somebody gave it more time.
    :param names: the services that are held; None for all.
    :param plugins: names of the plugins that services which follow on must have loaded.
    :param tell: what is told of each look, for people who watch; it must raise no error.
    :return: why it ended as it was meant to: the time is over, or somebody has given the nodes back.
    :raises ServiceFailed: a service has ended; with the last lines of its log.
    :raises AllocationLost: a job has ended, and none follows on.
    :raises ConnectionLost: the cluster has been out of reach for long, or refuses the login.
    """
    holds = _Holds(session, booking, until, names, plugins, tell)
    try:
        async with holds.limit:
            return await holds.first_end()
    except TimeoutError:
        if not holds.limit.expired():
            raise
        return f"The time is over ({holds.until})."
    except (AllocationLost, ServiceFailed) as error:
        error.retry = False  # holding it once more brings nothing back
        raise


class _Holds:
    """The allocations of a booking that are held.

    :ivar limit: ends the hold when its time is over. It begins with the first look that is answered, which tells whether the
        session was given more time: another try knows only its first end.
    """

    def __init__(
        self,
        session: Session,
        booking: Booking,
        until: datetime | None,
        names: Sequence[str] | None,
        plugins: Sequence[str],
        tell: Tell,
    ) -> None:
        self.session, self.names, self.plugins, self.first_until = session, names, plugins, until
        self.until, self._tell = until, tell
        self.limit = asyncio.timeout(None)
        self._chains = [_Chain(self, one) for one in booking.allocations]

    async def first_end(self) -> str:
        async with beside() as group:
            ends = [group.create_task(chain.end()) for chain in self._chains]
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()

    def changed(self) -> None:
        """Set the time anew, and tell how things stand."""
        if self.limit.expired() or not all(chain.seen for chain in self._chains):
            return
        known = [until for chain in self._chains if (until := chain.until())]
        self.until = min(known) if known else None
        when = None if self.until is None else asyncio.get_running_loop().time() + max(0.0, _seconds_to(self.until))
        self.limit.reschedule(when)
        following = tuple(status for chain in self._chains for status in chain.following())
        services = tuple(one for chain in self._chains for one in chain.services)
        self._tell(Held(self.until, following, services, tuple(job for chain in self._chains for job in chain.ended)))


class _Chain:
    """An allocation that is held, with those that follow on it.

    :ivar seen: how each of them that is held was seen last, by its incarnation.
    :ivar services: usable ones of those that follow on.
    :ivar ended: ids of the jobs among them that have ended.
    """

    def __init__(self, holds: _Holds, first: Allocation) -> None:
        self._holds, self._first = holds, first
        self.seen: dict[int, AllocationStatus] = {}
        self.services: list[Service] = []
        self.ended: list[str] = []
        self._living: dict[int, Allocation] = {}
        self._known = {first.incarnation}
        self._ends: asyncio.Queue[tuple[int, str | BraynsError]] = asyncio.Queue()

    async def end(self) -> str:
        """Hold them until somebody gives them back, or the last of them has ended."""
        async with beside() as self._group:
            self._hold(self._first, _Hold(self._holds.session, self._first, self._holds.names, self.look).end)
            while True:
                number, why = await self._ends.get()
                gone = self._living.pop(number)
                if isinstance(why, str):
                    return why
                if not self._living:
                    raise why
                self._drop(gone, self.seen.pop(number, None))
                self._holds.session.log.warning("The session goes on with what there still is: %s", why)
                self._holds.changed()

    def _drop(self, gone: Allocation, status: AllocationStatus | None) -> None:
        """Hold one of them no longer, while others go on. What nobody watches any more goes back; not the first one, whose release
        is that of all.
        """
        if gone.job_id:
            self.ended.append(gone.job_id)
        self.services = [one for one in self.services if one.job_id != gone.job_id]
        if gone.incarnation != self._first.incarnation and status is not None and status.state is not JobState.ENDED:
            self._group.create_task(self._give_back(status))

    async def _give_back(self, status: AllocationStatus) -> None:
        try:
            await self._holds.session.cluster.reap(status)
        except BraynsError as error:
            self._holds.session.log.warning("Job %s was not given back: %s", status.job_id, error)

    def _hold(self, one: Allocation, end: Callable[[], object]) -> None:
        async def told() -> None:
            try:
                why: str | BraynsError = await end()  # type: ignore[misc]
            except BraynsError as error:
                why = error
            self._ends.put_nowait((one.incarnation, why))

        self._living[one.incarnation] = one
        self._group.create_task(told())

    def look(self, status: AllocationStatus) -> None:
        """Take a look at one of them: another one may follow on."""
        self.seen[status.incarnation] = status
        if status.following > status.incarnation and status.following not in self._known:
            self._known.add(status.following)
            folder = f"{self._first.folder.rpartition('/')[0]}/{status.following}"
            one = Allocation(self._first.name, status.following, "", folder=folder, machine=self._first.machine)
            self._hold(one, lambda: self._follow(one))
        self._holds.changed()

    async def _follow(self, one: Allocation) -> str:
        """Hold an allocation that follows on, and prove its services."""
        holds = self._holds
        found = await _seen(holds.session, one)
        one = self._living[one.incarnation] = replace(one, job_id=found.job_id if found else "")
        holds.session.log.info("Job %s follows on job %s.", one.job_id or "(not submitted yet)", self._first.job_id)
        async with usable(holds.session, Booking(one.name, (one,)), holds.plugins) as events:
            async for event in events:
                match event:
                    case Looked(allocation=allocation, status=status):
                        one = self._living[one.incarnation] = allocation  # it may have its job only now
                        if status.released:
                            return await self._released(status)
                        self.look(status)
                    case Proved(service=service):
                        self.services.append(service)
                        holds.changed()
                    case Failed(error=error) | Lost(error=error):
                        # It may have been given back, and have ended, between two looks.
                        found = await _seen(holds.session, one)
                        if found is not None and found.released:
                            return await self._released(found)
                        raise error
        raise AssertionError("a stream of services does not end by itself")

    async def _released(self, status: AllocationStatus) -> str:
        """Tell what the release of one that follows on means: with the first one, or after that has ended, the session was given back.

        :raises AllocationLost: it alone ends: the scheduler did not take it, or somebody gave only it back.
        """
        first = await _seen(self._holds.session, self._first)
        is_over = first is not None and (first.gone or first.state is JobState.ENDED)
        is_last = is_over or self._first.incarnation not in self._living
        if (first is not None and first.released) or (is_last and status.job_id):
            return _given_back(status.job_id or self._first.job_id)
        if status.job_id:
            why = f"Job {status.job_id}, which followed on, was given back."
        else:
            why = "The scheduler did not take the job that was to follow on."
        raise AllocationLost(why, remedy="Give the session more time once more.")

    def following(self) -> list[AllocationStatus]:
        """How those that follow on were seen last."""
        return [status for number, status in sorted(self.seen.items()) if number != self._first.incarnation]

    def until(self) -> datetime | None:
        """When its time is over, by the newest of them that is held; None while that waits, or has no limit."""
        newest = max(self._living)
        status = self.seen.get(newest)
        if newest == self._first.incarnation:
            ends, first = _time(status.until if status else ""), self._holds.first_until
            return max(ends, first) if ends and first else first
        left = status.job.seconds_left if status and status.job and status.state is JobState.RUNNING else None
        if left is None or not status or not all(self._is_usable(status, one) for one in status.services):
            return None
        spare = SPARE_SECONDS[self._holds.session.cluster.scheduler]
        ends = (datetime.now(UTC) + timedelta(seconds=max(0, left - spare))).replace(microsecond=0)
        last = self._holds.until  # each look tells it some seconds otherwise
        return last if last and abs((last - ends).total_seconds()) < spare / 2 else ends

    def _is_usable(self, status: AllocationStatus, service: ServiceStatus) -> bool:
        return any((one.job_id, one.name) == (status.job_id, service.name) for one in self.services)


class _Hold:
    """One allocation that is held.

    :param look: takes each look.
    """

    def __init__(
        self,
        session: Session,
        allocation: Allocation,
        names: Sequence[str] | None,
        look: Callable[[AllocationStatus], None] = lambda status: None,
    ) -> None:
        self._watch, self._names, self._look = AllocationWatch(session, allocation), names, look

    async def end(self) -> str:
        """Wait until somebody gives it back."""
        try:
            async with aclosing(self._watch.statuses()) as looks:
                async for status in looks:
                    if status.released:
                        return _given_back(self._watch.allocation.job_id)
                    self._look(status)
                    for service in status.services:
                        if self._names is None or service.name in self._names:
                            self._check(status, service)
        except (AllocationLost, ServiceFailed):
            seen = self._watch.seen
            if seen is not None and seen.released:
                return _given_back(self._watch.allocation.job_id)
            if seen is not None and seen.following:
                self._look(seen)  # another try may come only now, when the first one has ended and another one goes on
            raise
        raise AllocationLost(
            f"Job {self._watch.allocation.job_id} is not watched any more.", remedy="Start a new session."
        )

    def _check(self, status: AllocationStatus, service: ServiceStatus) -> None:
        """Look whether a service is still there.

        :raises ServiceFailed: it has ended, and not since its job ends.
        """
        if service.exit_code is not None and not service.stopped and not status.ending:
            killed = f" (killed by signal {service.exit_code - 128})" if 128 < service.exit_code < 160 else ""
            raise ServiceFailed(
                f"{service.name} on {service.node} has ended: {service.exit_text}{killed}. Its log is in "
                f"{self._watch.allocation.log_of(service.name)}\n{self._watch.last_lines(service)}",
                remedy="Start a new session.",
                node=service.node,
                exit_code=service.exit_code,
            )
        # A scheduler that does not answer ends no session, and keeps none whose service is gone.
        if self._watch.is_stopped_alone(status, service, (JobState.RUNNING, JobState.UNKNOWN)):
            raise ServiceFailed(
                f"{service.name} on {service.node} was stopped.",
                remedy="Start a new session, if that was not meant.",
                node=service.node,
            )


async def _seen(session: Session, one: Allocation) -> AllocationStatus | None:
    """How an allocation stands; None where the cluster does not tell."""
    try:
        return (await session.cluster.look([Waiter(*one.key)])).get(one.key)
    except ConnectionLost:
        return None


def _given_back(job_id: str) -> str:
    return f"Job {job_id} was given back."


def _seconds_to(until: datetime) -> float:
    return (until - datetime.now(UTC)).total_seconds()


def _time(text: str) -> datetime | None:
    """A time that somebody wrote into a folder; None for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
