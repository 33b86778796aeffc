"""Starting braynsService on nodes, waiting until it is usable, stopping it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Context, TriggerRule
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns.booking import service_commands
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.follow import Follower
from airflow_brayns.links.cluster import EndpointLink, ServiceLogLink, SlurmJobLink, TunnelLink
from airflow_brayns.links.texts import Login, tunnel
from airflow_brayns.observe import took
from airflow_brayns.operators.base import BraynsOperator, booking_of, started_of, whole_number, word_list
from airflow_brayns.operators.cluster import AllocateNodesOperator, ReleaseNodesOperator

LINKS = (EndpointLink(), SlurmJobLink(), ServiceLogLink(), TunnelLink())


def hand_on(operator: BraynsOperator, context: Context, services: Sequence[dict[str, Any]]) -> list[str]:
    """Push the contract's keys `endpoint` and `services`; the list of endpoints is the return value."""
    endpoints = [service["endpoint"] for service in services]
    ti = context["ti"]
    ti.xcom_push(key="services", value=list(services))
    ti.xcom_push(key="endpoint", value=endpoints[0])
    ti.xcom_push(key="brayns_tunnel", value=tunnel(endpoints[0], login_of(operator), operator.read_settings().route))
    for service in services:
        operator.log.info("braynsService %s is usable at %s", service["version"], service["endpoint"])
    return endpoints


def login_of(operator: BraynsOperator) -> Login | None:
    """The login node, for the tunnel command."""
    ssh_conn_id = operator.read_settings().ssh_conn_id
    if not ssh_conn_id:
        return None
    found = operator.hook.login(ssh_conn_id)
    return Login(found.username, found.host, found.port)


class BraynsServiceOperator(AllocateNodesOperator):
    """Allocates nodes, starts a braynsService on each and waits until they are usable: one task, one deferral.

    Pushes `return_value`: list of `"host:port"` in node order; `endpoint`: the first one; `services`: a list of dicts
    {endpoint, node, job_id, service, version, plugins, generation, log, ends_at}; `allocation`. If it fails after it
    submitted, it gives the nodes back itself. When it succeeds they are yours: `brayns_service(...)` puts the release in.

    :param plugins: plugins that each service must have loaded (templated)
    :param nodes: how many nodes, a service each (templated)
    :param deferrable: wait in the triggerer, without a worker slot.
    :param patience: with `deferrable`: seconds to wait in the worker first, see `AllocateNodesOperator`.
    """

    template_fields: Sequence[str] = (*AllocateNodesOperator.template_fields, "plugins")
    operator_extra_links = LINKS
    _until = "services"

    def __init__(self, *, plugins: Sequence[str] | str = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plugins = plugins

    def execute(self, context: Context) -> Any:
        """Submit, then wait."""
        try:
            self._plugins = word_list("plugins", self.plugins)
            self.read_settings().service(tuple(self._plugins))
            whole_number("nodes", self.nodes)
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        # Links read these keys when the task defers; that there are none yet is no error.
        context["ti"].xcom_push(key="services", value=[])
        context["ti"].xcom_push(key="brayns_tunnel", value="")
        return super().execute(context)

    async def _wait(self, follower: Follower) -> Any:
        return [service.to_json() for service in await follower.services()]

    def finish(self, context: Context, found: Any) -> list[str]:
        """Hand on the endpoints."""
        started = getattr(context["ti"], "start_date", None)
        if started is not None:
            took("brayns.handover", (datetime.now(UTC) - started).total_seconds())
        return hand_on(self, context, found)


class StartBraynsServiceOperator(BraynsOperator):
    """Starts a braynsService on each node of an allocation, and does not wait; `BraynsServiceSensor` does.

    :param allocation: what `AllocateNodesOperator` returned (templated)
    :param plugins: plugins to load (templated)
    :param service: beginning of the services' names; a second start in the same allocation needs another (templated)
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "allocation", "plugins", "service")

    def __init__(
        self, *, allocation: Any, plugins: Sequence[str] | str = (), service: str = "brayns", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.allocation = allocation
        self.plugins = plugins
        self.service = service

    def execute(self, context: Context) -> dict[str, Any]:
        """Start; the result is the allocation with `services` and `plugins`, for the sensor."""
        booking = booking_of(self.allocation)
        try:
            plugins = word_list("plugins", self.plugins)
            settings = self.read_settings()
            settings.service(tuple(plugins))
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error

        async def main() -> list[str]:
            started = []
            async with self.hook.connect(settings) as poller:
                statuses = await Follower(poller, booking, settings, plugins, self.log).nodes()
                for allocation, status in zip(booking.allocations, statuses, strict=True):
                    for command in service_commands(settings, plugins, len(status.nodes), self.service):
                        await poller.cluster.add_service(allocation, command)
                        started.append(command.name)
            return started

        names = self.block(main())
        return {**booking.to_json(), "services": sorted(set(names)), "plugins": plugins}


class StopBraynsServiceOperator(BraynsOperator):
    """Stops services and keeps the nodes. One that has ended already is success.

    :param started: what `StartBraynsServiceOperator` returned (templated)
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "started")

    def __init__(self, *, started: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.started = started

    def execute(self, context: Context) -> None:
        """Stop each and wait until it has ended."""
        booking, settings = booking_of(self.started), self.read_settings()
        services = started_of(self.started).get("services") or []
        if not services:
            raise AirflowFailException(
                "started: it names no service, so nothing would be stopped. Pass what StartBraynsServiceOperator returned."
            )

        async def main() -> None:
            async with self.hook.connect(settings) as poller:
                for allocation in booking.allocations:
                    for service in services:
                        await poller.cluster.stop_service(allocation, service)

        self.block(main())


# What the release has to share with the setup, to reach the same cluster from the same workers.
_RELEASE_TOO = (
    "cluster_conn_id",
    "scheduler",
    "ssh_conn_id",
    "state_dir",
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

    Makes a `BraynsServiceOperator` as setup and a `ReleaseNodesOperator` as teardown, which runs whatever happened in
    between. `service.output` is the list of endpoints. `<task_id>_done`, which costs nothing, fails with the tasks inside: to
    Airflow the teardown would be the run's last task, and a run whose rendering failed would show green.

    :param task_id: of the setup; the teardown is `<task_id>_release`.
    :param kwargs: arguments of `BraynsServiceOperator`.
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
