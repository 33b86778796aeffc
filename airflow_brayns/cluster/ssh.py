"""The shell over SSH: it keeps one connection with at most eight channels on it, and reconnects with a growing pause."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_brayns.cluster.places import Places
from airflow_brayns.cluster.shell import BLOCK, LONG_SECONDS, MOST_LONG, REMOTE_COMMAND, Framed, converse
from airflow_brayns.errors import ConnectionLost, reason_of

# sshd's default MaxSessions is 10, and a channel counts until its process has ended (measured: 0 of 150 refused at 8).
MOST_CHANNELS = 8
_PAUSES = (0.0, 1.0, 3.0)
# While many log in at once, sshd drops some at random before a word is said (MaxStartups, by default from ten on): those come again.
_PAUSES_DROPPED = (2.0, 4.0, 8.0, 15.0, 15.0)
_KEEP_ALIVE_SECONDS = 15

# asyncssh takes a third of a second to import, so it is imported on use: a DAG file that only names operators does not
# need it.
if TYPE_CHECKING:
    import asyncssh

logging.getLogger("asyncssh").setLevel(logging.WARNING)  # asyncssh logs every channel at INFO

# The error of who has no connection to the login node: what was asked was not sent.
_not_connected = partial(ConnectionLost, field="ssh_conn_id", sent=False)
Connect = Callable[[], Awaitable["asyncssh.SSHClientConnection"]]
# A function that opens a connection to a node through an open connection to the login node.
ConnectNode = Callable[["asyncssh.SSHClientConnection", str], Awaitable["asyncssh.SSHClientConnection"]]


class SSHShell:
    """A shell that runs scripts on the login machine.

    :param connect: a function that opens the connection to the login machine; host keys and logins are its business.
    :param connect_node: a function that opens a connection to a node through that one (`route: node`); None where no
        node is entered.
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
        self._channels = Places(MOST_CHANNELS, MOST_LONG)
        self.commands = 0

    async def connection(self) -> asyncssh.SSHClientConnection:
        """The open connection to the login machine; it is opened if need be.

        :raises ConnectionLost: it cannot be opened; `retry` is False where the login or the host key is refused.
        """
        if "asyncssh" not in sys.modules:  # a thread for each command would wait for whatever else needs one
            await asyncio.to_thread(import_module, "asyncssh")
        import asyncssh

        async with self._opening:
            if self._connection is not None and not self._connection.is_closed():
                return self._connection
            last: BaseException = TimeoutError()
            for number, pause in enumerate(_PAUSES + _PAUSES_DROPPED):
                if number >= len(_PAUSES) and not isinstance(last, (asyncssh.ConnectionLost, ConnectionResetError)):
                    break
                await asyncio.sleep(
                    pause * random.uniform(0.7, 1.3)
                )  # whoever was dropped together does not come together
                try:
                    async with asyncio.timeout(self._connect_timeout):
                        self._connection = await self._connect()
                    self._connection.set_keepalive(_KEEP_ALIVE_SECONDS, 3)
                    return self._connection
                except asyncssh.HostKeyNotVerifiable as error:
                    raise _not_connected(
                        f"the login node's host key is not trusted ({reason_of(error)}); it was not accepted.",
                        remedy="compare the login node's key with the one that the site publishes (`ssh-keyscan HOST`), then add it to the connection's "
                        "host_key, or to known_hosts on worker and triggerer.",
                        retry=False,
                    ) from error
                except asyncssh.PermissionDenied as error:
                    raise self._refused(error) from error
                except (OSError, asyncssh.Error, TimeoutError) as error:
                    # What sshd says to who has tried more keys (an agent's, those in ~/.ssh) than it takes.
                    if isinstance(error, asyncssh.ProtocolError) and "authentication failures" in error.reason:
                        raise self._refused(error) from error
                    last = error
            reason = self._why_not(last)
            raise _not_connected(
                f"the login node cannot be reached: {reason}.",
                remedy="check the connection's host and port, and that the node is up.",
            ) from last

    @staticmethod
    def _refused(error: BaseException) -> ConnectionLost:
        return _not_connected(
            f"the login node refused the login ({reason_of(error)}).",
            remedy="check the connection's user name and key (key_file or private_key).",
            retry=False,
        )

    def _why_not(self, error: BaseException) -> str:
        """Words for an error that a connection could not be opened by."""
        # asyncio's error, and not the kernel's ETIMEDOUT
        silent = isinstance(error, TimeoutError) and error.errno is None
        return f"no answer within {self._connect_timeout:.0f} s" if silent else reason_of(error)

    async def run(self, script: str, timeout: float) -> str:
        """See `Shell.run`."""
        framed = Framed(script)
        async with self._channels.take(slow=timeout > LONG_SECONDS):
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
                self._drop(connection)  # the next command would wait for the silent link too
                raise ConnectionLost(f"The login node did not answer within {timeout:.0f} s.") from None
            except asyncssh.ChannelOpenError as error:
                raise ConnectionLost(f"The login node opens no further channel: {reason_of(error)}") from error
            except (OSError, asyncssh.Error) as error:
                self._drop(connection)
                raise ConnectionLost(f"The connection to the login node broke: {reason_of(error)}") from error
        return framed.read(output, errors)

    async def channel(self, host: str, port: int) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        """Open a channel of the login connection to `host:port`, as the login node knows that.

        :raises ConnectionLost: the login node cannot connect there.
        """
        return await self._channel(self.connection, host, port, f"through the login node to {host}:{port}")

    async def channel_in(self, node: str, port: int) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        """Open a channel to a port of a node's own loopback, through a second SSH hop into the node.

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
        """The open connection to a node; it is opened if need be, and shared by all services of the node.

        :raises ConnectionLost: the node cannot be entered.
        """
        async with self._hopping.setdefault(node, asyncio.Lock()):
            kept = self._nodes.get(node)
            if kept is not None and not kept.is_closed():
                return kept
            if self._connect_node is None:
                raise ConnectionLost(
                    "'node' needs an SSH connection to the login node.",
                    remedy="set ssh_conn_id, or route to 'direct'.",
                    retry=False,
                    field="route",
                )
            login = await self.connection()
            import asyncssh

            try:
                async with asyncio.timeout(self._connect_timeout):
                    found = await self._connect_node(login, node)
            except asyncssh.HostKeyNotVerifiable as error:
                raise ConnectionLost(
                    f"the host key of node {node} is not trusted ({reason_of(error)}); it was not accepted.",
                    remedy="add the site's published keys of its nodes to that file, or to the SSH connection's known_hosts.",
                    retry=False,
                    field="node_known_hosts",
                ) from error
            except asyncssh.PermissionDenied as error:
                raise ConnectionLost(
                    f"node {node} refused the login ({reason_of(error)}), with the key of the SSH connection.",
                    remedy="use route 'ssh', or ask the site that you may log in to a node on which your job runs (pam_slurm_adopt).",
                    field="route",
                ) from error
            except (OSError, asyncssh.Error, TimeoutError) as error:
                raise ConnectionLost(
                    f"node {node} cannot be reached by SSH: {self._why_not(error)}.",
                    remedy="use route 'ssh', or see that the login node may log in to nodes.",
                    field="route",
                ) from error
            found.set_keepalive(_KEEP_ALIVE_SECONDS, 3)
            self._nodes[node] = found
            return found

    async def put(self, local: Path, remote: str) -> None:
        """See `Shell.put`; the file goes by SFTP."""
        connection = await self.connection()
        import asyncssh

        try:
            async with self._channels.take(slow=True), connection.start_sftp_client() as sftp:
                await sftp.put(str(local), remote)
        except (OSError, asyncssh.Error) as error:
            raise ConnectionLost(f"{local.name} could not be copied to the login node: {reason_of(error)}") from error

    async def get(self, remote: str, offset: int) -> AsyncIterator[bytes]:
        """See `Shell.get`; the file comes by SFTP."""
        connection = await self.connection()
        import asyncssh

        try:
            async with (
                self._channels.take(slow=True),
                connection.start_sftp_client() as sftp,
                sftp.open(remote, "rb") as file,
            ):
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
        """Give up a connection, unless another one has taken its place already."""
        if self._connection is connection:
            self._connection = None
        connection.abort()
