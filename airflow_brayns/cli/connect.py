"""`airflow brayns connect`: a port of this machine that leads to a service, for as long as somebody wants it. Where another
allocation follows on, the port leads to that one as soon as its service is usable.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, TextIO

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import NotYet
from airflow_brayns.cli import near
from airflow_brayns.cli.connect_elsewhere import connect_elsewhere
from airflow_brayns.cli.connections import ask_each
from airflow_brayns.cli.console import Answer, command, say
from airflow_brayns.cluster.allocation import AllocationStatus, JobState
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import AllocationLost, BraynsError, InvalidSetting
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.hooks.endpoint import open_endpoint
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import is_name
from airflow_brayns.services.stream import ask, endpoint_of


def connect(args: argparse.Namespace) -> None:
    """Print `localhost:PORT`, which leads to a service until somebody ends the command, or the service is over."""
    args.out = sys.stdout  # which holds only the result, once the command goes on
    _connect(args)


_OVER = "Connect again where it has been asked for anew: `airflow brayns services` lists it."


@dataclass(frozen=True)
class _Target:
    """The service that is meant.

    :param name: its allocation's, whole.
    """

    conn_id: str
    name: str
    incarnation: int
    service: str
    endpoint: str


@command
def _connect(args: argparse.Namespace) -> Answer:
    if args.api_url is not None:
        connect_elsewhere(args)
        return Answer()
    target = _target(args)
    hook = BraynsClusterHook(target.conn_id, quiet=True)
    hook.prepare()  # Airflow is asked here, before the loop
    with ExitStack() as ways:
        way = _Way(ways, target)
        asyncio.run(_held(way, hook, args.port, args.out))
    return Answer()


def _target(args: argparse.Namespace) -> _Target:
    """Find the service that is meant; of one that follows on another, the newer.

    :raises InvalidSetting: there is no such service.
    """
    if not is_name(args.name):
        raise InvalidSetting("name", f"{args.name!r} is no allocation's.", remedy=near.LISTED)

    async def look(session: Session) -> list[_Target]:
        return [
            _Target("", status.name, status.incarnation, one.name, str(Endpoint(session.cluster.address(one.node), one.port)))
            for status in await session.cluster.list_all()
            for one in status.services
            if status.name.startswith(args.name) and status.state is not JobState.ENDED and one.exit_code is None and one.port
        ]  # fmt: skip

    told, _ = ask_each(args.cluster_conn_id, look)
    found = [replace(one, conn_id=conn_ids.partition(",")[0]) for conn_ids, targets in told for one in targets]
    found.sort(key=lambda one: -one.incarnation)
    for one in found:
        if args.service in (None, one.service):
            return one
    if found:
        names = ", ".join(sorted({one.service for one in found}))
        raise InvalidSetting(
            "--service", f"{args.name} has no {args.service!r} that listens.", remedy=f"take one of {names}."
        )
    raise InvalidSetting("name", f"no service of {args.name} listens.", remedy=near.LISTED)


class _Way:
    """The way to the service that is meant. It may move: open connections stay where they are, and new ones go the new way.

    :param ways: holds each way open until the command ends.
    """

    def __init__(self, ways: ExitStack, target: _Target) -> None:
        self._ways = ways
        self.move(target)

    def move(self, target: _Target) -> None:
        """Make the way to a service; where that cannot be made, the former one stays.

        :raises BraynsError: it cannot be reached.
        """
        near = self._ways.enter_context(open_endpoint(target.endpoint, target.conn_id))
        self.target, self._near = target, Endpoint.parse(near)

    async def reach(self) -> Any:
        """Make one connection to the service."""
        return await asyncio.open_connection(self._near.host, self._near.port)


async def _held(way: _Way, hook: BraynsClusterHook, port: int, out: TextIO) -> None:
    """Hold a port of this machine's open, each connection of which is passed on to the service."""
    async with near.port(way.reach, port, out):
        say(f"It leads to {way.target.endpoint}, which counts as used meanwhile. Ctrl-C ends it.")
        async with hook.session() as session:
            await _follow(way, session)


async def _follow(way: _Way, session: Session) -> None:
    """Move the way whenever something that follows on is usable. What cannot be seen, or reached, is looked at again.

    :raises AllocationLost: its allocation has ended, and none follows on.
    """
    while True:
        await asyncio.sleep(near.LOOK_SECONDS)
        try:
            target = await _following(session, way.target)
            if target is not None:
                await asyncio.to_thread(way.move, target)
        except AllocationLost:
            raise
        except (BraynsError, NotYet, OSError):
            continue
        if target is not None:
            say(near.MOVED.format(target.endpoint))


async def _following(session: Session, target: _Target) -> _Target | None:
    """The same service of the newest incarnation that follows on and is usable; None where there is none.

    :raises AllocationLost: the last one has ended.
    :raises NotYet: it is there, and does not answer yet.
    :raises BraynsError: the cluster, or the service, cannot be reached.
    """
    status = await _look(session, target.name, target.incarnation)
    found = None
    while status is not None and status.following > status.incarnation:
        status = await _look(session, target.name, status.following)
        for one in status.services if status is not None else ():
            if status is not None and one.name == target.service and one.port and one.exit_code is None:
                endpoint = endpoint_of(session, status, one)
                found = endpoint, replace(target, incarnation=status.incarnation, endpoint=str(endpoint))
    if status is not None and status.state is JobState.ENDED:
        raise AllocationLost(f"{target.name} is over: {status.ended or 'its job has ended'}", remedy=_OVER)
    if found is None:
        return None
    await ask(session, found[0], ())
    return found[1]


async def _look(session: Session, name: str, incarnation: int) -> AllocationStatus | None:
    waiter = Waiter(name, incarnation)
    return (await session.cluster.look([waiter])).get((name, incarnation))
