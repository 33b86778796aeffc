"""Allocating nodes, and giving them back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, TaskDeferralError, TaskDeferralTimeout

from airflow_brayns.booking import Booking, Follower, book
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.links.cluster import SlurmJobLink
from airflow_brayns.observe import count
from airflow_brayns.operators.base import DEFERRABLE, BraynsOperator, failed, whole_number
from airflow_brayns.settings import is_name
from airflow_brayns.triggers.service import BraynsServiceTrigger


class AllocateNodesOperator(BraynsOperator):
    """Allocates nodes and waits until they are there. A retry, or a clear, finds the allocation that is running.

    Pushes `return_value`: the allocation as a dict, with `nodes`, for the operators that start services in it and for
    `ReleaseNodesOperator`. Give back what it allocates with a teardown, or use `BraynsServiceOperator`.

    :param nodes: how many (templated)
    :param deferrable: wait in the triggerer, without a worker slot.
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "nodes")
    operator_extra_links: Any = (SlurmJobLink(),)

    def __init__(self, *, nodes: int | str = 1, deferrable: bool = DEFERRABLE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nodes = nodes
        self.deferrable = deferrable

    # None: no service is started together with the nodes.
    _plugins: Sequence[str] | None = None

    def execute(self, context: Context) -> Any:
        """Submit, then wait."""
        try:
            booking, found = self.block(self._submit(context))
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        if found is None:
            self.defer(
                trigger=BraynsServiceTrigger(
                    cluster_conn_id=self.cluster_conn_id,
                    overrides=self.waiting_overrides,
                    booking=booking.to_json(),
                    until=self._until,
                    plugins=self._plugins or (),
                    services=None,
                    owner=self.token(context),
                    since=self.now(),
                ),
                method_name="resume",
                kwargs={"booking": booking.to_json()},
                timeout=self.execution_timeout,
            )
        return self.finish(context, booking, found)

    _until: Any = "nodes"

    async def _submit(self, context: Context) -> tuple[Booking, Any]:
        settings = self.read_settings()
        nodes = whole_number("nodes", self.nodes)
        token, name = self.token(context), self.name_for(context)
        settings.request(nodes)
        booking = None
        async with self.hook.connect(settings) as poller:
            try:
                booking = await book(
                    poller.cluster, settings, name, token, nodes=nodes, plugins=self._plugins, about=self.about(context)
                )
                for allocation in booking.allocations:
                    word = "Found the running" if allocation.adopted else "Submitted"
                    self.log.info("%s job %s (%s/%d)", word, allocation.job_id, *allocation.key)
                context["ti"].xcom_push(key="allocation", value=booking.to_json())
                if self.deferrable:
                    return booking, None
                return booking, await self._wait(Follower(poller, booking, settings, self._plugins or (), self.log))
            except (Exception, asyncio.CancelledError):
                await asyncio.shield(self.give_back(poller.cluster, booking, token))
                raise

    async def _wait(self, follower: Follower) -> Any:
        return [node for status in await follower.nodes() for node in status.nodes]

    def resume(self, context: Context, event: dict[str, Any], booking: dict[str, Any] | None = None) -> Any:
        """Comes back from the triggerer."""
        if event["status"] != "success":
            self.give_back_after(event, context)
            failed(event["message"], retry=event["retry"])
        return self.finish(context, Booking.from_json(event["booking"]), event[self._until])

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """A wait that ended by its time-out or in an error still has to give back."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            self.give_back_after(next_kwargs, context)
            raise

    def finish(self, context: Context, booking: Booking, found: Any) -> Any:
        """Hand on the nodes."""
        return {**booking.to_json(), "nodes": list(found)}


class ReleaseNodesOperator(BraynsOperator):
    """Gives nodes back. Idempotent: 'already gone' is success. Use it as a teardown:

    `release.as_teardown(setups=allocate, on_failure_fail_dagrun=True)`: a failed release must not show green.

    :param allocation: what `AllocateNodesOperator` returned, or an allocation's name (templated)
    :param allocated_by: id of the task that allocated, in the same run; needs no XCom, so it also works when that task
        failed half-way (templated)
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "allocation", "allocated_by")

    def __init__(self, *, allocation: Any = None, allocated_by: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allocation = allocation
        self.allocated_by = allocated_by

    def execute(self, context: Context) -> None:
        """Release, and say so."""
        name = self._name(context)

        async def main() -> None:
            async with self.hook.connect(self.read_settings()) as poller:
                await poller.cluster.release(name)

        self.block(main())
        count("brayns.released")
        self.log.info("%s has been given back.", name)

    def _name(self, context: Context) -> str:
        if self.allocated_by:
            return self.name_for(context, self.allocated_by)
        name = self.allocation.get("name") if isinstance(self.allocation, dict) else self.allocation
        if not isinstance(name, str) or not is_name(name):
            raise AirflowFailException(
                f"allocation: {name!r} is no allocation's name. Pass what AllocateNodesOperator returned, or allocated_by."
            )
        return name
