"""The hook: a `brayns_cluster` connection, read, and the cluster it describes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_brayns.cluster.cluster import Cluster, LocalCluster, SlurmCluster
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.shell import LocalShell, Shell
from airflow_brayns.cluster.ssh import SSHShell
from airflow_brayns.errors import InvalidSetting, reason_of
from airflow_brayns.hooks.installation import installation_id as installation_id
from airflow_brayns.hooks.login import SSHLogin
from airflow_brayns.settings import CONNECTION_TYPE, DEFAULT_CONN_ID, ClusterSettings, embedded_default
from airflow_brayns.supervisor import ask

if TYPE_CHECKING:
    import asyncssh

# Which cluster it is: must not change between asking for nodes and giving them back.
IDENTITY = ("scheduler", "ssh_conn_id", "state_dir")
# Those for whom these are the same share one connection and one question.
_SHARING = (
    "scheduler", "ssh_conn_id", "node_suffix", "state_dir", "state_dir_parents", "poll_interval", "node_known_hosts",
)  # fmt: skip
# What a wait needs of the settings: all of it plain, none of it secret.
WAITING_FIELDS = (
    "scheduler", "ssh_conn_id", "node_suffix", "route", "state_dir", "state_dir_parents", "poll_interval", "start_timeout", "queue_timeout",
    "min_ready", "idle_limit", "node_known_hosts", "tls", "tls_ca", "tls_certificate_file", "tls_private_key_file",
)  # fmt: skip


ReadLogin = Callable[[str], Awaitable[SSHLogin]]


class _Shared:
    """A cluster's poller, for all who use that cluster in one loop.

    :param settings: of the first of them.
    :param read_login: tells what the SSH connection says; of whoever came last, since keys are changed and hosts move while
        somebody always waits.
    """

    def __init__(self, settings: ClusterSettings, read_login: ReadLogin) -> None:
        self.read_login = read_login
        self.users = 0
        self.poller = Poller(make_cluster(settings, self._login), settings.poll_interval)

    async def _login(self, ssh_conn_id: str) -> SSHLogin:
        return await self.read_login(ssh_conn_id)


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Shared]] = WeakKeyDictionary()


class BraynsClusterHook(BaseHook):
    """A cluster to allocate nodes on.

    :param cluster_conn_id: connection of type `brayns_cluster`. `brayns_default`, where it is not defined, is this machine
        with the braynsService on the PATH, or the emulator.
    :param overrides: fields of the connection with other values.
    """

    conn_name_attr = "cluster_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONNECTION_TYPE
    hook_name = "Brayns cluster"

    def __init__(self, cluster_conn_id: str = DEFAULT_CONN_ID, overrides: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.cluster_conn_id = cluster_conn_id
        self.overrides = dict(overrides or {})
        self._logins: dict[str, SSHLogin] = {}

    @cached_property
    def settings(self) -> ClusterSettings:
        """The connection's fields with the overrides on top.

        :raises InvalidSetting: no such connection, an unknown field, a value that cannot work.
        """
        try:
            connection = self.get_connection(self.cluster_conn_id)
        except AirflowNotFoundException:
            return self._undefined()
        return self._read(connection.conn_type, connection.extra_dejson)

    async def asettings(self) -> ClusterSettings:
        """`settings`, for a triggerer."""
        try:
            connection = await self.aget_connection(self.cluster_conn_id)
        except AirflowNotFoundException:
            settings = self._undefined()
        else:
            settings = self._read(connection.conn_type, connection.extra_dejson)
        if name := settings.ssh_conn_id:
            with suppress(AirflowNotFoundException):  # said when it is needed
                self._logins[name] = SSHLogin.read(name, await self.aget_connection(name))
        return settings

    def prepare(self) -> None:
        """Ask Airflow for all that `connect` needs, before a loop runs: there, no question may be cancelled.

        :raises InvalidSetting: the SSH connection cannot be used.
        """
        if name := self.settings.ssh_conn_id:
            with suppress(AirflowNotFoundException):  # said when it is needed
                self.login(name)

    def login(self, ssh_conn_id: str) -> SSHLogin:
        """What an SSH connection says; asked for once.

        :raises AirflowNotFoundException: there is no such connection.
        """
        if ssh_conn_id not in self._logins:
            self._logins[ssh_conn_id] = SSHLogin.read(ssh_conn_id, self.get_connection(ssh_conn_id))
        return self._logins[ssh_conn_id]

    async def _login(self, ssh_conn_id: str) -> SSHLogin:
        """`login`, for a loop."""
        if ssh_conn_id in self._logins:
            return self._logins[ssh_conn_id]
        return await ask(partial(self.login, ssh_conn_id))

    def _undefined(self) -> ClusterSettings:
        if self.cluster_conn_id != DEFAULT_CONN_ID:
            raise InvalidSetting(
                "cluster_conn_id",
                f"no connection {self.cluster_conn_id!r} is defined. Make one of type {CONNECTION_TYPE!r} (Admin, Connections), "
                f"or leave the field at {DEFAULT_CONN_ID!r} to use this machine.",
                retry=True,  # Airflow says the same when its API server does not answer
            )
        extras, text = embedded_default()
        self.log.info("%s", text)
        return ClusterSettings.read(extras, self.overrides)

    def _read(self, connection_type: str | None, extras: Mapping[str, Any]) -> ClusterSettings:
        if connection_type != CONNECTION_TYPE:
            raise InvalidSetting(
                "cluster_conn_id", f"{self.cluster_conn_id!r} is of type {connection_type!r}, not {CONNECTION_TYPE!r}"
            )
        return ClusterSettings.read(extras, self.overrides)

    @asynccontextmanager
    async def connect(self, settings: ClusterSettings) -> AsyncIterator[Poller]:
        """The cluster's poller. All who use the same cluster in one process share it, and so one SSH connection."""
        fields = settings.model_dump(mode="json", include=set(WAITING_FIELDS))
        key = json.dumps([fields[name] for name in _SHARING])
        pool = _shared.setdefault(asyncio.get_running_loop(), {})
        shared = pool.get(key)
        if shared is None:
            shared = pool[key] = _Shared(settings, self._login)
        shared.read_login = self._login
        shared.users += 1
        try:
            yield shared.poller
        finally:
            shared.users -= 1
            if not shared.users:
                pool.pop(key, None)
                await shared.poller.close()

    def test_connection(self) -> tuple[bool, str]:
        """Airflow's "Test" button: is the scheduler there?"""

        async def look(settings: ClusterSettings) -> str:
            async with self.connect(settings) as poller:
                found = await poller.cluster.list_all()
                return f"The cluster answers; {len(found)} allocations in its state folder."

        try:
            self.prepare()
            return True, asyncio.run(look(self.settings))
        except Exception as error:
            return False, reason_of(error)


