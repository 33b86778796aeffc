"""The WebSocket under the client. In a module of its own, since the library costs whoever only names an operator 30 ms."""

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
    """Follows nobody elsewhere: the service that was proved is the one that is meant."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """The exception, for a redirection too."""
        return exc


class _Connection(ClientConnection):
    """Remembers of each message whether it is text, since one that is read as bytes does not tell."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kinds: deque[Opcode] = deque()

    def process_event(self, event: Event) -> None:
        """Take a frame in."""
        if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
            self.kinds.append(event.opcode)
        super().process_event(event)


class WebSocket:
    """An open WebSocket; whatever goes wrong on it is an `OSError`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, address: str, ssl_context: ssl.SSLContext | None, largest: int) -> WebSocket:
        """Connect.

        :param address: `ws://host:port` or `wss://…`.
        :param largest: bytes that a message may have.
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
        except (InvalidHandshake, WebSocketException, UnicodeError) as error:  # UnicodeError: no name
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
        """Each message, until the other side closes.

        A text need not be UTF-8: an error of braynsService quotes a file's bad line as it is. What is no character comes as U+FFFD.
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
        """Close."""
        await self._connection.close()
