"""The WebSocket under the client. In a module of its own, since the library costs whoever only names an operator 30 ms."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from airflow_brayns.errors import reason_of


class _Connect(connect):
    """Follows nobody elsewhere: the service that was proved is the one that is meant."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """The exception, for a redirection too."""
        return exc


class WebSocket:
    """An open WebSocket; whatever goes wrong on it is an `OSError`."""

    def __init__(self, connection: ClientConnection) -> None:
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
                ssl=ssl_context,
                ping_interval=None,  # 2.x to 3.10.1 close the connection on a ping (run)
                close_timeout=1,
                max_size=largest,
                proxy=None,
                open_timeout=None,
            )
        except (InvalidHandshake, WebSocketException, UnicodeError) as error:  # UnicodeError: no name
            raise ConnectionError(reason_of(error)) from error
        return cls(connection)

    async def send(self, message: str | bytes) -> None:
        """Send one message in one frame."""
        try:
            await self._connection.send(message)
        except WebSocketException as error:
            raise ConnectionError(reason_of(error)) from error

    async def messages(self) -> AsyncIterator[str | bytes]:
        """Each message, until the other side closes."""
        try:
            async for message in self._connection:
                yield message
        except WebSocketException as error:
            raise ConnectionError(reason_of(error)) from error

    async def close(self) -> None:
        """Close."""
        await self._connection.close()