def make_cluster(settings: ClusterSettings, read_login: ReadLogin | None = None) -> Cluster:
    """The cluster that settings describe.

    :param read_login: tells what the SSH connection says, from inside a loop; None where it is only shown what would be run.
    """
    shell: Shell = LocalShell()
    if settings.ssh_conn_id:
        login = _Login(settings.ssh_conn_id, settings.node_known_hosts, read_login or BraynsClusterHook()._login)
        shell = SSHShell(login.connect, login.connect_node)
    shared = settings.state_dir_parents == "shared"
    if settings.scheduler == "local":
        return LocalCluster(shell, state_dir=settings.state_dir, shared_parents=shared)
    return SlurmCluster(shell, state_dir=settings.state_dir, node_suffix=settings.node_suffix, shared_parents=shared)


class _Login:
    """Opens SSH connections as an Airflow connection of type `ssh` says.

    :param node_known_hosts: file with the nodes' host keys; None for the connection's own.
    :param read: tells what the connection says.
    """

    def __init__(self, ssh_conn_id: str, node_known_hosts: str | None, read: ReadLogin) -> None:
        self._id, self._node_known_hosts, self._read = ssh_conn_id, node_known_hosts, read

    async def connect(self) -> asyncssh.SSHClientConnection:
        """To the login node.

        :raises InvalidSetting: no such connection, or one that cannot be used.
        """
        return await (await self._login()).connect()

    async def connect_node(self, login: asyncssh.SSHClientConnection, node: str) -> asyncssh.SSHClientConnection:
        """On to a node through `login`: the same user and key; its host key is checked too."""
        return await (await self._login()).connect_node(login, node, self._node_known_hosts)

    async def _login(self) -> SSHLogin:
        try:
            return await self._read(self._id)
        except AirflowNotFoundException:
            raise InvalidSetting(
                "ssh_conn_id",
                f"no connection {self._id!r} is defined. Make one of type 'ssh' to the login node.",
                retry=True,  # Airflow says the same when its API server does not answer
            ) from None
