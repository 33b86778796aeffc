"""The hook, which reads a `brayns_cluster` connection and makes the cluster that it describes."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.shell import LocalShell, Shell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.ssh import SSHShell
from airflow_brayns.errors import InvalidSetting, reason_of
from airflow_brayns.hooks.installation import deployment
from airflow_brayns.hooks.installation import installation_id as installation_id
from airflow_brayns.hooks.login import SSHLogin
from airflow_brayns.hooks.supervisor import ask, asks_in_process, asks_in_worker, is_silent_about, lacks_connection
from airflow_brayns.services.connection_test import Finding, try_connection
from airflow_brayns.services.session import ReadLogin, Session, Told, shared_poller
from airflow_brayns.services.settings import CONNECTION_TYPE, DEFAULT_CONN_ID, ClusterSettings, embedded_default

if TYPE_CHECKING:
    import asyncssh


class BraynsClusterHook(BaseHook):
    """A cluster to allocate nodes on.

    :param cluster_conn_id: connection of type `brayns_cluster`. `brayns_default`, where it is not defined, is this machine
        with the braynsService on the PATH, or the emulator.
    :param overrides: fields of the connection with other values.
    :param quiet: whether the log is not told that `brayns_default` is not defined: the task has said so already.
    """

    conn_name_attr = "cluster_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONNECTION_TYPE
    hook_name = "Brayns cluster"

    def __init__(
        self, cluster_conn_id: str = DEFAULT_CONN_ID, overrides: Mapping[str, Any] | None = None, *, quiet: bool = False
    ) -> None:
        super().__init__()
        self.quiet = quiet
        self.cluster_conn_id = cluster_conn_id
        self.overrides = dict(overrides or {})
        self._logins: dict[str, SSHLogin] = {}
        self.embedded = ""  # what is used where the default connection is not defined, once that is known

    @cached_property
    def settings(self) -> ClusterSettings:
        """The connection's fields with the overrides on top.

        :raises InvalidSetting: there is no such connection, a field is unknown, or a value cannot work.
        """
        try:
            connection = self.get_connection(self.cluster_conn_id)
        except AirflowNotFoundException:
            if self._is_default and is_silent_about(self.cluster_conn_id):
                raise _not_told() from None
            return self._undefined(retry=not lacks_connection(self.cluster_conn_id))
        return self._read(connection)

    async def asettings(self) -> ClusterSettings:
        """Read `settings` from inside a loop, as a triggerer does, or a task's own code in a worker."""
        if "settings" in vars(self):
            return self.settings
        if asks_in_worker():
            await ask(self.prepare)
            return self.settings
        try:
            connection = await self._asked(self.cluster_conn_id)
        except AirflowNotFoundException:
            if self._is_default and await ask(partial(is_silent_about, self.cluster_conn_id)):
                raise _not_told() from None
            settings = self._undefined()
        else:
            settings = self._read(connection)
        if name := settings.ssh_conn_id:
            with suppress(AirflowNotFoundException):  # that it is missing is told when it is needed
                self._logins[name] = SSHLogin.read(name, await self._asked(name))
        self.settings = settings
        return settings

    async def _asked(self, conn_id: str) -> Any:
        """Ask Airflow for a connection from inside a loop. A trigger that `airflow dags test` runs cannot ask as in a triggerer:
        each connection would be undefined, and the default one another cluster (3.3.2, run).

        :raises AirflowNotFoundException: there is no such connection.
        """
        return await (
            ask(partial(self.get_connection, conn_id)) if asks_in_process() else self.aget_connection(conn_id)
        )

    def prepare(self) -> None:
        """Ask Airflow for all that `session` needs, before a loop runs: a question from inside a loop must not be
        cancelled.

        :raises InvalidSetting: the SSH connection cannot be used.
        """
        if name := self.settings.ssh_conn_id:
            try:
                self.login(name)
            except AirflowNotFoundException:  # else it is said when it is needed
                if lacks_connection(name):
                    raise _no_login(name, retry=False) from None

    def login(self, ssh_conn_id: str) -> SSHLogin:
        """The login that an SSH connection describes; Airflow is asked for it once.

        :raises AirflowNotFoundException: there is no such connection.
        """
        if ssh_conn_id not in self._logins:
            self._logins[ssh_conn_id] = SSHLogin.read(ssh_conn_id, self.get_connection(ssh_conn_id))
        return self._logins[ssh_conn_id]

    async def _login(self, ssh_conn_id: str) -> SSHLogin:
        """The login that an SSH connection describes, asked for from inside a loop."""
        if ssh_conn_id in self._logins:
            return self._logins[ssh_conn_id]
        return await ask(partial(self.login, ssh_conn_id))

    @property
    def _is_default(self) -> bool:
        return self.cluster_conn_id == DEFAULT_CONN_ID

    def _undefined(self, retry: bool = True) -> ClusterSettings:
        if not self._is_default:
            raise InvalidSetting(
                "cluster_conn_id",
                f"no connection {self.cluster_conn_id!r} is defined.",
                remedy=f"make a connection of type {CONNECTION_TYPE!r} (Admin, Connections), or leave the field at "
                f"{DEFAULT_CONN_ID!r} to use this machine.",
                retry=retry,  # Airflow says the same when its API server does not answer
            )
        extras, text = embedded_default()
        self.embedded = text
        if not self.quiet:
            self.log.info("%s", text)
        return ClusterSettings.read(extras, self.overrides)

    def _read(self, connection: Any) -> ClusterSettings:
        if connection.conn_type != CONNECTION_TYPE:
            raise InvalidSetting(
                "cluster_conn_id",
                f"{self.cluster_conn_id!r} is of type {connection.conn_type!r}.",
                remedy=f"name a connection of type {CONNECTION_TYPE!r}.",
            )
        try:  # Airflow's own reading takes what is no JSON for nothing at all
            extras = json.loads(connection.extra or "{}")
            mask_secret(extras)
            return ClusterSettings.read(self._with_executable({} | extras), self.overrides)
        except (ValueError, TypeError) as error:
            if isinstance(error, InvalidSetting):
                raise
            raise InvalidSetting(
                "extra",
                f"that of the connection {self.cluster_conn_id!r} is none.",
                remedy="write a JSON object (Admin, Connections).",
            ) from None

    def _with_executable(self, extras: dict[str, Any]) -> dict[str, Any]:
        """On this machine, where nothing says which, what the default uses: braynsService, or the emulator."""
        said = extras | self.overrides
        if said.get("scheduler") != "local" or any(said.get(name) for name in ("executable", "setup", "container")):
            return extras
        executable = embedded_default()[0]["executable"]
        self.log.info("%s names no executable: services are started with %s.", self.cluster_conn_id, executable)
        return extras | {"executable": executable}

    @asynccontextmanager
    async def session(self, log: Any = None, told: Any = None) -> AsyncIterator[Session]:
        """Yield a session with the cluster, for as long as the block runs. In a task's loop no question to Airflow may
        be cancelled, so operators call `settings` and `prepare` before; else a thread asks.

        :param log: a task's log; None for the hook's own.
        :param told: what that log has shown before, as `Told.to_json()` gives it; None for nothing.
        """
        settings = await self.asettings()
        async with shared_poller(settings, make_cluster, self._login) as poller:
            yield Session(poller, settings, log or self.log, Told(told))

    @asynccontextmanager
    async def connect(self, settings: ClusterSettings) -> AsyncIterator[Poller]:
        """Yield the cluster's poller, as in 0.2.0. Deprecated: `session` yields it with settings and log.

        :param settings: what `settings` or `asettings` gave.
        """
        warnings.warn("BraynsClusterHook.connect is deprecated: use session().", DeprecationWarning, stacklevel=3)
        async with shared_poller(settings, make_cluster, self._login) as poller:
            yield poller

    def test_connection(self) -> tuple[bool, str]:
        """Try each thing that the connection needs, and say a line of each, with what to do: for `airflow connections
        test`.

        Nothing is allocated. It takes two minutes at most.
        """

        async def look() -> list[Finding]:
            async with self.session() as session:
                where = settings.ssh_conn_id and f"the login node ({settings.ssh_conn_id})"
                return await try_connection(session.cluster, settings, where or "this machine")

        try:
            settings = self.settings
            self.prepare()
            findings = asyncio.run(look())
        except Exception as error:
            return False, str(Finding(getattr(error, "field", "") or "connection", False, reason_of(error)))
        return all(one.good is not False for one in findings), "\n".join(map(str, findings))


