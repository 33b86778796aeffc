"""The shell over SSH: one connection kept, at most eight channels on it, reconnecting with a growing pause."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_brayns.cluster.shell import BLOCK, REMOTE_COMMAND, Framed, converse
from airflow_brayns.errors import ConnectionLost, reason_of

# sshd's default MaxSessions is 10, and a channel counts until its process has ended (measured: 0 of 150 refused at 8).
MOST_CHANNELS = 8
_PAUSES = (0.0, 1.0, 3.0)
_KEEP_ALIVE_SECONDS = 15

# asyncssh takes a third of a second to import: where a DAG file only names operators, it is not needed.
if TYPE_CHECKING:
    import asyncssh

logging.getLogger("asyncssh").setLevel(logging.WARNING)  # it logs every channel at INFO

Connect = Callable[[], Awaitable["asyncssh.SSHClientConnection"]]
# Through an open connection on to a node.
ConnectNode = Callable[["asyncssh.SSHClientConnection", str], Awaitable["asyncssh.SSHClientConnection"]]


class SSHShell:
    """Runs scripts on the login machine.

    :param connect: opens a connection; host keys and logins are its business.
    :param connect_node: opens a second one through it, to a node (`route: node`).
    :param connect_timeout: seconds for one attempt to connect.
    """

    def __init__(
        self, connect: Connect, connect_node: ConnectNode | None = None, *, connect_timeout: float = 20
    ) -> None:
        self._connect, self._connect_node = connect, connect_node
        self._nodes: dict[str, asyncssh.SSHClientConnection] = {}
        self._hopping: dict[str, asyncio.Lock] = {}
        self._connect_timeout = connect_timeout
        self._connection: asyncssh.SSHClientConnection | None = None
        self._opening = asyncio.Lock()
        self._channels = asyncio.Semaphore(MOST_CHANNELS)
        self.commands = 0

    async def connection(self) -> asyncssh.SSHClientConnection:
        """The open connection, opened if need be.

        :raises ConnectionLost: it cannot be opened; with `retry=False` where the login or the host key is refused.
        """
        asyncssh = await asyncio.to_thread(import_module, "asyncssh")
        async with self._opening:
            if self._connection is not None and not self._connection.is_closed():
                return self._connection
            for pause in _PAUSES:
                await asyncio.sleep(pause)
                try:
                    async with asyncio.timeout(self._connect_timeout):
                        self._connection = await self._connect()
                    self._connection.set_keepalive(_KEEP_ALIVE_SECONDS, 3)
                    return self._connection
                except asyncssh.HostKeyNotVerifiable as error:
                    raise ConnectionLost(
                        f"ssh_conn_id: the login node's host key is not trusted ({reason_of(error)}). Compare it with the site's "
                        "published key and add it to the connection's host_key or to known_hosts; it was not accepted.",
                        retry=False,
                    ) from error
                except asyncssh.PermissionDenied as error:
                    raise ConnectionLost(
                        f"ssh_conn_id: the login node refused the login ({reason_of(error)}). Check the connection's user name and "
                        "key (key_file or private_key).",
                        retry=False,
                    ) from error
                except (OSError, asyncssh.Error, TimeoutError) as error:
                    last = error
            reason = self._why_not(last)
            raise ConnectionLost(
                f"ssh_conn_id: the login node cannot be reached: {reason}. Check the connection's host and port, and "
                "that the node is up."
            ) from last

    def _why_not(self, error: BaseException) -> str:
        """Why a connection could not be opened."""
        silent = isinstance(error, TimeoutError) and not str(error)
        return f"no answer within {self._connect_timeout:.0f} s" if silent else reason_of(error)

    async def run(self, script: str, timeout: float) -> str:
        """See `Shell.run`."""
        framed = Framed(script)
        async with self._channels:
            connection = await self.connection()
            import asyncssh

            self.commands += 1
            try:
                async with asyncio.timeout(timeout):
                    process = await connection.create_process(REMOTE_COMMAND, encoding=None)
                    try:
                        output, errors = await converse(process, framed.text.encode())
                    finally:
                        process.close()
            except TimeoutError:
                self._drop(connection)  # a silent link would hold the next command too
                raise ConnectionLost(f"The login node did not answer within {timeout:.0f} s.") from None
            except asyncssh.ChannelOpenError as error:
                raise ConnectionLost(f"The login node opens no further channel: {reason_of(error)}") from error
            except (OSError, asyncssh.Error) as error:
                self._drop(connection)
                raise ConnectionLost(f"The connection to the login node broke: {reason_of(error)}") from error
        return framed.read(output, errors)

    async def channel(self, host: str, port: int) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        """A connection to `host:port` as the login node sees it.

        :raises ConnectionLost: there is no way there.
        """
        return await self._channel(self.connection, host, port, f"through the login node to {host}:{port}")

    async def channel_in(self, node: str, port: int) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        """A connection to a port of a node's own loopback, by a second SSH hop into the node.

        :raises ConnectionLost: the node cannot be entered.
        """
        return await self._channel(lambda: self.inside(node), "127.0.0.1", port, f"into {node}, port {port}")

    async def _channel(
        self, connect: Callable[[], Awaitable[asyncssh.SSHClientConnection]], host: str, port: int, told: str
    ) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        connection = await connect()
        import asyncssh

        try:
            reader, writer = await connection.open_connection(host, port, encoding=None)
        except (OSError, asyncssh.Error) as error:
            raise ConnectionLost(f"No way {told}: {reason_of(error)}") from error
        return reader, writer

    async def inside(self, node: str) -> asyncssh.SSHClientConnection:
        """The open connection to a node, opened if need be; all services of a node share one.

        :raises ConnectionLost: the node cannot be entered.
        """
        async with self._hopping.setdefault(node, asyncio.Lock()):
            kept = self._nodes.get(node)
            if kept is not None and not kept.is_closed():
                return kept
            if self._connect_node is None:
                raise ConnectionLost("route: 'node' needs an SSH connection to the login node.", retry=False)
            login = await self.connection()
            import asyncssh

            try:
                async with asyncio.timeout(self._connect_timeout):
                    found = await self._connect_node(login, node)
            except asyncssh.HostKeyNotVerifiable as error:
                raise ConnectionLost(
                    f"node_known_hosts: the host key of node {node} is not trusted ({reason_of(error)}). Add the site's published keys of "
                    "its nodes to that file, or to the SSH connection's known_hosts; it was not accepted.",
                    retry=False,
                ) from error
            except asyncssh.PermissionDenied as error:
                raise ConnectionLost(
                    f"route: node {node} refused the login ({reason_of(error)}). The site must let you log in to a node on which your job "
                    "runs (pam_slurm_adopt), with the key of the SSH connection; otherwise use route 'ssh'."
                ) from error
            except (OSError, asyncssh.Error, TimeoutError) as error:
                raise ConnectionLost(f"route: node {node} cannot be reached by SSH: {self._why_not(error)}.") from error
            found.set_keepalive(_KEEP_ALIVE_SECONDS, 3)
            self._nodes[node] = found
            return found

    async def put(self, local: Path, remote: str) -> None:
        """See `Shell.put`; by SFTP."""
        connection = await self.connection()
        import asyncssh

        try:
            async with self._channels, connection.start_sftp_client() as sftp:
                await sftp.put(str(local), remote)
        except (OSError, asyncssh.Error) as error:
            raise ConnectionLost(f"{local.name} could not be copied to the login node: {reason_of(error)}") from error

    async def get(self, remote: str, offset: int) -> AsyncIterator[bytes]:
        """See `Shell.get`; by SFTP."""
        connection = await self.connection()
        import asyncssh

        try:
            async with self._channels, connection.start_sftp_client() as sftp, sftp.open(remote, "rb") as file:
                while block := await file.read(BLOCK, offset):
                    offset += len(block)
                    yield block.encode() if isinstance(block, str) else bytes(block)
        except (OSError, asyncssh.Error) as error:
            raise ConnectionLost(f"{remote} could not be read to its end: {reason_of(error)}") from error

    async def close(self) -> None:
        """See `Shell.close`."""
        for one in self._nodes.values():
            one.abort()
        self._nodes.clear()
        if self._connection is not None:
            self._drop(self._connection)

    def _drop(self, connection: asyncssh.SSHClientConnection) -> None:
        """Give up a connection; not one that has taken its place."""
        if self._connection is connection:
            self._connection = None
        connection.abort()
