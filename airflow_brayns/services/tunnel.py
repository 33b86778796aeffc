"""Tunnels to services: a port of this machine that leads to a service, connection by connection, whatever became of the
one before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.ssh import SSHShell
from airflow_brayns.errors import BraynsError

_BLOCK = 1 << 18
_AHEAD = 1 << 22  # bytes of a picture that may be read ahead of a slow client

# The reader and writer of a connection that has been made: asyncio's streams, or asyncssh's, which are alike.
Far = tuple[Any, Any]


class Relay:
    """A relay, which passes each connection of a client on to the other side, over whichever connection leads there at that
    moment.

    A port forward of asyncssh's ends with its SSH connection, and with it the port that a movie knows its service by: a
    dropped login looked like a dead service. A relay's port stays, and the next client goes through whichever
    connection there is.

    :param reach: a function that makes one connection to the other side.
    """

    def __init__(self, reach: Callable[[], Awaitable[Far]]) -> None:
        self._reach = reach
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, BraynsError, asyncio.CancelledError):
            pass  # the client sees its connection end, as one that refuses the certificate ends it itself
        finally:
            writer.transport.abort()
            self._open.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await self._reach()
        pumps = [asyncio.create_task(_pump(reader, far_writer)), asyncio.create_task(_pump(far_reader, writer))]
        try:
            # When the far side ends, the connection is over; a client that has sent all it wants may still be reading.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            _abort(far_writer)

    async def close(self) -> None:
        """End all connections."""
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


@asynccontextmanager
async def local_port(reach: Callable[[], Awaitable[Far]], port: int = 0) -> AsyncIterator[int]:
    """Open a port on this machine's loopback and pass its connections on, for as long as the block runs.

    :param reach: a function that makes one connection to the other side.
    :param port: which port; 0 for any that is free.
    :raises OSError: the port is taken.
    """
    relay = Relay(reach)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", port, limit=_AHEAD)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await relay.close()


@asynccontextmanager
async def near_endpoint(cluster: Cluster, route: str, endpoint: Endpoint) -> AsyncIterator[Endpoint]:
    """Yield an endpoint as it can be connected to from here: itself, or the near end of a tunnel, which holds for as long
    as the block runs, also when the login connection breaks meanwhile and is made anew.

    :param route: `direct`, `ssh` or `node`, as in the connection's field.
    :raises ConnectionLost: the login node, or with `route: node` the node, cannot be reached now.
    """
    shell, host, port = cluster.shell, endpoint.host, endpoint.port
    if route == "direct" or not isinstance(shell, SSHShell):
        yield endpoint
        return
    await (shell.inside(host) if route == "node" else shell.connection())
    reach = partial(shell.channel_in, host, port) if route == "node" else partial(shell.channel, host, port)
    async with local_port(reach) as near:
        yield endpoint.at(near)


async def _pump(reader: Any, writer: Any) -> None:
    try:
        while block := await reader.read(_BLOCK):
            writer.write(block)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:  # TLS cannot tell the other side that this one has sent all
            writer.close()
    except OSError:
        raise
    except Exception as error:  # asyncssh's own errors are no OSErrors
        raise ConnectionResetError(str(error)) from error


def _abort(writer: Any) -> None:
    with contextlib.suppress(Exception):
        transport = getattr(writer, "transport", None) or writer.channel
        transport.abort()
