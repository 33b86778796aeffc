"""Operators that start braynsService on nodes, wait until it is usable, and stop it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Context, TriggerRule

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.links import keys
from airflow_brayns.links.cluster import LINKS
from airflow_brayns.operators.cluster import AllocateNodesOperator, ReleaseNodesOperator
from airflow_brayns.services.booking import BookingRequest, check_machine, service_commands, start_in
from airflow_brayns.services.settings import CONNECTING
from airflow_brayns.services.waiting import Waiting
from airflow_brayns.task.fields import booking_of, started_of, word_list
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.handover import hand_on
from airflow_brayns.task.handover import login_of as login_of  # DAGs of 0.2.0 may import it from here
from airflow_brayns.task.metrics import took
from airflow_brayns.task.operator import BraynsOperator


class BraynsServiceOperator(AllocateNodesOperator):
    """Allocates nodes, starts a braynsService on each and waits until they are usable: one task, one deferral.

    It pushes `return_value`: the list of `"host:port"` in node order; `endpoint`: the first one; `services`: a list of
    dicts {endpoint, node, job_id, service, version, plugins, generation, log, ends_at}; and `allocation`. If it fails
    after it submitted, it gives the nodes back itself. When it succeeds they are yours: `brayns_service(...)` adds the
    release.

    :param plugins: names of the plugins that each service must have loaded; default none (templated)
    :param nodes: how many nodes, with a service each; default 1 (templated)
    :param deferrable: whether to wait in the triggerer, without a worker slot; default Airflow's `[operators]
        default_deferrable`.
    :param patience: with `deferrable`, seconds to wait in the worker first, default 5; see `AllocateNodesOperator`.
    """

    template_fields: Sequence[str] = (*AllocateNodesOperator.template_fields, "plugins")
    operator_extra_links = LINKS
    _until = "services"

    def __init__(self, *, plugins: Sequence[str] | str = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plugins = plugins

    def bookings(self) -> list[BookingRequest]:
        """See `BraynsOperator.bookings`."""
        plugins = self._plugins = word_list("plugins", self.plugins)
        return [replace(one, plugins=plugins, purpose="services") for one in super().bookings()]

    @guarded
    def execute(self, context: Context) -> Any:
        """Submit, wait until the services are usable, and return their endpoints."""
        for asked in self.bookings():
            asked.jobs()  # what cannot work fails before Airflow is told anything
        # Links read these keys when the task defers; that there are none yet is no error.
        context["ti"].xcom_push(key=keys.SERVICES, value=[])
        for key in (keys.TUNNEL, keys.LOG, keys.URL):
            context["ti"].xcom_push(key=key, value="")
        return super().execute(context)

    async def _wait(self, wait: Waiting) -> Any:
        return [service.to_json() for service in await wait.services()]

    def finish(self, context: Context, found: Any) -> list[str]:
        """Hand on the endpoints of the services that were found."""
        started = getattr(context["ti"], "start_date", None)
        if started is not None:
            took("brayns.handover", (datetime.now(UTC) - started).total_seconds())
        return hand_on(self, context, found)


class StartBraynsServiceOperator(BraynsOperator):
    """Starts a braynsService on each node of an allocation, and does not wait; `BraynsServiceSensor` does. A retry, or a clear, finds those
    that run; in the place of one that has ended it starts another.

    :param allocation: the dict that `AllocateNodesOperator` returned (templated)
    :param plugins: names of the plugins to load; default none (templated)
    :param service: the text that the services' names begin with, default `brayns`; a second start in the same
        allocation needs another one (templated)
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "allocation", "plugins", "service")

    def __init__(
        self, *, allocation: Any, plugins: Sequence[str] | str = (), service: str = "brayns", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.allocation = allocation
        self.plugins = plugins
        self.service = service

    @guarded
    def execute(self, context: Context) -> dict[str, Any]:
        """Start the services, and return the allocation with `services` and `plugins`, for the sensor."""
        booking = booking_of(self.allocation)
        plugins = word_list("plugins", self.plugins)
        settings = self.read_settings()
        settings.service(tuple(plugins))

        async def main() -> list[str]:
            started = []
            async with self.hook.session(self.log) as session:
                statuses = await Waiting(session, booking, plugins).nodes()
                for allocation, status in zip(booking.allocations, statuses, strict=True):
                    for command in service_commands(settings, plugins, len(status.nodes), self.service):
                        started.append(await start_in(session.cluster, allocation, status, command))
            return started

        names = self.block(main())
        return {**booking.to_json(), "services": sorted(set(names)), "plugins": plugins}


class StopBraynsServiceOperator(BraynsOperator):
    """Stops services and keeps the nodes. A service that has ended already is success.

    :param started: the dict that `StartBraynsServiceOperator` returned (templated)
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "started")

    def __init__(self, *, started: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.started = started

    @guarded
    def execute(self, context: Context) -> None:
        """Stop each service, and wait until it has ended."""
        booking = booking_of(self.started)
        self.read_settings()
        services = started_of(self.started).get("services") or []
        if not services:
            raise InvalidSetting(
                "started",
                "it names no service, so nothing would be stopped.",
                remedy="pass what StartBraynsServiceOperator returned.",
            )

        async def main() -> None:
            async with self.hook.session(self.log) as session:
                check_machine(session.cluster, booking.allocations)
                for service in services:
                    absent = list[InvalidSetting]()
                    for allocation in booking.allocations:
                        try:
                            await session.cluster.stop_service(allocation, service)
                        except InvalidSetting as error:  # of several jobs not each has each name
                            absent.append(error)
                    if len(absent) == len(booking.allocations):
                        raise absent[0]

        self.block(main())


# Arguments that the release has to share with the setup, to reach the same cluster from the same workers.
_RELEASE_TOO = (
    "cluster_conn_id",
    *CONNECTING,
    "route",
    "retry_delay",
    "retry_exponential_backoff",
    "max_retry_delay",
    "queue",
    "executor",
    "dag",
    "task_group",
)


@contextmanager
def brayns_service(*, task_id: str = "brayns", **kwargs: Any) -> Iterator[BraynsServiceOperator]:
    """Put a running braynsService around the tasks inside the block, and give the nodes back after them.

    It makes a `BraynsServiceOperator` as setup and a `ReleaseNodesOperator` as teardown, which runs whatever happened
    in between. `service.output` is the list of endpoints. `<task_id>_done`, which costs nothing, fails with the tasks
    inside: to Airflow the teardown would be the run's last task, and a run whose rendering failed would show green.

    :param task_id: the id of the setup, default `brayns`; the teardown is `<task_id>_release`.
    :param kwargs: further arguments of `BraynsServiceOperator`.
    """
    start = BraynsServiceOperator(task_id=task_id, **kwargs)
    release = ReleaseNodesOperator(
        task_id=f"{task_id}_release",
        allocated_by=start.task_id,
        retries=max(5, int(kwargs.get("retries") or 0)),
        **{name: value for name, value in kwargs.items() if name in _RELEASE_TOO},
    ).as_teardown(setups=start, on_failure_fail_dagrun=True)
    before = set(start.dag.task_ids)
    with release:
        yield start
    # Airflow wires a block's first and last tasks only: one in its middle, with a neighbour outside, would run before the
    # service is there, or after the nodes are given back.
    inside = [start.dag.get_task(name) for name in sorted(set(start.dag.task_ids) - before)]
    for task in inside:
        if start.task_id not in task.upstream_task_ids:
            start >> task
        if release.task_id not in task.downstream_task_ids:
            task >> release
    last = [task for task in inside if not task.is_teardown and all(one.is_teardown for one in task.downstream_list)]
    if last:
        done = EmptyOperator(task_id=f"{task_id}_done", trigger_rule=TriggerRule.NONE_FAILED)
        for task in last:
            task >> done