def make_cluster(settings: ClusterSettings, read_login: ReadLogin | None = None) -> Cluster:
    """Make the cluster that settings describe.

    :param read_login: a function that reads the SSH connection from inside a loop; None where the cluster only shows
        what would be run.
    """
    shell: Shell = LocalShell()
    if settings.ssh_conn_id:
        login = _Login(settings.ssh_conn_id, settings.node_known_hosts, read_login or BraynsClusterHook()._login)
        shell = SSHShell(login.connect, login.connect_node)
    shared = settings.state_dir_parents == "shared"
    known: dict[str, Any] = {"state_dir": settings.state_dir, "shared_parents": shared, "deployment": deployment()}
    if settings.scheduler == "local":
        return LocalCluster(shell, **known)
    return SlurmCluster(shell, node_suffix=settings.node_suffix, **known)


class _Login:
    """An opener of SSH connections, as an Airflow connection of type `ssh` describes them.

    :param node_known_hosts: the file with the nodes' host keys; None for the connection's own.
    :param read: a function that reads the connection by its id.
    """

    def __init__(self, ssh_conn_id: str, node_known_hosts: str | None, read: ReadLogin) -> None:
        self._id, self._node_known_hosts, self._read = ssh_conn_id, node_known_hosts, read

    async def connect(self) -> asyncssh.SSHClientConnection:
        """Open a connection to the login node.

        :raises InvalidSetting: there is no such connection, or it cannot be used.
        """
        return await (await self._login()).connect()

    async def connect_node(self, login: asyncssh.SSHClientConnection, node: str) -> asyncssh.SSHClientConnection:
        """Open a connection to a node through `login`, with the same user and key; the node's host key is checked too."""
        return await (await self._login()).connect_node(login, node, self._node_known_hosts)

    async def _login(self) -> SSHLogin:
        try:
            login: SSHLogin = await self._read(self._id)
            return login
        except AirflowNotFoundException:
            raise _no_login(self._id, retry=True) from None  # Airflow says so, too, when its API server does not answer


def _not_told() -> InvalidSetting:
    """The error for a default connection of which Airflow does not say that there is none: work that belongs on a cluster would be done
    on this machine, and be green.
    """
    return InvalidSetting(
        "cluster_conn_id",
        f"Airflow's API server does not say whether {DEFAULT_CONN_ID!r} is defined.",
        remedy="nothing, where the task has retries; else clear it when the API server answers.",
        retry=True,
    )


def _no_login(conn_id: str, *, retry: bool) -> InvalidSetting:
    return InvalidSetting(
        "ssh_conn_id",
        f"no connection {conn_id!r} is defined.",
        remedy="make a connection of type 'ssh' to the login node.",
        retry=retry,
    )
