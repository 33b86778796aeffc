"""Allocating nodes, and giving them back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
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
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.errors import ConnectionLost, InvalidSetting, reason_of
from airflow_brayns.follow import Follower
from airflow_brayns.hooks.cluster import IDENTITY
from airflow_brayns.links.cluster import SlurmJobLink
from airflow_brayns.links.texts import jobs
from airflow_brayns.observe import record
from airflow_brayns.operators.base import (
    DEFERRABLE,
    PATIENCE_SECONDS,
    BraynsOperator,
    booking_of,
    failed,
    is_set,
    patience_of,
    whole_number,
)
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
from airflow_brayns.supervisor import ask
from airflow_brayns.task_state import next_try_comes, states_by_key, states_of

_PROVEN_SECONDS = 5.0  # so old a proof may be
_LOOK_SECONDS = 20.0
_STATE_SECONDS = 1.0  # for Airflow's answer when the task is told to stop: it has 5 s in all


class AllocateNodesOperator(BraynsOperator):
    """Allocates nodes and waits until they are there. A retry, or a clear, finds the allocation that is running.

    Pushes `return_value`: the allocation as a dict, with `nodes`, for the operators that start services in it and for
    `ReleaseNodesOperator`. Give back what it allocates with a teardown, or use `BraynsServiceOperator`.

    :param nodes: how many (templated)
    :param deferrable: wait in the triggerer, without a worker slot.
    :param patience: with `deferrable`: seconds to wait in the worker first, 0 to 60. What comes within them needs no hop to
        the triggerer and back, and Airflow can take a task that defers at once for failed (apache/airflow#71580).
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "nodes")
    operator_extra_links: Any = (SlurmJobLink(),)
    allocates = True

    def __init__(
        self,
        *,
        nodes: int | str = 1,
        deferrable: bool = DEFERRABLE,
        patience: float | timedelta = PATIENCE_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.nodes = nodes
        self.deferrable = deferrable
        self.patience = patience
        self._kept = False

    _until: Any = "nodes"
    # None: no service is started together with the nodes.
    _plugins: Sequence[str] | None = None

    def execute(self, context: Context) -> Any:
        """Submit, then wait here or in the triggerer. Whatever goes wrong after the submission gives the nodes back."""
        since = self.now()
        booking, event = self.block(self._submission(context))  # gives back itself when it fails
        try:
            self._check_killed()
            if event is not None:
                return self._hand_over(context, event)
            self._check_wanted(context)
            self._defer(context, booking, since)
        except TaskDeferred:
            raise
        except BaseException:
            self.give_back_now(context)
            raise

    def _hand_over(self, context: Context, event: dict[str, Any]) -> Any:
        """What was found, if it is wanted and still there, whichever way it came."""
        record(event.get("waits", {}))
        self._check_wanted(context)
        look_again(self, event)
        handed = self.finish(context, event[self._until])
        self._check_killed()
        return handed

    def _check_killed(self) -> None:
        if self._killed:
            raise AirflowException(self.stopped_text)

    def _check_wanted(self, context: Context) -> None:
        """Whether the task has been marked or cleared meanwhile: Airflow tells it so only every few seconds, then refuses its
        success, and nobody would give back.
        """
        try:
            states = states_of(context["ti"])
        except Exception as error:  # not being able to ask is no reason to fail
            self.log.debug("Airflow does not say what became of the task: %s", reason_of(error))
            return
        if "running" in states:
            return
        words = ", ".join(sorted(states)) or "deleted"
        if next_try_comes(states):
            self._killed = True  # as it is about to be told
            raise AirflowException(f"The task is {words} by now; its next try finds the nodes.")
        raise AirflowException(f"The task is {words} by now, so nobody wants the nodes; they were given back.")

    def give_back_now(self, context: Context) -> None:
        """Unless the next try comes, and finds the nodes."""
        if self._killed and self._keeps(self._states(context)):
            return
        super().give_back_now(context)

    async def _let_go(self, context: Context, cluster: Cluster, name: str, token: str) -> None:
        """The same in a loop."""
        states = set[str]()
        if self._killed:
            try:
                async with asyncio.timeout(_STATE_SECONDS):
                    states = await ask(partial(self._states, context))
            except TimeoutError:
                self.log.info("Airflow does not say in time what becomes of the task.")
        if not self._keeps(states):
            await self.give_back(cluster, name, token)

    def _states(self, context: Context) -> set[str]:
        try:
            return states_of(context["ti"])
        except Exception as error:
            self.log.info("Airflow does not say what became of the task: %s", reason_of(error))
            return set()

    def _keeps(self, states: set[str]) -> bool:
        """Whether a next try is coming, soon enough to find what is there. Airflow can take a task for failed that has just
        come back from the triggerer, and stop it (apache/airflow#71580): giving back would cost a second place in the queue.
        """
        pause = self.retry_delay.total_seconds() if "up_for_retry" in states else 0.0
        self._kept = next_try_comes(states) and pause < self.read_settings().idle_limit
        if self._kept:
            self.log.info("The task is %s: the nodes stay for its next try.", ", ".join(sorted(states)))
        return self._kept

    @property
    def stopped_text(self) -> str:
        """See `BraynsOperator.stopped_text`."""
        return "The task was told to stop; its next try finds the nodes." if self._kept else super().stopped_text

    def _defer(self, context: Context, booking: Booking, since: str) -> None:
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
                since=since,
                deferred_at=self.now(),
            ),
            method_name="resume",
            timeout=self.execution_timeout,
        )

    def _submission(self, context: Context) -> Coroutine[Any, Any, tuple[Booking, dict[str, Any] | None]]:
        """What `_submit` needs of Airflow is asked for here, before its loop runs."""
        settings = self.read_settings()
        try:
            nodes = whole_number("nodes", self.nodes)
            settings.request(nodes)
            patience = patience_of(self.patience) if self.deferrable else None
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        return self._submit(context, settings, nodes, self.name_for(context), self.about(context), patience)

    async def _submit(
        self, context: Context, settings: ClusterSettings, nodes: int, name: str, about: str, patience: float | None
    ) -> tuple[Booking, dict[str, Any] | None]:
        """The booking, and what was found if it was awaited here: as the trigger tells it.

        :param patience: seconds to wait here; None for as long as it takes.
        """
        token = self.token(context)
        async with self.hook.connect(settings) as poller:
            try:
                booking = await book(
                    poller.cluster, settings, name, token, nodes=nodes, plugins=self._plugins, about=about
                )
                await announce(self, context, booking, settings)
                follower = Follower(poller, booking, settings, self._plugins or (), self.log)
                found = await self._wait_here(follower, patience)
            except BaseException:  # a cancelled submission too: what it did is found by name
                await asyncio.shield(self._let_go(context, poller.cluster, name, token))
                raise
            if found is None:
                return booking, None
            event = {self._until: found, "at": self.now(), "booking": booking.to_json(), "waits": follower.waits}
            return booking, event

    async def _wait_here(self, follower: Follower, patience: float | None) -> Any:
        """What is found; None where it takes longer than `patience`."""
        if patience == 0:
            return None
        try:
            async with asyncio.timeout(patience) as limit:
                return await self._wait(follower)
        except TimeoutError:
            if not limit.expired():
                raise
            return None

    async def _wait(self, follower: Follower) -> Any:
        return [node for status in await follower.nodes() for node in status.nodes]

    def resume(self, context: Context, event: dict[str, Any]) -> Any:
        """Comes back from the triggerer."""
        try:
            if event["status"] != "success":
                failed(event["message"], retry=event["retry"])
            return self._hand_over(context, event)
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
    """Before each hand-over: what was found may have ended since. A deferred task waits for a free worker, a blocking one for
    connections that stall when they are closed.

    :param event: what was found, and when, as a trigger tells it.
    :raises AirflowException: it has.
    """
    if is_fresh(event):
        return
    booking, at, settings = Booking.from_json(event["booking"]), event.get("at"), operator.read_settings()

    async def main() -> None:
        try:
            async with operator.hook.connect(settings) as poller:
                follower = Follower(poller, booking, settings, (), operator.log)
                async with asyncio.timeout(_LOOK_SECONDS):
                    there = await follower.still_there(event.get("services"))
                await follower.still_answer(there)
        except (ConnectionLost, TimeoutError) as error:
            operator.log.warning(
                "Handed on as it was found at %s; it cannot be looked at again: %s", at, reason_of(error)
            )

    operator.block(main())


def is_fresh(event: dict[str, Any]) -> bool:
    """Whether what an event tells was proved a moment ago; events of an older version know no time."""
    at = event.get("at")
    return at is not None and 0 <= (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds() < _PROVEN_SECONDS


async def announce(operator: BraynsOperator, context: Context, booking: Booking, settings: ClusterSettings) -> None:
    """Say what was submitted, in the log and in XCom: now, for who looks while the task waits."""
    for allocation in booking.allocations:
        word = "Found the running" if allocation.adopted else "Submitted"
        operator.log.info("%s job %s (%s/%d)", word, allocation.job_id, *allocation.key)
    if hasattr(operator, "plugins"):  # it starts services
        operator.log.info("%s", settings.who_can_reach())
    ti = context["ti"]
    cluster = {name: getattr(settings, name) for name in IDENTITY}
    plugins = list(getattr(operator, "_plugins", None) or [])
    told = {**booking.to_json(), "cluster": cluster, "plugins": plugins}

    def push() -> None:
        ti.xcom_push(key="allocation", value=told)
        ti.xcom_push(key="brayns_jobs", value=jobs([one.job_id for one in booking.allocations]))

    await ask(push)


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
