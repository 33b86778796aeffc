"""The base of all operators: the connection's fields as arguments, the owner of an allocation, and running a coroutine
to its end.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

from airflow.sdk import BaseOperator, Context, XComArg, conf
from airflow.sdk.definitions.mappedoperator import MappedOperator

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.owner import About, Owner, RunOf
from airflow_brayns.cluster.request import minutes_of
from airflow_brayns.errors import Stopped
from airflow_brayns.hooks.cluster import BraynsClusterHook, installation_id
from airflow_brayns.hooks.installation import deployment
from airflow_brayns.hooks.supervisor import settle, supervisor_has_gone
from airflow_brayns.services.booking import BookingRequest
from airflow_brayns.services.form import parameters_of, templated
from airflow_brayns.services.release import give_back, not_given_back
from airflow_brayns.services.settings import DEFAULT_CONN_ID, FIELDS, WAITING, ClusterSettings
from airflow_brayns.task import blocking
from airflow_brayns.task.fields import is_set
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.lateness import deferral, startup_of

Result = TypeVar("Result")
# The time for what Airflow is still told when a loop has ended; a task that is killed has 5 s in all.
_SETTLE_SECONDS, _SETTLE_KILLED_SECONDS = 10.0, 0.3
_SUPERVISOR_LOOK_SECONDS = 2.0

DEFERRABLE: bool = conf.getboolean("operators", "default_deferrable", fallback=False)


class BraynsOperator(BaseOperator):
    """The base of all operators that speak to a cluster. Each field of the connection can be given as an argument
    instead (templated, except for ``setup`` and ``container``, which are trusted code).

    :param cluster_conn_id: the id of a connection of type `brayns_cluster`; default `brayns_default` (templated)
    """

    template_fields: Sequence[str] = (
        "cluster_conn_id",
        *templated(FIELDS),
    )
    template_fields_renderers = {"environment": "json", "sbatch_options": "json"}
    ui_color = "#e8f0fb"
    _startup_seconds = 0.0
    allocates: bool = False  # whether `allocated_by` of a release may name a task of this operator

    def __init__(
        self,
        *,
        cluster_conn_id: str = DEFAULT_CONN_ID,
        scheduler: str | None = None,
        ssh_conn_id: str | None = None,
        account: str | None = None,
        partition: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        reservation: str | None = None,
        gres: str | None = None,
        cpus_per_task: int | str | None = None,
        memory: str | int | None = None,
        exclusive: bool | str | None = None,
        time_limit: timedelta | str | int | None = None,
        sbatch_options: Sequence[str] | str | None = None,
        executable: str | None = None,
        setup: str | Sequence[str] | None = None,
        environment: Mapping[str, str] | str | None = None,
        container: str | None = None,
        generation: int | str | None = None,
        log_level: str | None = None,
        max_clients: int | str | None = None,
        port: int | str | None = None,
        node_suffix: str | None = None,
        route: str | None = None,
        node_known_hosts: str | None = None,
        tls: str | None = None,
        tls_certificate_file: str | None = None,
        tls_private_key_file: str | None = None,
        tls_ca: str | None = None,
        state_dir: str | None = None,
        state_dir_parents: str | None = None,
        poll_interval: float | str | None = None,
        idle_limit: timedelta | float | str | None = None,
        start_timeout: timedelta | float | str | None = None,
        queue_timeout: timedelta | float | str | None = None,
        packing: str | None = None,
        min_ready: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        given = locals()
        super().__init__(**kwargs)
        self.cluster_conn_id = cluster_conn_id
        for name in FIELDS:
            setattr(self, name, given[name])
        self._killed = False
        self._main: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._stopped: asyncio.Task[Any] | None = None

    @property
    def overrides(self) -> dict[str, Any]:
        """The connection's fields that were given as arguments."""
        given = {name: value for name in FIELDS if is_set(value := getattr(self, name))}
        if "time_limit" in given:
            given["time_limit"] = minutes_of(given["time_limit"])
        return given

    @property
    def waiting_overrides(self) -> dict[str, Any]:
        """The given fields of the connection that a waiting trigger needs, as plain JSON values."""
        return {name: value for name, value in self.plain_overrides.items() if name in WAITING}

    @property
    def plain_overrides(self) -> dict[str, Any]:
        """All given fields of the connection as plain JSON values, for a trigger that starts services and asks for
        nodes itself.
        """
        return {
            name: value.total_seconds() if isinstance(value, timedelta) else value
            for name, value in self.overrides.items()
        }

    @cached_property
    def hook(self) -> BraynsClusterHook:
        """The cluster's hook."""
        return BraynsClusterHook(self.cluster_conn_id, self.overrides)

    @guarded
    def read_settings(self) -> ClusterSettings:
        """Read the connection, with the overrides on top; a bad value fails the task for good."""
        return self.hook.settings

    @cached_property
    def installation(self) -> str:
        """The mark of this Airflow. Airflow is asked for it once, so it must be read first before a loop runs."""
        return installation_id()

    def about(self, context: Context, task_id: str | None = None, map_index: int | None = None) -> About:
        """The note for the allocations of a task of this run; of this task, and its map index, where none is given."""
        ti = context["ti"]
        if map_index is None:
            map_index = -1 if ti.map_index is None else ti.map_index
        run = RunOf(ti.dag_id, ti.run_id, task_id or ti.task_id)
        return About(self.installation, run, deployment(), map_index)

    def bookings(self) -> list[BookingRequest]:
        """What it asks the cluster for, by its fields: it submits what this says, and `airflow brayns script` prints
        it.

        :raises InvalidSetting: naming the field.
        """
        return []

    def owner_of(self, context: Context) -> Owner:
        """The owner of what this task allocates: this try of the task."""
        return Owner.of(self.about(context), str(context["ti"].id))

    @guarded  # for operators of a DAG's own
    def block(self, main: Coroutine[Any, Any, Result], *, cancellable: bool = True) -> Result:
        """Run a coroutine to its end; `on_kill` cancels it. Our own errors become Airflow's.

        :param cancellable: False for what a kill asks for: giving back.

        Airflow is asked for the SSH connection before, since no question to it may be cancelled, and what it is told in
        between is told when this returns.
        """

        async def watched() -> Result:
            task = asyncio.current_task()
            assert task is not None
            if cancellable:
                self._main = (asyncio.get_running_loop(), task)
                if self._killed:
                    self._stop(task)
            watcher = asyncio.create_task(_end_with_supervisor())
            try:
                return await main
            finally:
                watcher.cancel()

        try:
            if "settings" in self.hook.__dict__:  # where no settings were read, no cluster is needed
                self.hook.prepare()
            return blocking.run(watched(), cancellable=cancellable)
        except asyncio.CancelledError:
            raise Stopped(self.stopped_text) from None
        finally:
            if inspect.getcoroutinestate(main) == inspect.CORO_CREATED:
                main.close()
            self._main = None
            if not settle(_SETTLE_KILLED_SECONDS if self._killed else _SETTLE_SECONDS):
                self.log.warning("Airflow's API server is slow: not all that this task has to tell has been told yet.")

    @property
    def stopped_text(self) -> str:
        """The sentence that says why the task ends when it was told to stop."""
        return "The task was told to stop; what it had allocated was given back."

    def on_kill(self) -> None:
        """Ask the running coroutine to stop, which then gives back itself. Airflow calls this inside a signal handler,
        while the loop runs, so nothing more is done here.
        """
        self._killed = True
        if self._main is not None:
            loop, task = self._main
            loop.call_soon_threadsafe(self._stop, task)

    def _stop(self, task: asyncio.Task[Any]) -> None:
        """Cancel the coroutine, once only: told again while it gives back, it would leave that undone."""
        if self._stopped is not task:
            self._stopped = task
            task.cancel()

    async def give_back(self, cluster: Cluster, owner: Owner) -> None:
        """Give back what this try owns under a name. This raises no error, since another one is on its way."""
        await give_back(cluster, owner, self.log, told_to_stop=self._killed)

    def give_back_now(self, context: Context) -> None:
        """Give back what this try owns, from outside a loop, for a task that fails after its wait. Where the task was
        marked meanwhile Airflow tells it a moment later, and it goes on giving back.
        """
        try:
            self.read_settings()
            owner = self.owner_of(context)

            async def main() -> None:
                async with self.hook.session(self.log) as session:
                    await self.give_back(session.cluster, owner)

            self.block(main(), cancellable=False)
        except Exception as error:
            not_given_back(error, self.log)

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render the fields, but for those that another task has told by `expand_kwargs`: Airflow renders those, too (3.3.2), and
        in what a run brings, such as a file's name, a template would read every connection.
        """
        super()._do_render_template_fields(
            parent, template_fields, context, jinja_env, seen_oids | self._told_by_tasks(context)
        )

    def _told_by_tasks(self, context: Context) -> set[int]:
        """The ids of the values that this instance of a mapped task has from another task's result."""
        mapped = self.dag.task_dict.get(self.task_id) if self.has_dag() else None  # type: ignore[no-untyped-call]
        if not isinstance(mapped, MappedOperator):
            return set()
        told: Any = getattr(mapped.expand_input, "value", None)
        if isinstance(told, list | tuple):  # one of the dicts may be a task's
            told = told[context["ti"].map_index or 0]
        if not isinstance(told, XComArg):
            return set()
        return {id(getattr(self, name, None)) for name in self.template_fields if name not in mapped.partial_kwargs}

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Come back from the triggerer: what the task has said before it left, it says no more."""
        self.hook.quiet = True
        return super().resume_execution(next_method, next_kwargs, context)

    def pre_execute(self, context: Context) -> None:
        """See `BaseOperator.pre_execute`; it notes how long this task took to begin, which tells how busy Airflow is."""
        super().pre_execute(context)
        self._startup_seconds = startup_of(context)

    def deferral(self) -> str:
        """The time from which a trigger holds its event (`BraynsTrigger.hold`), for a task that defers now."""
        return deferral(self._startup_seconds)

    @staticmethod
    def now() -> str:
        """The time as text in ISO 8601, for a wait that may move to another process."""
        return datetime.now(UTC).isoformat()


BraynsOperator.__doc__ = f"{(BraynsOperator.__doc__ or '').rstrip()}\n{parameters_of(FIELDS)}\n    "


async def _end_with_supervisor() -> None:
    """End this process once its supervisor has gone. A task whose supervisor was killed would go on as an orphan:
    whatever it does, Airflow starts the task anew or wants it no more, and its looks would keep the nodes for as long
    as it lives. So it ends as if it had been killed too: a retry finds the allocation, or the keeper ends it.
    """
    while not supervisor_has_gone():  # noqa: ASYNC110 - a socket that another thread reads cannot be awaited
        await asyncio.sleep(_SUPERVISOR_LOOK_SECONDS)
    os._exit(1)
