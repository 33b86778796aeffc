"""The trigger that holds services for a person."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_brayns.errors import BraynsError
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.links import keys
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.holding import hold
from airflow_brayns.task.session_report import SessionReport
from airflow_brayns.task.wait_report import InTrigger
from airflow_brayns.triggers.base import BraynsTrigger
from airflow_brayns.triggers.events import failed, safe_events


class BraynsSessionTrigger(BraynsTrigger):
    """Watches services until a time, or until something ends them. It owns nothing: ending it ends no job.

    :param cluster_conn_id: the cluster.
    :param overrides: fields of the connection with other values; only those that a wait needs.
    :param booking: `Booking.to_json()`, the `plugins` that its services were asked to load, and what the task's log has
        shown of it (`told`).
    :param services: names of the services that are held; None for all.
    :param until: the time, ISO 8601, with its zone; None for as long as the allocation lasts.
    :param deferred_at: and ``newer``: see `BraynsTrigger`.
    """

    def __init__(
        self,
        *,
        cluster_conn_id: str,
        overrides: dict[str, Any],
        booking: dict[str, Any],
        services: Sequence[str] | None,
        until: str | None,
        deferred_at: str | None = None,
        **newer: Any,
    ) -> None:
        super().__init__(deferred_at, newer)
        self.cluster_conn_id = cluster_conn_id
        self.overrides = overrides
        self.booking = booking
        self.services = None if services is None else list(services)
        self.until = until

    @safe_events
    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: `success` with why it ended, or `error` with what ended it."""
        hook = BraynsClusterHook(self.cluster_conn_id, self.overrides, quiet=True)
        try:
            self.check_known()
            async with hook.session(self.log, self.booking.get("told")) as session:
                until = datetime.fromisoformat(self.until) if self.until else None
                booking = Booking.from_json(self.booking)
                report = SessionReport(InTrigger(self.task_instance, self.log, keys.HELD), booking.name)
                plugins = self.booking.get("plugins") or ()
                why = await hold(session, booking, until, self.services, plugins=plugins, tell=report)
        except BraynsError as error:
            event = failed(error)
        else:
            event = {"status": "success", "why": why}
        await self.hold()
        yield TriggerEvent(event)
