"""Waiting until services are usable, whoever started them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_brayns.brayns.readiness import parse_endpoint
from airflow_brayns.errors import InvalidSetting, NotReadyInTime, ServiceFailed
from airflow_brayns.follow import Follower
from airflow_brayns.operators.base import (
    DEFERRABLE,
    PATIENCE_SECONDS,
    BraynsOperator,
    booking_of,
    failed,
    is_set,
    patience_of,
    started_of,
    word_list,
)
from airflow_brayns.operators.cluster import is_fresh, look_again
from airflow_brayns.operators.service import LINKS, hand_on

STILL_SECONDS = 10.0  # for an endpoint that was usable to answer once more

if TYPE_CHECKING:
    from airflow_brayns.triggers.service import BraynsServiceTrigger, EndpointTrigger


class BraynsServiceSensor(BraynsOperator):
    """Waits until braynsService is usable: the process lives, its port answers, every plugin asked for is loaded.

    Pushes the same keys as `BraynsServiceOperator`. Owns nothing: ending it ends no job.

    :param started: what `StartBraynsServiceOperator` returned (templated)
    :param endpoint: instead of `started`: `host:port` of a service that somebody else started (templated)
    :param plugins: what each service must have loaded; default: what `started` asked for (templated)
    :param timeout: seconds after which to give up; None for no limit beyond `start_timeout`.
    :param deferrable: wait in the triggerer, without a worker slot.
    :param patience: with `deferrable`: seconds to wait in the worker first, see `AllocateNodesOperator`.
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "started", "endpoint", "plugins")
    operator_extra_links = LINKS

    def __init__(
        self,
        *,
        started: Any = None,
        endpoint: str | None = None,
        plugins: Sequence[str] | str | None = None,
        timeout: float | timedelta | None = None,
        deferrable: bool = DEFERRABLE,
        patience: float | timedelta = PATIENCE_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.started = started
        self.endpoint = endpoint
        self.plugins = plugins
        self.timeout = timeout
        self.deferrable = deferrable
        self.patience = patience

    def execute(self, context: Context) -> Any:
        """Wait here, or in the triggerer."""
        try:
            trigger = self._trigger()
            patience = patience_of(self.patience) if self.deferrable else None
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        seconds = self.timeout.total_seconds() if isinstance(self.timeout, timedelta) else self.timeout
        if patience is not None and seconds is not None:
            patience = min(patience, seconds)
        event = None if patience == 0 else self.block(self._look(trigger, seconds if patience is None else patience))
        if event is not None:
            return self._hand_over(context, event)
        left = None if seconds is None else seconds - (seconds if patience is None else patience)
        if left is not None and left <= 0:
            raise AirflowException(f"timeout: not usable within {seconds} s; the log above tells how far it came.")
        trigger.deferred_at = self.now()
        limit = self.execution_timeout if left is None else timedelta(seconds=left)
        return self.defer(trigger=trigger, method_name="resume", timeout=limit)

    async def _look(
        self, trigger: BraynsServiceTrigger | EndpointTrigger, seconds: float | None
    ) -> dict[str, Any] | None:
        """What is found within some seconds, as the trigger tells it; None where it takes longer."""
        try:
            async with asyncio.timeout(seconds) as limit:
                services = await self._wait(trigger)
        except TimeoutError:
            if not limit.expired():
                raise
            return None
        return {"services": services, "at": self.now(), **trigger.place()}

    def _trigger(self) -> BraynsServiceTrigger | EndpointTrigger:
        from airflow_brayns.triggers.service import BraynsServiceTrigger, EndpointTrigger  # as in operators.cluster

        plugins = self.plugins
        if not is_set(plugins) and is_set(self.started):
            plugins = started_of(self.started).get("plugins")
        names = word_list("plugins", plugins)
        self.read_settings()
        if is_set(self.endpoint):
            parse_endpoint(str(self.endpoint))
            return EndpointTrigger(
                endpoint=str(self.endpoint),
                plugins=names,
                cluster_conn_id=self.cluster_conn_id,
                overrides=self.waiting_overrides,
            )
        if not is_set(self.started):
            raise InvalidSetting("started", "give either started or endpoint")
        return BraynsServiceTrigger(
            cluster_conn_id=self.cluster_conn_id,
            overrides=self.waiting_overrides,
            booking=booking_of(self.started).to_json(),
            until="services",
            plugins=names,
            services=started_of(self.started).get("services"),
            owner=None,
            since=self.now(),
        )

    async def _wait(self, trigger: BraynsServiceTrigger | EndpointTrigger) -> list[dict[str, Any]]:
        from airflow_brayns.triggers.service import EndpointTrigger, wait_for_endpoint

        settings = self.read_settings()
        if isinstance(trigger, EndpointTrigger):
            return [await wait_for_endpoint(self.hook, settings, trigger.endpoint, trigger.plugins, self.log)]
        async with self.hook.connect(settings) as poller:
            follower = Follower(poller, booking_of(self.started), settings, trigger.plugins, self.log)
            return [service.to_json() for service in await follower.services(trigger.services)]

    def resume(self, context: Context, event: dict[str, Any]) -> list[str]:
        """Comes back from the triggerer."""
        if event["status"] != "success":
            failed(event["message"], retry=event["retry"])
        return self._hand_over(context, event)

    def _hand_over(self, context: Context, event: dict[str, Any]) -> list[str]:
        """What was found, if it is still there, whichever way it came."""
        if "booking" in event:
            look_again(self, event)
        elif not is_fresh(event):
            self._ask_again(event["services"])
        return hand_on(self, context, event["services"])

    def _ask_again(self, services: list[dict[str, Any]]) -> None:
        """A service that somebody else started: only asking it tells whether it is still there.

        :raises AirflowException: it is not.
        """
        from airflow_brayns.triggers.service import wait_for_endpoint

        settings = self.read_settings()

        async def main() -> None:
            for one in services:
                try:
                    await wait_for_endpoint(
                        self.hook, settings, one["endpoint"], one["plugins"], self.log, within=STILL_SECONDS
                    )
                except NotReadyInTime as error:
                    raise ServiceFailed(
                        f"endpoint: {one['endpoint']} was usable, and does not answer any more: {error}"
                    ) from None

        self.block(main())
