"""What both ways of `airflow brayns connect` share: the port of this machine, and what is said of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TextIO

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.services.tunnel import local_port

LOOK_SECONDS = 10.0  # from one look whether something follows on to the next
MOVED = "New connections lead to {}, which follows on. What is loaded must be loaded there again."
LISTED = "take one of those that `airflow brayns services` lists."


@asynccontextmanager
async def port(reach: Callable[[], Awaitable[Any]], number: int, out: TextIO) -> AsyncIterator[None]:
    """Hold a port of this machine's open, print it, and pass each connection to it on.

    :param reach: a function that makes one connection to the service.
    :param number: which; 0 for any that is free.
    :param out: where the result goes.
    :raises InvalidSetting: the port cannot be opened.
    """
    async with AsyncExitStack() as opened:
        try:
            here = await opened.enter_async_context(local_port(reach, number))
        except (OSError, OverflowError) as error:
            why = f"{number} cannot be opened here: {getattr(error, 'strerror', None) or error}"
            raise InvalidSetting("--port", why, remedy="name another, or leave it out.") from None
        print(f"localhost:{here}", file=out, flush=True)
        yield
