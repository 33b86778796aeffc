"""`airflow brayns connect`: a port of this machine that leads to a service, for as long as somebody wants it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from functools import partial
from typing import TextIO

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.cli.connections import ask_each
from airflow_brayns.cli.console import Answer, command, say
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.hooks.endpoint import open_endpoint
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import is_name
from airflow_brayns.services.tunnel import local_port


def connect(args: argparse.Namespace) -> None:
    """Print `localhost:PORT`, which leads to a service until somebody ends the command."""
    args.out = sys.stdout  # which holds only the result, once the command goes on
    _connect(args)


@command
def _connect(args: argparse.Namespace) -> Answer:
    conn_id, endpoint = _service(args)
    with open_endpoint(endpoint, conn_id) as near:
        asyncio.run(_held(Endpoint.parse(near), args.port, endpoint, args.out))
    return Answer()


_LISTED = "take one of those that `airflow brayns services` lists."


def _service(args: argparse.Namespace) -> tuple[str, str]:
    """The connection and the endpoint of the service that is meant.

    :raises InvalidSetting: there is no such service.
    """
    if not is_name(args.name):
        raise InvalidSetting("name", f"{args.name!r} is no allocation's.", remedy=_LISTED)

    async def look(session: Session) -> list[tuple[str, str]]:
        return [
            (service.name, str(Endpoint(session.cluster.address(service.node), service.port)))
            for status in await session.cluster.list_all()
            for service in status.services
            if status.name.startswith(args.name) and service.exit_code is None and service.port
        ]

    told, _ = ask_each(args.cluster_conn_id, look)
    found = [(conn_ids.partition(",")[0], *one) for conn_ids, services in told for one in services]
    for conn_id, name, endpoint in found:
        if args.service in (None, name):
            return conn_id, endpoint
    if found:
        names = ", ".join(sorted({name for _, name, _ in found}))
        raise InvalidSetting(
            "--service", f"{args.name} has no {args.service!r} that listens.", remedy=f"take one of {names}."
        )
    raise InvalidSetting("name", f"no service of {args.name} listens.", remedy=_LISTED)


async def _held(near: Endpoint, port: int, endpoint: str, out: TextIO) -> None:
    """Hold a port of this machine's open, each connection of which is passed on to the service."""
    try:
        async with local_port(partial(asyncio.open_connection, near.host, near.port), port) as here:
            print(f"localhost:{here}", file=out, flush=True)
            say(f"It leads to {endpoint}, which counts as used meanwhile. Ctrl-C ends it.")
            await asyncio.Event().wait()
    except OSError as error:
        why = f"{port} cannot be opened here: {error.strerror or error}"
        raise InvalidSetting("--port", why, remedy="name another, or leave it out.") from None
