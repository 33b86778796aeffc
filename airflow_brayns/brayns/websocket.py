"""The WebSocket under the client. It has a module of its own, since importing the library takes 30 ms, which a DAG file
that only names operators is spared.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedOK, InvalidHandshake, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from airflow_brayns.errors import reason_of


class _Connect(connect):
    """A connection attempt that follows no redirection: the service that was proved is the one that is meant."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the exception for a redirection too; the library calls this to learn where to go instead."""
        return exc


class _Connection(ClientConnection):
    """A connection that remembers of each message whether it is text, since a message read as bytes does not tell."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kinds: deque[Opcode] = deque()

    def process_event(self, event: Event) -> None:
        """Note whether an arriving frame is text or binary, and hand it to the library."""
        if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
            self.kinds.append(event.opcode)
        super().process_event(event)


class WebSocket:
    """An open WebSocket; whatever goes wrong on it is an `OSError`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, address: str, ssl_context: ssl.SSLContext | None, largest: int) -> WebSocket:
        """Open a WebSocket.

        :param address: `ws://host:port` or `wss://…`.
        :param ssl_context: how TLS is spoken; None for `ws://`.
        :param largest: bytes that a message may have.
        :raises OSError: nobody answers, or not as a WebSocket.
        """
        try:
            connection = await _Connect(
                address,
                create_connection=_Connection,
                ssl=ssl_context,
                ping_interval=None,  # 2.x to 3.10.1 close the connection on a ping (run)
                close_timeout=1,
                max_size=largest,
                proxy=None,
                open_timeout=None,
            )
        except (InvalidHandshake, WebSocketException, UnicodeError) as error:  # UnicodeError: the host is no valid name
            raise ConnectionError(reason_of(error)) from error
        assert isinstance(connection, _Connection)
        return cls(connection)

    async def send(self, message: str | bytes) -> None:
        """Send one message in one frame."""
        try:
            await self._connection.send(message)
        except WebSocketException as error:
            raise ConnectionError(reason_of(error)) from error

    async def messages(self) -> AsyncIterator[str | bytes]:
        """Yield each message that arrives, until the other side closes.

        A text message need not be UTF-8: an error of braynsService quotes a file's bad line as it is. Bytes that are no
        character come as U+FFFD.
        """
        try:
            while True:
                message = await self._connection.recv(decode=False)
                text = self._connection.kinds.popleft() is Opcode.TEXT
                yield message.decode("utf-8", "replace") if text else message
        except ConnectionClosedOK:
            return
        except WebSocketException as error:
            raise ConnectionError(reason_of(error)) from error

    async def close(self) -> None:
        """Close the WebSocket."""
        await self._connection.close()
