"""Operators that allocate nodes, give them back, and give back what nobody will give back any more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NoReturn

from airflow.sdk import Context
from airflow.sdk.exceptions import TaskDeferred

from airflow_brayns.cluster.orphans import UNTOLD, Here, Reaped, leftovers, looked_at, reap
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.errors import BraynsError, InvalidSetting, SubmissionLimited, together
from airflow_brayns.hooks.installation import deployment, installation_id, made_of_shared_key
from airflow_brayns.hooks.supervisor import ask
from airflow_brayns.links import keys
from airflow_brayns.links.cluster import SlurmJobLink
from airflow_brayns.operators.release import check_allocating, instances, is_list, is_mapped
from airflow_brayns.services.booking import Booking, BookingRequest, book, check_machine
from airflow_brayns.services.offers import offers_of
from airflow_brayns.services.release import Wanted, release_each, verdict
from airflow_brayns.services.session import Told
from airflow_brayns.services.settings import FINDING, ClusterSettings, is_name, literal
from airflow_brayns.services.tasks import within
from airflow_brayns.services.waiting import Waiting
from airflow_brayns.task.airflow_state import run_state, states_by_key
from airflow_brayns.task.allocating import AllocatingOperator
from airflow_brayns.task.fields import PATIENCE_SECONDS, booking_of, is_set, patience_of, truth_of, whole_number
from airflow_brayns.task.guard import BraynsTaskError, guarded
from airflow_brayns.task.handover import allocation_of, announce, look_again, own_allocation
from airflow_brayns.task.metrics import count, record
from airflow_brayns.task.operator import DEFERRABLE, BraynsOperator
from airflow_brayns.task.wait_report import WaitReport, in_task

_ROOM_SECONDS = 60.0  # after that Slurm is asked again whether it takes another job of a user who is at a limit


class AllocateNodesOperator(AllocatingOperator):
    """Allocates nodes and waits until they are there. A retry, or a clear, finds the allocation that is running.

    It pushes `return_value`: the allocation as a dict, with `nodes`, for the operators that start services in it and
    for `ReleaseNodesOperator`. Give back what it allocates with a teardown, or use `BraynsServiceOperator`.

    :param nodes: how many nodes; default 1 (templated)
    :param deferrable: whether to wait in the triggerer, without a slot; default `[operators] default_deferrable`.
    :param patience: with `deferrable`, seconds to wait in the worker first, 0 to 60; default 5. What comes sooner needs
        no hop to the triggerer; and Airflow can take a task that defers at once for failed (apache/airflow#71580).
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "nodes")
    operator_extra_links: Any = (SlurmJobLink(),)

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

    def bookings(self) -> list[BookingRequest]:
        """See `BraynsOperator.bookings`."""
        return [BookingRequest(self.read_settings(), whole_number("nodes", self.nodes), self._plugins)]

    _until: Any = "nodes"
    # The plugins of the services that are started together with the nodes; None where no service is.
    _plugins: Sequence[str] | None = None

    @guarded
    def execute(self, context: Context) -> Any:
        """Submit, then wait here or in the triggerer. What goes wrong after the submission gives the nodes back."""
        return self._begin(context, self.now())

    @guarded
    def ask_again(self, context: Context, event: Any, since: str) -> Any:
        """Submit once more, after a limit of how much may be submitted was reached.

        :param since: when this was first asked for, in ISO 8601.
        """
        return self._begin(context, since)

    def _begin(self, context: Context, since: str) -> Any:
        try:
            booking, event, told = self.block(
                self._submission(context)
            )  # the coroutine gives back itself when it fails
        except BraynsTaskError as failed:
            if (
                not isinstance(failed.error, SubmissionLimited) or not self.deferrable
            ):  # without a hop it was waited for
                raise
            self.check_killed()
            self._come_again(since, failed)
        try:
            self.check_killed()
            if event is not None:
                return self._hand_over(context, event)
            self.check_wanted(context)
            self._defer(context, booking, since, told)
        except TaskDeferred:
            raise
        except BaseException:
            self.give_back_now(context)
            raise

    def _hand_over(self, context: Context, event: dict[str, Any]) -> Any:
        """Hand on what was found, here or in the triggerer, if it is wanted and still there."""
        record(event.get("waits", {}))
        self.check_wanted(context)
        look_again(self, event)
        handed = self.finish(context, event[self._until])
        self.check_killed()
        return handed

    def _come_again(self, since: str, told: BraynsTaskError) -> NoReturn:
        """Wait without a slot until there may be room for another job.

        :param told: the limit's error, which is raised where `queue_timeout` or `execution_timeout` has passed.
        """
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        pause, limit = _ROOM_SECONDS * random.uniform(0.8, 1.2), self.read_settings().queue_timeout
        waited = (datetime.fromisoformat(self.now()) - datetime.fromisoformat(since)).total_seconds()
        patience = (
            self.execution_timeout.total_seconds() if self.execution_timeout else None
        )  # each deferral begins it anew (3.3.2)
        if any(most is not None and waited + pause > most for most in (limit, patience)):
            raise told
        self.log.info(
            "Slurm takes no more jobs of yours now. It is asked again in %.0f s, without a slot. %s",
            pause,
            told.error.why,
        )
        self.defer(
            trigger=TimeDeltaTrigger(timedelta(seconds=pause)),
            method_name="ask_again",
            kwargs={"since": since},
            timeout=self.execution_timeout,
        )

    def _defer(self, context: Context, booking: Booking, since: str, told: Told) -> None:
        # Imported on use: Airflow's base of triggers costs a DAG file that only names an operator a tenth of a second.
        from airflow_brayns.triggers.service import BraynsServiceTrigger

        self.defer(
            trigger=BraynsServiceTrigger(
                cluster_conn_id=self.cluster_conn_id,
                overrides=self.waiting_overrides,
                booking={**booking.to_json(), "told": told.to_json()},
                until=self._until,
                plugins=self._plugins or (),
                services=None,
                owner=self.owner_of(context).token,
                since=since,
                deferred_at=self.deferral(),
            ),
            method_name="resume",
            timeout=self.execution_timeout,
        )

    def _submission(self, context: Context) -> Coroutine[Any, Any, tuple[Booking, dict[str, Any] | None, Told]]:
        """The coroutine `_submit`; what it needs of Airflow is asked for here, before its loop runs."""
        [asked] = self.bookings()
        asked.jobs()
        patience = patience_of(self.patience) if self.deferrable else None
        return self._submit(context, asked, self.owner_of(context), patience)

    async def _submit(
        self, context: Context, asked: BookingRequest, owner: Owner, patience: float | None
    ) -> tuple[Booking, dict[str, Any] | None, Told]:
        """Submit; return the booking, where the wait was done here the event that a trigger would tell, and what the task's log has shown.

        :param patience: seconds to wait here; None for as long as it takes.
        """
        async with self.hook.session(self.log) as session:
            try:
                booking = await book(
                    session.cluster,
                    asked.settings,
                    owner,
                    nodes=asked.nodes,
                    plugins=asked.plugins,
                    waits_for_room=patience is None,
                )
                await announce(self, context, booking, asked.settings)
                report = WaitReport(in_task(context["ti"], self.log))
                wait = Waiting(session, booking, self._plugins or (), tell=report)
                found = None if patience == 0 else await within(patience, self._wait(wait))
            except BaseException:  # a cancelled submission too: what it did is found by name
                await asyncio.shield(self.let_go(context, session.cluster, owner))
                raise
            if found is None:
                return booking, None, session.told
            event = {self._until: found, "at": self.now(), "booking": booking.to_json(), "waits": wait.waits}
            return booking, event, session.told

    async def _wait(self, wait: Waiting) -> Any:
        return [node for status in await wait.nodes() for node in status.nodes]

    @guarded
    def resume(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on when the trigger's event has come."""
        try:
            if event["status"] != "success":
                raise BraynsError.from_json(event)
            return self._hand_over(context, event)
        except BaseException:
            self.give_back_now(context)
            raise

    def finish(self, context: Context, found: Any) -> Any:
        """Hand on the nodes."""
        allocation = own_allocation(context)
        return {**allocation, "nodes": list(found)}


class ReleaseNodesOperator(BraynsOperator):
    """Gives nodes back. It is idempotent: 'already gone' is success; that nothing was ever there is not. As a teardown:

    `release.as_teardown(setups=allocate, on_failure_fail_dagrun=True)`: a failed release must not show green.

    :param allocation: what `AllocateNodesOperator` returned, a list of that, or an allocation's name (templated)
    :param allocated_by: id of the task that allocated, in the same run; needs no XCom, so it also works when that task
        failed half-way. An id that the DAG does not have fails when the DAG is parsed. Of a mapped task all instances
        are given back; where both are in one mapped group, that of the same index (templated)
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "allocation", "allocated_by")

    def __init__(self, *, allocation: Any = None, allocated_by: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allocation = allocation
        self.allocated_by = allocated_by

    def resolve_template_files(self) -> None:
        """Check `allocated_by`, when the DAG is whole (3.3.2, `DagBag.bag_dag`): what fails here is an import error,
        and the DAG never runs with a release that releases nothing.
        """
        super().resolve_template_files()
        if isinstance(self.allocated_by, str) and "{{" not in self.allocated_by and self.has_dag():  # type: ignore[no-untyped-call]
            check_allocating(self.dag, self.allocated_by, self.task_id)

    @guarded
    def execute(self, context: Context) -> None:
        """Release, judge by what was found, and say so in the log."""
        settings = self.read_settings()
        wanted = self._wanted(context)
        for one in wanted:
            self._check_cluster(settings, one.told)

        async def main() -> list[tuple[Wanted, int]]:
            async with self.hook.session(self.log) as session:
                for one in wanted:
                    if one.told:
                        check_machine(session.cluster, booking_of(one.told).allocations)
                return await release_each(session.cluster, wanted)

        verdicts = [verdict(one, found) for one, found in self.block(main())]
        for said in verdicts:
            self.log.info("%s", said)
        if wrong := [said for said in verdicts if isinstance(said, BraynsError)]:
            raise together(wrong)
        context["ti"].xcom_push(key=keys.RELEASED, value=[one.name for one in wanted])

    def _wanted(self, context: Context) -> list[Wanted]:
        """The bookings that are to be given back."""
        if is_set(self.allocated_by):
            return self._allocated(context, str(self.allocated_by))
        given = (
            literal(self.allocation) if isinstance(self.allocation, str) and "{" in self.allocation else self.allocation
        )
        if is_list(given) and not given:
            self.log.info("allocation: an empty list, so there is nothing to give back.")
        return [self._given(one) for one in (given if is_list(given) else [given])]

    def _allocated(self, context: Context, task_id: str) -> list[Wanted]:
        """The bookings of a task, for whose instances Airflow is asked: a killed one handed on nothing."""
        ti = context["ti"]
        own = -1 if ti.map_index is None else ti.map_index
        task = check_allocating(self.dag, task_id, self.task_id) if self.has_dag() else None  # type: ignore[no-untyped-call]
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
        name = self._given(told).name if told else self.about(context, task_id, index).name
        return Wanted(name, told, state, task_id if index < 0 else f"{task_id}[{index}]")

    def _given(self, allocation: Any) -> Wanted:
        """The booking that somebody handed on, or whose name somebody typed in."""
        text = isinstance(allocation, str) and is_name(allocation)
        name = allocation if text else booking_of(allocation).name
        if not is_name(name):
            raise InvalidSetting(
                "allocation",
                f"{name!r} is no allocation's name.",
                remedy="pass what AllocateNodesOperator returned, or allocated_by.",
            )
        if text:
            return Wanted(str(name), {})
        return Wanted(str(name), dict(literal(allocation) if isinstance(allocation, str) else allocation))

    def _check_cluster(self, settings: ClusterSettings, allocation: Mapping[str, Any]) -> None:
        """Check that the cluster is the one that was booked on: 'nothing there' on another must not show green.

        Airflow says 'no such connection' also when its API server does not answer; then the default is this machine.
        """
        asked = allocation.get("cluster")
        now = {name: getattr(settings, name) for name in FINDING}
        if asked and asked != now:
            raise InvalidSetting(
                "cluster_conn_id",
                f"{self.cluster_conn_id!r} describes another cluster ({now}) than the one that the nodes were "
                f"allocated on ({asked}).",
                remedy="mend the connection, then clear this task.",
                retry=True,
            )


class ReapNodesOperator(BraynsOperator):
    """Finds allocations of this Airflow whose DAG run has ended or was deleted, whose keeper is lost, or whose folder
    has gone, and gives them back. Returns the names of what it found. XCom `brayns_offers` has what the cluster's user may
    ask for (partitions, accounts, QOS, …), which the page *Brayns* offers in its form.

    It finds only what bears this Airflow's mark: nothing of another user, of another Airflow, or submitted by hand. What
    the clone of its database asked for has the same mark, and is only told of in the log.

    :param only_say: whether to only say in the log what would be done; default False (templated)
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "only_say")

    def __init__(self, *, only_say: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.only_say = only_say

    @guarded
    def execute(self, context: Context) -> list[str]:
        """Find what should be given back, and give it back."""
        self.read_settings()
        only_say = truth_of("only_say", self.only_say)
        mark, troubles, offers = installation_id(), list[BraynsError](), dict[str, Any]()
        here = Here(deployment(), made_of_shared_key(mark))
        if not here.deployment:
            self.log.info("%s", UNTOLD)

        async def main() -> list[str]:
            async with self.hook.session(self.log) as session:
                seen, jobs = await session.cluster.survey()
                found = await ask(
                    lambda: leftovers(seen, jobs, mark, lambda run: run_state(run.dag_id, run.run_id), here=here)
                )
                async for one, became in reap(session.cluster, found, really=not only_say):
                    self.log.info("%s, job %s, of %s: %s", one.name, one.job_id, one.run or "an unknown run", one.why)
                    if became is Reaped.FOREIGN:
                        self.log.warning("%s: %s", one.name, one.foreign)
                    elif became is Reaped.GIVEN_BACK:
                        self.log.info("%s: given back", one.name)
                        count("brayns.reaped")
                    elif became is Reaped.TAKEN_OVER:
                        self.log.info("%s was taken over meanwhile; left alone", one.name)
                    elif isinstance(became, BraynsError):
                        troubles.append(became)
                self.log.info("%s", looked_at(len(seen), len(jobs), len(found)))
                with suppress(BraynsError, TimeoutError):  # a form that offers less is no fault
                    offers.update(await offers_of(session.cluster))
                return [one.name for one in found if not one.foreign]

        names = self.block(main())
        if offers:
            context["ti"].xcom_push(key=keys.OFFERS, value={self.cluster_conn_id: offers})
        if troubles:
            raise together(troubles)
        return names
