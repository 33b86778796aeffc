"""Holding services for a person: they are watched until a time, and whatever ends them earlier is told at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, JobState, ServiceStatus
from airflow_brayns.errors import AllocationLost, ServiceFailed
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.session import Session
from airflow_brayns.services.tasks import beside, within
from airflow_brayns.services.watch import AllocationWatch


async def hold(session: Session, booking: Booking, until: datetime | None, names: Sequence[str] | None = None) -> str:
    """Watch the services of a booking until a time. They count as used meanwhile.

    :param until: None for as long as the booking lasts.
    :param names: the services that are held; None for all.
    :return: why it ended as it was meant to: the time is over, or somebody has given the nodes back.
    :raises ServiceFailed: a service has ended; with the last lines of its log.
    :raises AllocationLost: a job has ended.
    :raises ConnectionLost: the cluster has been out of reach for long, or refuses the login.
    """
    left = max(0.0, (until - datetime.now(UTC)).total_seconds()) if until else None
    try:
        word = await within(left, _first_end(session, booking, names))
    except (AllocationLost, ServiceFailed) as error:
        error.retry = False  # holding it once more brings nothing back
        raise
    return word or f"The time is over ({until})."


async def _first_end(session: Session, booking: Booking, names: Sequence[str] | None) -> str:
    async with beside() as group:
        holds = [group.create_task(_Hold(session, one, names).end()) for one in booking.allocations]
        done, _ = await asyncio.wait(holds, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()


class _Hold:
    """One allocation that is held."""

    def __init__(self, session: Session, allocation: Allocation, names: Sequence[str] | None) -> None:
        self._watch, self._names = AllocationWatch(session, allocation), names

    async def end(self) -> str:
        """Wait until somebody gives it back."""
        given_back = f"Job {self._watch.allocation.job_id} was given back."
        try:
            async with aclosing(self._watch.statuses()) as looks:
                async for status in looks:
                    if status.released:
                        return given_back
                    for service in status.services:
                        if self._names is None or service.name in self._names:
                            self._check(status, service)
        except AllocationLost:
            if self._watch.seen is not None and self._watch.seen.released:
                return given_back
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
