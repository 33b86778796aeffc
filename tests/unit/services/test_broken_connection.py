"""Whose connection broke, by what an error says."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException

from airflow_brayns.errors import ConnectionLost, ServiceFailed
from airflow_brayns.services.broken_connection import Whose, whose_connection


def at_5000(host: str, port: int) -> bool:
    return (host, port) in {("r1i1n0", 5000), ("127.0.0.1", 43210)}


def of(module: str, name: str, text: str = "", **more: Any) -> Exception:
    """An error of a package that need not be installed."""
    error = type(name, (Exception,), {"__module__": module})(text)
    for key, value in more.items():
        setattr(error, key, value)
    return error


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (FileNotFoundError(2, "no"), Whose.NONE),
        (ValueError(), Whose.NONE),
        (AirflowException(), Whose.NONE),
        (caused(AirflowException(), ConnectionResetError()), Whose.NONE),
        (ServiceFailed("x"), Whose.NONE),
        (ConnectionRefusedError(), Whose.UNCLEAR),
        (EOFError(), Whose.UNCLEAR),
        (TimeoutError(), Whose.UNCLEAR),
        (OSError(113, "No route to host"), Whose.UNCLEAR),
        (ConnectionLost("x"), Whose.SERVICE),
        (of("brayns.network", "WebSocketError"), Whose.SERVICE),
        (of("brayns.network", "ConnectionClosedError", "no close frame received or sent"), Whose.SERVICE),
        (caused(RuntimeError(), of("brayns.network", "WebSocketError")), Whose.SERVICE),
        (of("websockets.exceptions", "ConnectionClosed"), Whose.UNCLEAR),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 43210)"), Whose.SERVICE),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 5432)"), Whose.OTHER),
        (of("brayns.network", "WebSocketError", "Connect call failed ('::1', 5001, 0, 0)"), Whose.OTHER),
        (ConnectionLost("braynsService at r1i1n1:5000 cannot be reached"), Whose.OTHER),
        (of("aiohttp", "ClientConnectionError", "Cannot connect to host r1i1n0:5000 ssl:default"), Whose.SERVICE),
        (of("redis", "ConnectionError", "Error 111 connecting to localhost:6379. Connection refused."), Whose.OTHER),
        (of("requests", "ConnectionError", "HTTPConnectionPool(host='127.0.0.1', port=9): Max retries"), Whose.OTHER),
        (of("requests", "ConnectionError", "('Connection aborted.', RemoteDisconnected())",
            request=SimpleNamespace(url="http://db.example.org:8080/x")), Whose.OTHER),
        (of("psycopg", "ConnectionError", 'connection to server at "db" (10.0.0.9), port 5432 failed'), Whose.OTHER),
        (of("requests", "ConnectionError", "render.py:12 failed at 10:45"), Whose.UNCLEAR),
        (ExceptionGroup("x", [ValueError(), ConnectionResetError()]), Whose.UNCLEAR),
        (ExceptionGroup("x", [ConnectionResetError(), ConnectionLost("x")]), Whose.SERVICE),
    ],
)  # fmt: skip
def test_whose_connection_broke(error: BaseException, whose: Whose) -> None:
    assert whose_connection(error, at_5000) is whose


async def test_what_asyncio_says_of_a_port_where_nobody_listens_tells_which() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()
    with pytest.raises(ConnectionRefusedError) as raised:
        await asyncio.open_connection(*place)
    assert whose_connection(raised.value, at_5000) is Whose.OTHER
    assert whose_connection(raised.value, lambda *seen: seen == place) is Whose.SERVICE
