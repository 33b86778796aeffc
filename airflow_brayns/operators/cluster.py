"""Allocating nodes, and giving them back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    TaskDeferralError,
    TaskDeferralTimeout,
    TaskDeferred,
)

from airflow_brayns.booking import Booking, book
from airflow_brayns.errors import ConnectionLost, InvalidSetting
from airflow_brayns.follow import Follower
from airflow_brayns.hooks.cluster import IDENTITY
from airflow_brayns.links.cluster import SlurmJobLink
from airflow_brayns.links.texts import jobs
from airflow_brayns.observe import record
from airflow_brayns.operators.base import DEFERRABLE, BraynsOperator, booking_of, failed, is_set, whole_number
from airflow_brayns.operators.release import (
    Wanted,
    check_allocating,
    instances,
    is_list,
    is_mapped,
    release_each,
    verdict,
)
from airflow_brayns.settings import ClusterSettings, is_name, literal
from airflow_brayns.task_state import states_by_key, states_of

_PROVEN_SECONDS = 5.0  # so old a proof may be
_LOOK_SECONDS = 20.0


class AllocateNodesOperator(BraynsOperator):
    """Allocates nodes and waits until they are there. A retry, or a clear, finds the allocation that is running.

    Pushes `return_value`: the allocation as a dict, with `nodes`, for the operators that start services in it and for
    `ReleaseNodesOperator`. Give back what it allocates with a teardown, or use `BraynsServiceOperator`.

    :param nodes: how many (templated)
    :param deferrable: wait in the triggerer, without a worker slot.
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "nodes")
    operator_extra_links: Any = (SlurmJobLink(),)
    allocates = True

    def __init__(self, *, nodes: int | str = 1, deferrable: bool = DEFERRABLE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nodes = nodes
        self.deferrable = deferrable

    _until: Any = "nodes"
    # None: no service is started together with the nodes.
    _plugins: Sequence[str] | None = None

    def execute(self, context: Context) -> Any:
        """Submit, then wait here or in the triggerer. Whatever goes wrong after the submission gives the nodes back."""
        booking, found = self.block(self._submit(context))  # gives back itself when it fails
        try:
            if self._killed:
                raise AirflowException("The task was told to stop; what it had allocated was given back.")
            self._check_wanted(context)
            if found is None:
                self._defer(context, booking)
            return self.finish(context, found)
        except TaskDeferred:
            raise
        except BaseException:
            self.give_back_now(context)
            raise

    def _check_wanted(self, context: Context) -> None:
        """Whether the task has been marked or cleared meanwhile: Airflow tells it so only every few seconds, then refuses its
        success, and nobody would give back.
        """
        try:
            states = states_of(context["ti"])
        except Exception as error:  # not being able to ask is no reason to fail
            self.log.debug("Airflow does not say what became of the task: %s", error)
            return
        if "running" not in states:
            raise AirflowException(
                f"The task is {', '.join(states) or 'deleted'} by now, so nobody wants the nodes; they were given back."
            )

    def _defer(self, context: Context, booking: Booking) -> None:
        # Here, since Airflow's base of triggers costs whoever only names an operator a tenth of a second.
        from airflow_brayns.triggers.service import BraynsServiceTrigger

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
            timeout=self.execution_timeout,
        )

    async def _submit(self, context: Context) -> tuple[Booking, Any]:
        settings = self.read_settings()
        nodes = whole_number("nodes", self.nodes)
        settings.request(nodes)
        name, token = self.name_for(context), self.token(context)
        async with self.hook.connect(settings) as poller:
            try:
                booking = await book(
                    poller.cluster, settings, name, token, nodes=nodes, plugins=self._plugins, about=self.about(context)
                )
                announce(self, context, booking, settings)
                if self.deferrable:
                    return booking, None
                follower = Follower(poller, booking, settings, self._plugins or (), self.log)
                found = await self._wait(follower)
                record(follower.waits)
                return booking, found
            except BaseException:  # a cancelled submission too: what it did is found by name
                await asyncio.shield(self.give_back(poller.cluster, name, token))
                raise

    async def _wait(self, follower: Follower) -> Any:
        return [node for status in await follower.nodes() for node in status.nodes]

    def resume(self, context: Context, event: dict[str, Any]) -> Any:
        """Comes back from the triggerer."""
        try:
            if event["status"] != "success":
                failed(event["message"], retry=event["retry"])
            record(event.get("waits", {}))
            self._check_wanted(context)
            look_again(self, event)
            return self.finish(context, event[self._until])
        except BaseException:
            self.give_back_now(context)
            raise

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """A wait that ended by its time-out, or in an error of the triggerer, still has to give back."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            self.give_back_now(context)
            raise

    def finish(self, context: Context, found: Any) -> Any:
        """Hand on the nodes."""
        allocation = own_allocation(context)
        return {**allocation, "nodes": list(found)}


def look_again(operator: BraynsOperator, event: dict[str, Any]) -> None:
    """Before a hand-over that had to wait for a free worker: what the trigger found may have ended since.

    :raises AirflowException: it has.
    """
    at = event.get("at")
    if at and (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds() < _PROVEN_SECONDS:
        return
    booking = Booking.from_json(event["booking"])

    async def main() -> None:
        settings = operator.read_settings()
        try:
            async with operator.hook.connect(settings) as poller:
                follower = Follower(poller, booking, settings, (), operator.log)
                async with asyncio.timeout(_LOOK_SECONDS):
                    there = await follower.still_there(event.get("services"))
                await follower.still_answer(there)
        except (ConnectionLost, TimeoutError) as error:
            operator.log.warning("Handed on as it was found at %s; it cannot be looked at again: %s", at, error)

    operator.block(main())


def announce(operator: BraynsOperator, context: Context, booking: Booking, settings: ClusterSettings) -> None:
    """Say what was submitted, in the log and in XCom."""
    for allocation in booking.allocations:
        word = "Found the running" if allocation.adopted else "Submitted"
        operator.log.info("%s job %s (%s/%d)", word, allocation.job_id, *allocation.key)
    if hasattr(operator, "plugins"):  # it starts services
        operator.log.info("%s", settings.who_can_reach())
    ti = context["ti"]
    cluster = {name: getattr(settings, name) for name in IDENTITY}
    plugins = list(getattr(operator, "_plugins", None) or [])
    ti.xcom_push(key="allocation", value={**booking.to_json(), "cluster": cluster, "plugins": plugins})
    ti.xcom_push(key="brayns_jobs", value=jobs([one.job_id for one in booking.allocations]))


def own_allocation(context: Context) -> dict[str, Any]:
    """The XCom `allocation` of this task; empty if there is none."""
    ti = context["ti"]
    return allocation_of(ti, ti.task_id, -1 if ti.map_index is None else ti.map_index)


def allocation_of(ti: Any, task_id: str, map_index: int) -> dict[str, Any]:
    """The XCom `allocation` of a task in the run of `ti`; empty if there is none."""
    value = ti.xcom_pull(task_ids=task_id, key="allocation", map_indexes=map_index)
    return dict(value) if isinstance(value, dict) else {}


class ReleaseNodesOperator(BraynsOperator):
    """Gives nodes back. Idempotent: 'already gone' is success; that nothing was ever there is not. Use it as a teardown:

    `release.as_teardown(setups=allocate, on_failure_fail_dagrun=True)`: a failed release must not show green.

    :param allocation: what `AllocateNodesOperator` returned, a list of that, or an allocation's name (templated)
    :param allocated_by: id of the task that allocated, in the same run; needs no XCom, so it also works when that task
        failed half-way. An id that the DAG does not have fails when the DAG is parsed. Of a mapped task all instances are
        given back; where both are in one mapped group, that of the same index (templated)
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "allocation", "allocated_by")

    def __init__(self, *, allocation: Any = None, allocated_by: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allocation = allocation
        self.allocated_by = allocated_by

    def resolve_template_files(self) -> None:
        """Airflow calls it when the DAG has been parsed and is whole (3.3.2, `DagBag.bag_dag`): what fails here is an import
        error, and the DAG never runs with a release that releases nothing.
        """
        super().resolve_template_files()
        if isinstance(self.allocated_by, str) and "{{" not in self.allocated_by and self.has_dag():  # type: ignore[no-untyped-call]
            check_allocating(self.dag, self.allocated_by, self.task_id)

    def execute(self, context: Context) -> None:
        """Release, look at what was found, and say so."""
        settings = self.read_settings()
        wanted = self._wanted(context)
        for one in wanted:
            self._check_cluster(settings, one.told)

        async def main() -> list[tuple[Wanted, int]]:
            async with self.hook.connect(settings) as poller:
                return await release_each(poller.cluster, wanted)

        told = [verdict(one, found) for one, found in self.block(main())]
        for _, _, text in told:
            self.log.info("%s", text)
        if wrong := [(retry, text) for right, retry, text in told if not right]:
            failed("\n".join(text for _, text in wrong), retry=any(retry for retry, _ in wrong))

    def _wanted(self, context: Context) -> list[Wanted]:
        """What is to be given back."""
        if is_set(self.allocated_by):
            return self._allocated(context, str(self.allocated_by))
        given = (
            literal(self.allocation) if isinstance(self.allocation, str) and "{" in self.allocation else self.allocation
        )
        if is_list(given) and not given:
            self.log.info("allocation: an empty list, so there is nothing to give back.")
        return [self._given(one) for one in (given if is_list(given) else [given])]

    def _allocated(self, context: Context, task_id: str) -> list[Wanted]:
        """By the task's id; its instances are asked for, since one that was killed half-way handed on nothing."""
        ti = context["ti"]
        own = -1 if ti.map_index is None else ti.map_index
        try:
            task = check_allocating(self.dag, task_id, self.task_id) if self.has_dag() else None  # type: ignore[no-untyped-call]
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        states = instances(states_by_key(ti, task_id), task_id)
        if task is None or (is_mapped(task) and own >= 0):
            chosen = [own]
        elif is_mapped(task):
            chosen = sorted(states) or [-1]
        else:
            chosen = [-1]
        return [
            self._instance(context, task_id, index, states.get(index, "None" if states else "")) for index in chosen
        ]

    def _instance(self, context: Context, task_id: str, index: int, state: str) -> Wanted:
        told = allocation_of(context["ti"], task_id, index)
        name = self._given(told).name if told else self.name_for(context, task_id, index)
        return Wanted(name, told, state, task_id if index < 0 else f"{task_id}[{index}]")

    def _given(self, allocation: Any) -> Wanted:
        """What somebody handed on, or typed in."""
        text = isinstance(allocation, str) and is_name(allocation)
        name = allocation if text else booking_of(allocation).name
        if not is_name(name):
            raise AirflowFailException(
                f"allocation: {name!r} is no allocation's name. Pass what AllocateNodesOperator returned, or allocated_by."
            )
        if text:
            return Wanted(str(name), {})
        return Wanted(str(name), dict(literal(allocation) if isinstance(allocation, str) else allocation))

    def _check_cluster(self, settings: ClusterSettings, allocation: Mapping[str, Any]) -> None:
        """'Nothing there' on another cluster must not show green: Airflow also says 'no such connection' when its API
        server does not answer, and then the default is this machine."""
        asked = allocation.get("cluster")
        now = {name: getattr(settings, name) for name in IDENTITY}
        if asked and asked != now:
            failed(
                f"cluster_conn_id: {self.cluster_conn_id!r} describes another cluster ({now}) than the one that the nodes were "
                f"allocated on ({asked}). Mend the connection, then clear this task.",
                retry=True,
            )
