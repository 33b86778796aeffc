"""The trigger that waits: for nodes, or for services that have proved usable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_brayns.booking import Booking
from airflow_brayns.brayns.readiness import NotYet, parse_endpoint, probe
from airflow_brayns.endpoint import check_endpoint, reachable
from airflow_brayns.errors import BraynsError, NotReadyInTime, reason_of
from airflow_brayns.follow import Follower
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.settings import ClusterSettings
from airflow_brayns.task_state import states_of
from airflow_brayns.triggers.events import safe_events

HOLD_SECONDS = 5.0
_at_work: set[asyncio.Future[None]] = set()  # the loop itself keeps weak references only


def path_of(trigger: BaseTrigger) -> str:
    """The import path that a trigger is serialised with."""
    return f"{type(trigger).__module__}.{type(trigger).__qualname__}"


def deferral(deferred_at: str | None) -> dict[str, str]:
    """The argument `deferred_at`, left out where it is not known: an older triggerer takes the trigger, too."""
    return {} if deferred_at is None else {"deferred_at": deferred_at}


async def hold(deferred_at: str | None) -> None:
    """Wait until some seconds have passed since a task deferred.

    Airflow's scheduler reads the executor's word that the task's process has ended only a while after the deferral; if the
    task runs again by then, it is taken for failed (apache/airflow#71580, 3.3.2). There is nothing that could be awaited:
    nobody is told when that word was read.
    """
    if deferred_at is not None:
        passed = (datetime.now(UTC) - datetime.fromisoformat(deferred_at)).total_seconds()
        await asyncio.sleep(min(HOLD_SECONDS, max(0.0, HOLD_SECONDS - passed)))


class BraynsServiceTrigger(BaseTrigger):
    """Waits for a booking.

    :param cluster_conn_id: the cluster.
    :param overrides: fields of the connection with other values; only those that a wait needs.
    :param booking: `Booking.to_json()`.
    :param until: `nodes` until every job runs, `services` until the services are usable.
    :param plugins: what each service must have loaded.
    :param services: names of the services to wait for; None for all.
    :param owner: token of the task that asked for the nodes, which may cancel them; None where another task owns them.
    :param since: when the wait began, ISO 8601.
    :param deferred_at: when the task deferred, ISO 8601; None from an older version.
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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cluster_conn_id = cluster_conn_id
        self.overrides = overrides
        self.booking = booking
        self.until = until
        self.plugins = list(plugins)
        self.services = None if services is None else list(services)
        self.owner = owner
        self.since = since
        self.deferred_at = deferred_at

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See `BaseTrigger.serialize`."""
        names = ("cluster_conn_id", "overrides", "booking", "until", "plugins", "services", "owner", "since")
        return path_of(self), {name: getattr(self, name) for name in names} | deferral(self.deferred_at)

    def place(self) -> dict[str, Any]:
        """What an event tells of where its services are."""
        return {"booking": self.booking}

    @safe_events
    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: `success` with what was found, or `error` with why not and whether a retry can help."""
        hook = BraynsClusterHook(self.cluster_conn_id, self.overrides)
        booking = Booking.from_json(self.booking)
        try:
            settings = await hook.asettings()
            async with hook.connect(settings) as poller:
                follower = Follower(
                    poller, booking, settings, self.plugins, self.log, queued_since=datetime.fromisoformat(self.since)
                )
                if self.until == "nodes":
                    found: Any = [node for status in await follower.nodes() for node in status.nodes]
                else:
                    found = [service.to_json() for service in await follower.services(self.services)]
        except asyncio.CancelledError:
            if self.task_instance is None:  # Ctrl-C in `airflow dags test`, which knows no on_kill
                await self._give_back()
            raise
        except BraynsError as error:
            self.log.warning("%s", error)  # here too: the task that is told of it may be ended before it can say so
            await self._give_back()
            event = {"status": "error", "message": str(error), "retry": error.retry, "booking": self.booking}
        else:
            at = datetime.now(UTC).isoformat()
            event = {"status": "success", self.until: found, "at": at, **self.place(), "waits": follower.waits}
        await hold(self.deferred_at)
        yield TriggerEvent(event)

    async def on_kill(self) -> None:
        """Somebody marked, cleared or timed out the task: the nodes go back if they are still this try's.

        Airflow also calls this when it moves the trigger to another triggerer (apache/airflow#73454); the task is then
        deferred as before, and its nodes stay.

        The triggerer cancels again every few seconds, `on_kill` included (3.3.2, seen), so the work is a task of its own.
        """
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
        hook = BraynsClusterHook(self.cluster_conn_id, self.overrides)
        try:
            async with hook.connect(await hook.asettings()) as poller:
                number = await poller.cluster.cancel(Booking.from_json(self.booking).name, self.owner)
                self.log.info("%d job(s) given back.", number)
        except BraynsError as error:
            self.log.warning(
                "The nodes could not be given back now; the keeper ends them when they stay unused: %s", error
            )


class EndpointTrigger(BaseTrigger):
    """Waits until an endpoint that somebody typed in is a usable braynsService.

    :param endpoint: `host:port`.
    :param plugins: what it must have loaded.
    :param cluster_conn_id: the cluster whose `route`, `poll_interval` and `start_timeout` apply.
    :param overrides: fields of the connection with other values.
    :param deferred_at: when the task deferred, ISO 8601; None from an older version.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        plugins: Sequence[str],
        cluster_conn_id: str,
        overrides: dict[str, Any],
        deferred_at: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.endpoint = endpoint
        self.plugins = list(plugins)
        self.cluster_conn_id = cluster_conn_id
        self.overrides = overrides
        self.deferred_at = deferred_at

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See `BaseTrigger.serialize`."""
        names = ("endpoint", "plugins", "cluster_conn_id", "overrides")
        return path_of(self), {name: getattr(self, name) for name in names} | deferral(self.deferred_at)

    def place(self) -> dict[str, Any]:
        """See `BraynsServiceTrigger.place`: nothing is known of it but the endpoint."""
        return {}

    @safe_events
    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, as `BraynsServiceTrigger`'s."""
        hook = BraynsClusterHook(self.cluster_conn_id, self.overrides)
        try:
            service = await wait_for_endpoint(hook, await hook.asettings(), self.endpoint, self.plugins, self.log)
        except BraynsError as error:
            event: dict[str, Any] = {"status": "error", "message": str(error), "retry": error.retry}
        else:
            event = {"status": "success", "services": [service], "at": datetime.now(UTC).isoformat()}
        await hold(self.deferred_at)
        yield TriggerEvent(event)


async def wait_for_endpoint(
    hook: BraynsClusterHook,
    settings: ClusterSettings,
    endpoint: str,
    plugins: Sequence[str],
    log: Any,
    *,
    within: float | None = None,
) -> dict[str, Any]:
    """Probe an endpoint until every rung holds; an entry of XCom's `services`.

    :param within: seconds; None for `start_timeout`.
    :raises NotReadyInTime: not within them.
    """
    host, _ = parse_endpoint(endpoint)
    last = ""
    limit = settings.start_timeout if within is None else within
    give_up = asyncio.get_running_loop().time() + limit
    async with reachable(hook, settings, [endpoint]) as [near]:
        while True:
            try:
                usable = await probe(near.host, near.port, plugins, ssl_context=near.ssl_context)
                await check_endpoint(hook, settings, endpoint, log)
                break
            except NotYet as reason:
                if str(reason) != last:
                    last = str(reason)
                    log.info("%s is not usable yet: %s", endpoint, last)
            if asyncio.get_running_loop().time() > give_up:
                raise NotReadyInTime(f"start_timeout: {endpoint} was not usable within {limit:.0f} s: {last}")
            await asyncio.sleep(min(settings.poll_interval, limit / 4))
    return {
        "endpoint": endpoint,
        "node": host,
        "job_id": None,
        "service": None,
        "version": usable.version,
        "plugins": list(usable.plugins),
        "generation": usable.generation,
        "log": None,
        "ends_at": None,
    }
