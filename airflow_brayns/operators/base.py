"""What the operators share: the connection's fields as arguments, who owns an allocation, blocking without a second copy."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import reprlib
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NoReturn, TypeVar

from airflow.sdk import BaseOperator, Context, conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_brayns.booking import Booking, booking_name
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.keeper import IDLE_END
from airflow_brayns.errors import BraynsError, InvalidSetting, reason_of
from airflow_brayns.hooks.cluster import WAITING_FIELDS, BraynsClusterHook, installation_id
from airflow_brayns.hooks.installation import deployment
from airflow_brayns.observe import count
from airflow_brayns.operators import blocking
from airflow_brayns.settings import DEFAULT_CONN_ID, ClusterSettings, literal
from airflow_brayns.supervisor import settle
from airflow_brayns.task_state import supervisor_has_gone

Result = TypeVar("Result")
_KILL_SECONDS = 4.0
# For what Airflow is still told when a loop has ended; a task that is killed has 5 s in all.
_SETTLE_SECONDS, _SETTLE_KILLED_SECONDS = 10.0, 0.3
_SUPERVISOR_LOOK_SECONDS = 2.0
PATIENCE_SECONDS, MOST_PATIENCE_SECONDS = 5.0, 60.0  # a longer wait is the triggerer's

OVERRIDES = tuple(ClusterSettings.model_fields)
DEFERRABLE: bool = conf.getboolean("operators", "default_deferrable", fallback=False)


def whole_number(field: str, value: Any) -> int:
    """A number that may have been templated.

    :raises InvalidSetting: naming the field.
    """
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidSetting(field, f"must be a whole number, not {reprlib.repr(value)}") from None


def is_set(value: Any) -> bool:
    """Whether a field has a value: a template of nothing renders to None, to nothing, or to the word None."""
    return value is not None and value not in ("", "None")


def word_list(field: str, value: Any) -> list[str]:
    """A list of texts that may have been templated: a list, a list as text, or words between commas.

    :raises InvalidSetting: naming the field.
    """
    if not is_set(value):
        return []
    if isinstance(value, str):
        text = value.strip()
        value = literal(text) if text.startswith(("[", "(")) else [word.strip() for word in text.split(",")]
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise InvalidSetting(field, f"must be a list of texts, not {reprlib.repr(value)}")
    return list(value)


def patience_of(value: Any) -> float:
    """How long a deferrable task waits in the worker first, in seconds.

    :raises InvalidSetting: naming the field.
    """
    try:
        seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidSetting("patience", f"must be a number of seconds, not {reprlib.repr(value)}") from None
    if not 0 <= seconds <= MOST_PATIENCE_SECONDS:  # NaN is neither
        raise InvalidSetting("patience", f"must be from 0 to {MOST_PATIENCE_SECONDS:.0f} seconds, not {seconds:g}")
    return seconds


def booking_of(value: Any) -> Booking:
    """The allocation that a task before handed on, however it was templated.

    :raises AirflowFailException: it is not one.
    """
    found = literal(value) if isinstance(value, str) else value
    try:
        return Booking.from_json(found)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise AirflowFailException(
            f"allocation: {str(value)[:80]!r} is not what AllocateNodesOperator or StartBraynsServiceOperator returned."
        ) from None


def started_of(value: Any) -> dict[str, Any]:
    """What `StartBraynsServiceOperator` handed on, however it was templated."""
    booking_of(value)
    return dict(literal(value) if isinstance(value, str) else value)


def failed(message: str, *, retry: bool) -> NoReturn:
    """End the task with a message; without retries where a retry cannot help."""
    if IDLE_END in message:
        count("brayns.released_idle")
    raise (AirflowException if retry else AirflowFailException)(message)


class BraynsOperator(BaseOperator):
    """Base of the operators that speak to a cluster. Each field of the connection can be given here instead.

    :param cluster_conn_id: connection of type `brayns_cluster` (templated)
    :param scheduler: and every other field of the connection, ``ssh_conn_id`` to ``min_ready``: another value than the
        connection's, see `airflow_brayns.settings.ClusterSettings` (templated, except for ``setup`` and ``container``, which are
        trusted code)
    """

    template_fields: Sequence[str] = (
        "cluster_conn_id",
        *(name for name in OVERRIDES if name not in ("setup", "container")),
    )
    template_fields_renderers = {"environment": "json", "sbatch_options": "json"}
    ui_color = "#e8f0fb"
    allocates: bool = False  # whether it may be named by `allocated_by` of a release

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
        super().__init__(**kwargs)
        self.cluster_conn_id = cluster_conn_id
        self.scheduler = scheduler
        self.ssh_conn_id = ssh_conn_id
        self.account = account
        self.partition = partition
        self.qos = qos
        self.constraint = constraint
        self.reservation = reservation
        self.gres = gres
        self.cpus_per_task = cpus_per_task
        self.memory = memory
        self.exclusive = exclusive
        self.time_limit = time_limit
        self.sbatch_options = sbatch_options
        self.executable = executable
        self.setup = setup
        self.environment = environment
        self.container = container
        self.generation = generation
        self.log_level = log_level
        self.max_clients = max_clients
        self.port = port
        self.node_suffix = node_suffix
        self.route = route
        self.node_known_hosts = node_known_hosts
        self.tls = tls
        self.tls_certificate_file = tls_certificate_file
        self.tls_private_key_file = tls_private_key_file
        self.tls_ca = tls_ca
        self.state_dir = state_dir
        self.state_dir_parents = state_dir_parents
        self.poll_interval = poll_interval
        self.idle_limit = idle_limit
        self.start_timeout = start_timeout
        self.queue_timeout = queue_timeout
        self.packing = packing
        self.min_ready = min_ready
        self._killed = False
        self._main: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._stopped: asyncio.Task[Any] | None = None

    @property
    def overrides(self) -> dict[str, Any]:
        """The connection's fields that were given here."""
        return {name: value for name in OVERRIDES if is_set(value := getattr(self, name))}

    @property
    def waiting_overrides(self) -> dict[str, Any]:
        """Those of them that a trigger needs, as plain JSON."""
        return {name: value for name, value in self.plain_overrides.items() if name in WAITING_FIELDS}

    @property
    def plain_overrides(self) -> dict[str, Any]:
        """All of them as plain JSON, for a trigger that starts services and asks for nodes itself."""
        return {
            name: value.total_seconds() if isinstance(value, timedelta) else value
            for name, value in self.overrides.items()
        }

    @cached_property
    def hook(self) -> BraynsClusterHook:
        """The cluster's hook."""
        return BraynsClusterHook(self.cluster_conn_id, self.overrides)

    def read_settings(self) -> ClusterSettings:
        """The connection with the overrides on top; a bad value fails the task for good."""
        try:
            return self.hook.settings
        except InvalidSetting as error:
            failed(str(error), retry=error.retry)

    @cached_property
    def installation(self) -> str:
        """Which Airflow this is; Airflow is asked once, so the first look must be before a loop runs."""
        return installation_id()

    def name_for(self, context: Context, task_id: str | None = None, map_index: int | None = None) -> str:
        """The name of the booking of a task of this run; of this task's map index where none is given."""
        ti = context["ti"]
        if map_index is None:
            map_index = -1 if ti.map_index is None else ti.map_index
        return booking_name(self.installation, ti.dag_id, ti.run_id, task_id or ti.task_id, map_index)

    def about(self, context: Context) -> str:
        """What the allocation is for, for those who find it on the cluster."""
        ti = context["ti"]
        text = {"installation": self.installation, "dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id}
        text["deployment"] = deployment()
        return json.dumps({**text, "map_index": -1 if ti.map_index is None else ti.map_index})

    @staticmethod
    def token(context: Context) -> str:
        """Who owns the allocation: this try of this task."""
        return str(context["ti"].id)

    def block(self, main: Coroutine[Any, Any, Result], *, cancellable: bool = True) -> Result:
        """Run a coroutine to its end; `on_kill` cancels it. Our own errors become Airflow's.

        :param cancellable: False for what a kill asks for: giving back.

        Airflow is asked for the SSH connection before, since no question to it may be cancelled, and what it is told in
        between is told when this returns.
        """

        async def guarded() -> Result:
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
            if "settings" in self.hook.__dict__:  # else it needs no cluster
                self.hook.prepare()
            return blocking.run(guarded())
        except BraynsError as error:
            failed(str(error), retry=error.retry)
        except asyncio.CancelledError:
            raise AirflowException(self.stopped_text) from None
        finally:
            if inspect.getcoroutinestate(main) == inspect.CORO_CREATED:
                main.close()
            self._main = None
            if not settle(_SETTLE_KILLED_SECONDS if self._killed else _SETTLE_SECONDS):
                self.log.warning("Airflow's API server is slow: not all that this task has to tell has been told yet.")

    @property
    def stopped_text(self) -> str:
        """Why the task ends when it was told to."""
        return "The task was told to stop; what it had allocated was given back."

    def on_kill(self) -> None:
        """Comes inside a signal handler while the loop runs: only asks the coroutine to stop; it gives back itself."""
        self._killed = True
        if self._main is not None:
            loop, task = self._main
            loop.call_soon_threadsafe(self._stop, task)

    def _stop(self, task: asyncio.Task[Any]) -> None:
        """Once: told again while it gives back, it would leave that undone."""
        if self._stopped is not task:
            self._stopped = task
            task.cancel()

    async def give_back(self, cluster: Cluster, name: str, token: str) -> None:
        """Give back what this try owns under a name; never raises, since another error is on its way."""
        try:
            async with asyncio.timeout(_KILL_SECONDS):
                if number := await cluster.cancel(name, token):
                    self.log.info("%s: %d job(s) given back.", name, number)
        except (BraynsError, TimeoutError) as error:
            self._not_given_back(error)

    def _not_given_back(self, error: BaseException) -> None:
        self.log.warning(
            "The nodes could not be given back now; the keeper ends them when they stay unused: %s", reason_of(error)
        )

    def give_back_now(self, context: Context) -> None:
        """The same from outside a loop: for a task that fails after its wait. Marked meanwhile, Airflow tells it so a moment
        later: that is no reason to stop giving back.
        """
        try:
            settings, name, token = self.read_settings(), self.name_for(context), self.token(context)

            async def main() -> None:
                async with self.hook.connect(settings) as poller:
                    await self.give_back(poller.cluster, name, token)

            self.block(main(), cancellable=False)
        except Exception as error:
            self._not_given_back(error)

    @staticmethod
    def now() -> str:
        """The time, for a wait that may move."""
        return datetime.now(UTC).isoformat()


async def _end_with_supervisor() -> None:
    """A task whose supervisor was killed goes on as an orphan: whatever it does, Airflow starts the task anew or wants it no
    more, and its looks would keep the nodes for as long as it lives. So it ends as if it had been killed too: a retry finds
    the allocation, or the keeper ends it.
    """
    while not supervisor_has_gone():  # noqa: ASYNC110 - a socket that another thread reads cannot be awaited
        await asyncio.sleep(_SUPERVISOR_LOOK_SECONDS)
    os._exit(1)
