"""The triggers that wait for nodes, or for services that have proved usable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from airflow.triggers.base import TriggerEvent
from asgiref.sync import sync_to_async

from airflow_brayns.errors import BraynsError, reason_of
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.endpoints import wait_for_endpoint
from airflow_brayns.services.release import not_given_back
from airflow_brayns.services.waiting import Waiting
from airflow_brayns.task.airflow_state import states_of
from airflow_brayns.task.wait_report import InTrigger, WaitReport
from airflow_brayns.triggers.base import BraynsTrigger
from airflow_brayns.triggers.events import failed, safe_events, without_told

_at_work: set[asyncio.Future[None]] = set()  # keeps tasks alive, to which the loop itself has weak references only


class BraynsServiceTrigger(BraynsTrigger):
    """Waits until a booking has its nodes, or until its services are usable.

    :param cluster_conn_id: the id of the cluster's connection.
    :param overrides: fields of the connection to which the task gives other values, as far as a wait needs them.
    :param booking: the booking, as `Booking.to_json()` gives it, and what the task's log has shown of it (`told`).
    :param until: `nodes` to wait until every job runs, `services` until the services are usable.
    :param plugins: names of the plugins that each service must have loaded.
    :param services: names of the services to wait for; None for all.
    :param owner: the token of the task that asked for the nodes, which may cancel them; None where another task owns
        them.
    :param since: when the wait began, in ISO 8601.
    :param deferred_at: this, and ``newer``: see `BraynsTrigger`.
    """

    def __init__(
        self,
        *,
        cluster_conn_id: str,
        overrides: dict[str, Any],
        booking: dict[str, Any],
        until: Literal["nodes", "services"],
        plugins: Sequence[str],
        services: Sequence[str] | None,
        owner: str | None,
        since: str,
        deferred_at: str | None = None,
        **newer: Any,
    ) -> None:
        super().__init__(deferred_at, newer)
        self.cluster_conn_id = cluster_conn_id
        self.overrides = overrides
        self.booking = booking
        self.until = until
        self.plugins = list(plugins)
        self.services = None if services is None else list(services)
        self.owner = owner
        self.since = since

    def place(self) -> dict[str, Any]:
        """The keys of an event that tell where its services are."""
        return {"booking": without_told(self.booking)}

    @safe_events
    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event: `success` with what was found, or `error` with the reason and whether a retry can
        help.
        """
        hook = BraynsClusterHook(self.cluster_conn_id, self.overrides, quiet=True)
        booking = Booking.from_json(self.booking)
        try:
            self.check_known()
            async with hook.session(self.log, self.booking.get("told")) as session:
                report = WaitReport(InTrigger(self.task_instance, self.log))
                since = datetime.fromisoformat(self.since)
                wait = Waiting(session, booking, self.plugins, since=since, tell=report)
                if self.until == "nodes":
                    found: Any = [node for status in await wait.nodes() for node in status.nodes]
                else:
                    found = [service.to_json() for service in await wait.services(self.services)]
                at = datetime.now(UTC).isoformat()  # to close a connection that has stalled takes seconds
        except asyncio.CancelledError:
            if self.task_instance is None:  # `airflow dags test` was stopped by Ctrl-C; it calls no `on_kill`
                await self._give_back()
            raise
        except BraynsError as error:
            # logged here too, since the task that is told of it may be ended before it can say so
            self.log.warning("%s", error)
            await self._give_back()
            event = failed(error, **self.place())
        else:
            event = {"status": "success", self.until: found, "at": at, **self.place(), "waits": wait.waits}
        await self.hold()
        yield TriggerEvent(event)

    async def on_kill(self) -> None:
        """Give the nodes back, if they are still this try's, since somebody marked, cleared or timed out the task.

        Airflow also calls this when it moves the trigger to another triggerer (apache/airflow#73454); the task is then
        deferred as before, and its nodes stay.

        The triggerer cancels again every few seconds, `on_kill` included (3.3.2, seen), so the work is a task of its
        own. It is told of at once: the task's log may be closed by the time it is done.
        """
        self.log.info("This wait was told to stop: its nodes are given back, unless another triggerer goes on with it.")
        work = asyncio.ensure_future(self._give_back_unless_moved())
        _at_work.add(work)
        work.add_done_callback(_at_work.discard)
        await asyncio.shield(work)

    async def _give_back_unless_moved(self) -> None:
        if not await self._still_deferred():
            await self._give_back()

    async def _still_deferred(self) -> bool:
        ti = self.task_instance
        if ti is None:
            return False
        try:
            return "deferred" in await sync_to_async(states_of)(ti)
        except Exception as error:
            self.log.warning("Airflow does not say what became of the task: %s", reason_of(error))
            return False

    async def _give_back(self) -> None:
        if self.owner is None:
            return
        hook = BraynsClusterHook(self.cluster_conn_id, self.overrides, quiet=True)
        try:
            async with hook.session(self.log) as session:
                number = await session.cluster.cancel(Booking.from_json(self.booking).name, self.owner)
                self.log.info("%d job(s) given back.", number)
        except BraynsError as error:
            not_given_back(error, self.log)


class EndpointTrigger(BraynsTrigger):
    """Waits until an endpoint that somebody typed in is a usable braynsService.

    :param endpoint: the `host:port` of the service.
    :param plugins: names of the plugins that it must have loaded.
    :param cluster_conn_id: the id of the cluster's connection, whose `route`, `poll_interval` and `start_timeout`
        apply.
    :param overrides: fields of the connection to which the task gives other values.
    :param deferred_at: this, and ``newer``: see `BraynsTrigger`.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        plugins: Sequence[str],
        cluster_conn_id: str,
        overrides: dict[str, Any],
        deferred_at: str | None = None,
        **newer: Any,
    ) -> None:
        super().__init__(deferred_at, newer)
        self.endpoint = endpoint
        self.plugins = list(plugins)
        self.cluster_conn_id = cluster_conn_id
        self.overrides = overrides

    def place(self) -> dict[str, Any]:
        """See `BraynsServiceTrigger.place`; nothing is known of the service but its endpoint, so there are no keys."""
        return {}

    @safe_events
    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event, as `BraynsServiceTrigger.run` does."""
        hook = BraynsClusterHook(self.cluster_conn_id, self.overrides, quiet=True)
        try:
            self.check_known()
            async with hook.session(self.log) as session:
                service = await wait_for_endpoint(session, self.endpoint, self.plugins)
                at = datetime.now(UTC).isoformat()
        except BraynsError as error:
            event = failed(error)
        else:
            event = {"status": "success", "services": [service], "at": at}
        await self.hold()
        yield TriggerEvent(event)
