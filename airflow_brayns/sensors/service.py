"""The sensor that waits until services are usable, whoever started them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.errors import BraynsError, InvalidSetting, NotReadyInTime, ServiceFailed
from airflow_brayns.links.cluster import LINKS
from airflow_brayns.services.endpoints import wait_for_endpoint
from airflow_brayns.services.tasks import within
from airflow_brayns.services.waiting import Waiting
from airflow_brayns.task.fields import PATIENCE_SECONDS, booking_of, is_set, patience_of, started_of, word_list
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.handover import hand_on, is_fresh, look_again
from airflow_brayns.task.operator import DEFERRABLE, BraynsOperator

STILL_SECONDS = 10.0  # time in which an endpoint that was usable must answer once more

if TYPE_CHECKING:
    from airflow_brayns.triggers.service import BraynsServiceTrigger, EndpointTrigger


class BraynsServiceSensor(BraynsOperator):
    """Waits until braynsService is usable: the process lives, its port answers, every plugin asked for is loaded.

    It pushes the same keys as `BraynsServiceOperator`. It owns nothing: ending it ends no job.

    :param started: the dict that `StartBraynsServiceOperator` returned (templated)
    :param endpoint: instead of `started`, the `host:port` of a service that somebody else started (templated)
    :param plugins: names of the plugins that each service must have loaded; None for those that `started` asked for
        (templated)
    :param timeout: seconds after which to give up; None for no limit beyond `start_timeout`.
    :param deferrable: whether to wait in the triggerer, without a worker slot; default Airflow's `[operators]
        default_deferrable`.
    :param patience: with `deferrable`, seconds to wait in the worker first, default 5; see `AllocateNodesOperator`.
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

    @guarded
    def execute(self, context: Context) -> Any:
        """Wait here, or in the triggerer, and return the endpoints."""
        trigger = self._trigger()
        patience = patience_of(self.patience) if self.deferrable else None
        seconds = self.timeout.total_seconds() if isinstance(self.timeout, timedelta) else self.timeout
        if patience is not None and seconds is not None:
            patience = min(patience, seconds)
        event = None if patience == 0 else self.block(self._look(trigger, seconds if patience is None else patience))
        if event is not None:
            return self._hand_over(context, event)
        left = None if seconds is None else seconds - (seconds if patience is None else patience)
        if left is not None and left <= 0:
            raise NotReadyInTime(
                f"not usable within {seconds} s.",
                remedy="raise it if it is only slow; the log above tells how far it came.",
                field="timeout",
            )
        trigger.deferred_at = self.deferral()
        limit = self.execution_timeout if left is None else timedelta(seconds=left)
        return self.defer(trigger=trigger, method_name="resume", timeout=limit)

    async def _look(
        self, trigger: BraynsServiceTrigger | EndpointTrigger, seconds: float | None
    ) -> dict[str, Any] | None:
        """Wait in the worker, and return the event that the trigger would tell; None where it takes longer than some
        seconds.
        """
        found = await within(seconds, self._wait(trigger))
        return None if found is None else {**found, **trigger.place()}

    def _trigger(self) -> BraynsServiceTrigger | EndpointTrigger:
        # imported on use, as in operators.cluster
        from airflow_brayns.triggers.service import BraynsServiceTrigger, EndpointTrigger

        plugins = self.plugins
        if not is_set(plugins) and is_set(self.started):
            plugins = started_of(self.started).get("plugins")
        names = word_list("plugins", plugins)
        self.read_settings()
        if is_set(self.endpoint):
            Endpoint.parse(str(self.endpoint))
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

    async def _wait(self, trigger: BraynsServiceTrigger | EndpointTrigger) -> dict[str, Any]:
        """Wait, and return what was found and when: to close a connection that has stalled takes seconds."""
        from airflow_brayns.triggers.service import EndpointTrigger

        async with self.hook.session(self.log) as session:
            if isinstance(trigger, EndpointTrigger):
                found = [await wait_for_endpoint(session, trigger.endpoint, trigger.plugins)]
                return {"services": found, "at": self.now()}
            wait = Waiting(session, booking_of(self.started), trigger.plugins)
            try:
                found = [service.to_json() for service in await wait.services(trigger.services)]
                return {"services": found, "at": self.now()}
            finally:
                trigger.booking["told"] = session.told.to_json()

    @guarded
    def resume(self, context: Context, event: dict[str, Any]) -> list[str]:
        """Go on when the trigger's event has come."""
        if event["status"] != "success":
            raise BraynsError.from_json(event)
        return self._hand_over(context, event)

    def _hand_over(self, context: Context, event: dict[str, Any]) -> list[str]:
        """Hand on what was found, here or in the triggerer, if it is still there."""
        if "booking" in event:
            look_again(self, event)
        elif not is_fresh(event):
            self._ask_again(event["services"])
        return hand_on(self, context, event["services"])

    def _ask_again(self, services: list[dict[str, Any]]) -> None:
        """Ask services once more that somebody else started: only their own answer tells whether they are still there.

        :raises ServiceFailed: a service does not answer any more.
        """
        self.read_settings()

        async def main() -> None:
            async with self.hook.session(self.log) as session:
                for one in services:
                    try:
                        await wait_for_endpoint(session, one["endpoint"], one["plugins"], within=STILL_SECONDS)
                    except NotReadyInTime as error:
                        raise ServiceFailed(
                            f"{one['endpoint']} was usable, and does not answer any more: {error}",
                            remedy="clear the task that started the service.",
                            field="endpoint",
                        ) from None

        self.block(main())
