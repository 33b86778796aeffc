"""A port of this machine that leads to a service, connection by connection, whatever becomes of the one before."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from airflow_brayns.errors import BraynsError

_BLOCK = 1 << 18
_AHEAD = 1 << 22  # bytes of a picture that may be read ahead of a slow client

# Both ends of a connection that has been made: asyncio's streams, or asyncssh's, which are alike.
Far = tuple[Any, Any]


class Relay:
    """Passes each connection of a client on to where it leads at that moment.

    A forward of asyncssh's own ends with its SSH connection, and with it the port that a movie knows its service by: a dropped
    login looked like a dead service. Here the port stays, and the next client goes through whichever connection there is.

    :param reach: makes one connection to the other side.
    """

    def __init__(self, reach: Callable[[], Awaitable[Far]]) -> None:
        self._reach = reach
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, BraynsError, asyncio.CancelledError):
            pass  # the client sees its connection end; a certificate that is refused ends it too
        finally:
            writer.transport.abort()
            self._open.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await self._reach()
        pumps = [asyncio.create_task(_pump(reader, far_writer)), asyncio.create_task(_pump(far_reader, writer))]
        try:
            # Where the far side ends, all is over; a client that has sent all it wants may still be reading.
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
async def local_port(reach: Callable[[], Awaitable[Far]]) -> AsyncIterator[int]:
    """A port of this machine's loopback whose connections are passed on, for as long as the block runs."""
    relay = Relay(reach)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0, limit=_AHEAD)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await relay.close()


async def _pump(reader: Any, writer: Any) -> None:
    try:
        while block := await reader.read(_BLOCK):
            writer.write(block)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:  # TLS cannot say that one side is done
            writer.close()
    except OSError:
        raise
    except Exception as error:  # asyncssh's own errors are no OSErrors
        raise ConnectionResetError(str(error)) from error


def _abort(writer: Any) -> None:
    with contextlib.suppress(Exception):
        transport = getattr(writer, "transport", None) or writer.channel
        transport.abort()
