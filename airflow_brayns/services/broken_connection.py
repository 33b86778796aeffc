"""Broken connections in the errors of somebody's code: was it the one to a service, or another one of their own?"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from collections.abc import Callable, Iterator
from enum import IntEnum

from airflow_brayns.errors import ConnectionLost


class Whose(IntEnum):
    """The answer to whose connection broke. Of several errors at once, the greatest counts.

    `NONE`: no connection did. `OTHER`: one that the error says leads elsewhere. `UNCLEAR`: one of which it does not say
    where it leads. `SERVICE`: the service's.
    """

    NONE = 0
    OTHER = 1
    UNCLEAR = 2
    SERVICE = 3


# Addresses as the errors of asyncio, requests, psycopg and redis spell them; `10:45` is a time of day.
_ADDRESSES = (
    re.compile(r"""\(['"]([^'"]{1,253})['"], ([0-9]{1,5})\b"""),
    re.compile(r"host=['\"]([^'\"]{1,253})['\"], port=([0-9]{1,5})"),
    re.compile(r"\bat \"([^\"]{1,253})\"(?: \([^)]{0,100}\))?, port ([0-9]{1,5})"),
    re.compile(r"(?:://|\b(?:at|to|host) )(\[[0-9A-Fa-f:.]+\]|(?=[^:]*[A-Za-z.])[A-Za-z0-9._-]{1,253}):([0-9]{1,5})\b"),
)
# Errors that are no OSErrors, of the official client, websockets, websocket-client, aiohttp, requests and httpx.
_BROKEN = frozenset(
    {
        "WebSocketError", "ConnectionClosedError", "ConnectionClosed", "WebSocketException", "ClientConnectionError",
        "ConnectionError", "TransportError", "NetworkError",
    }
)  # fmt: skip
_ERRNOS = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENOTCONN})  # fmt: skip
_CLIENTS = ("brayns", "airflow_brayns")  # packages that speak to services only


def whose_connection(error: BaseException, is_service: Callable[[str, int], bool]) -> Whose:
    """Find out whose connection broke, by an error and those that it was raised from.

    :param is_service: a function that tells whether a host and port are the service's.
    """
    for seen in _causes(error):
        if type(seen).__module__.startswith("airflow."):
            return Whose.NONE  # an exception of Airflow's: its author decided what becomes of the task
        if isinstance(seen, BaseExceptionGroup):
            return max(whose_connection(one, is_service) for one in seen.exceptions)
        if _tells_of_a_break(seen):
            named = [is_service(*place) for place in places_in(seen)]
            if named:
                return Whose.SERVICE if any(named) else Whose.OTHER
            return Whose.SERVICE if type(seen).__module__.partition(".")[0] in _CLIENTS else Whose.UNCLEAR
    return Whose.NONE


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _tells_of_a_break(error: BaseException) -> bool:
    if isinstance(error, ConnectionLost | ConnectionError | TimeoutError | EOFError | socket.gaierror):
        return True
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        return True
    return any(kind.__name__ in _BROKEN and kind.__module__ != "builtins" for kind in type(error).__mro__)


def places_in(error: BaseException) -> list[tuple[str, int]]:
    """The hosts and ports that an error names, in its text or as the address of its request."""
    texts = [str(error)]
    with contextlib.suppress(Exception):  # httpx raises an error where there is no request
        texts.append(str(error.request.url))  # type: ignore[attr-defined]
    return [(found[1], int(found[2])) for text in texts for one in _ADDRESSES for found in one.finditer(text[:10_000])]
