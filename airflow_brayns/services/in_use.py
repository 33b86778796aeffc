"""Services that somebody works with: each counts as used meanwhile, and when its connection breaks, its end is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.finding import Fate, Finding
from airflow_brayns.cluster.location import host_of, known_here
from airflow_brayns.errors import BraynsError, ConnectionLost, ServiceFailed, reason_of
from airflow_brayns.errors.plain import Changes
from airflow_brayns.services.broken_connection import Whose, whose_connection

_LOOK_SECONDS = 20.0  # time for the first look, for which the login node may have to be connected to first
_TOLD_SECONDS = 5.0  # a wrapper says within a second that its service has ended; a file system may show it later
# time for asking what became of a service; a node that is lost takes 5 s of it (`examine` in find.sh)
_ASK_SECONDS = 15.0
_MOST_SECONDS, _SHARE = 60.0, 4  # a lease is renewed four times within an `idle_limit`, and once a minute at least
_PAUSE = 0.3


async def what_became(cluster: Cluster, allocation: Allocation, service: str) -> Finding | None:
    """Find out what has become of a service. Where it has just ended, its exit code is awaited for a few seconds.

    :return: None where the cluster does not know the service.

    :raises ConnectionLost: the cluster could not be asked.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _TOLD_SECONDS
    while True:
        now = await cluster.examine(*allocation.key, service)
        if now is None or now.told or now.fate is Fate.OURS or loop.time() > give_up:
            return now
        await asyncio.sleep(_PAUSE)


def check_ours(found: Finding) -> None:
    """Raise an error unless whoever listens at an endpoint of ours is ours.

    :raises ServiceFailed: the service has ended, or its port is somebody else's. A service that had a fixed port and
        has ended raises none: that says nothing of who listens there today.
    """
    fixed = found.asked_port != "0"
    if found.fate is Fate.STRANGE or (found.fate is Fate.ENDED and not fixed):
        why = f"{found.text()}\nClear the task that started it to start it anew."
        raise ServiceFailed(
            why, node=found.service.node, exit_code=found.service.exit_code, idle=found.idle, retry=False
        )


def _lives(found: Finding) -> str:
    return "still runs" if found.fate is Fate.OURS else "has not ended, as far as the cluster knows"


class InUse:
    """The use of an endpoint by somebody's code.

    :param endpoint: `host:port` as it was handed on, or as somebody wrote it.
    :param log: the task's log.
    :param direct: whether the endpoint is connected to from this machine; otherwise it is from the login node.
    """

    def __init__(self, cluster: Cluster, endpoint: str, log: Any, *, direct: bool = True) -> None:
        self._cluster, self._endpoint, self._log, self._direct = cluster, endpoint, log, direct
        self.found: Finding | None = None
        self._troubles, self._troubled = Changes(), False
        self._stranger: ServiceFailed | None = None

    async def look(self) -> None:
        """Find the service, prove that it is ours, and count it as used. An endpoint that is none of ours is left as it
        is.

        :raises ServiceFailed: the service has ended, or its port is somebody else's.
        """
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._find()
        except (BraynsError, TimeoutError) as error:
            self._tell(reason_of(error))
            return
        self._tell("")
        if self.found is not None:
            check_ours(self.found)
            if self.found.fate is Fate.ENDED:  # what was found is an earlier service at this port
                self.found = None

    @property
    def is_told(self) -> bool:
        """Whether the cluster could be asked at last; else an endpoint that was not found may be ours all the same."""
        return not self._troubled

    async def _find(self) -> None:
        where = Endpoint.parse(self._endpoint)
        self.found = await self._cluster.service_at(where.host, where.port, direct=self._direct)

    def _tell(self, why: str) -> None:
        """Warn that the lease cannot be renewed, once per change of the reason; an empty reason ends the trouble."""
        self._troubled = bool(why)
        if self._troubles.new(why) and why:
            self._log.warning(
                "The cluster could not be told that %s is in use, so `idle_limit` may end it; asking again: %s",
                self._endpoint, why,
            )  # fmt: skip

    async def keep(self, orphaned: Callable[[], bool]) -> None:
        """Renew the lease for as long as this runs, since work that moves no byte for a long time is use, too.

        :param orphaned: a function that tells whether nobody wants the work any more; then the lease is not renewed.
        """
        while not orphaned():
            idle_limit = self.found.idle_limit if self.found else _MOST_SECONDS * _SHARE
            await asyncio.sleep(max(0.5, min(_MOST_SECONDS, idle_limit / _SHARE)))
            try:
                if self.found is None:
                    if not self._troubled:
                        return  # the endpoint is none of ours
                    await self._find()
                    self._note_a_stranger()
                elif not await self._cluster.renew(*self.found.allocation.key):
                    return  # the service has ended
                self._tell("")
            except BraynsError as error:
                self._tell(str(error))

    def _note_a_stranger(self) -> None:
        """Note, and say, that whoever listens there is somebody else, where the cluster could be asked only after work had begun."""
        if self.found is not None and self.found.fate is Fate.STRANGE:
            try:
                check_ours(self.found)
            except ServiceFailed as error:
                self._stranger = error
                self._log.warning(
                    "Somebody else listens at %s; what comes from there counts for nothing.", self._endpoint
                )

    def check(self) -> None:
        """Raise an error where it was found out meanwhile that the port is somebody else's: what came from there counts for nothing.

        :raises ServiceFailed: it was.
        """
        if self._stranger is not None:
            raise self._stranger

    async def explain(self, error: BaseException, near: str = "") -> BraynsError | None:
        """Explain a broken connection: who ended, where and how, as the cluster tells within a few seconds.

        :param error: the error of the code that worked with the service.
        :param near: the local `host:port` that the code knew, which says nothing to the reader; empty for none.
        :return: the error to raise instead. None where the error is of something else; and where it does not say of
            what, and the service lives: then a note is added to it that says so.
        """
        whose = whose_connection(error, await self._place(near))
        if whose in (Whose.NONE, Whose.OTHER):
            return None
        said = f"{type(error).__name__}: {reason_of(error)}"
        said = said.replace(near, self._endpoint) if near else said
        now = await self._became()
        if isinstance(now, Finding) and now.fate in (Fate.ENDED, Fate.STRANGE):
            who = f"The client at {self._endpoint} said" if whose is Whose.SERVICE else "The code meanwhile ended with"
            return ServiceFailed(
                f"{now.text()}\n{who}: {said}.",
                remedy="Clear the task that started the service: that starts it anew.",
                node=now.service.node,
                exit_code=now.service.exit_code,
                idle=now.idle,
                retry=False,
            )
        if isinstance(error, TimeoutError):
            return None  # the error is the caller's own, and the service runs
        if whose is Whose.UNCLEAR:
            runs = (
                f"at {self._endpoint}: {now}" if isinstance(now, str) else f"{now} at {self._endpoint} {_lives(now)}."
            )
            error.add_note(f"braynsService {runs}")
            self._log.info("The code ended with %s; braynsService %s", said, runs)
            return None
        if isinstance(now, Finding):
            return ConnectionLost(
                f"The connection to braynsService {now} at {self._endpoint} broke ({said}), and the service {_lives(now)}: it was "
                f"the way there, or the service closed it.\n{now.last_lines()}",
                remedy="Clear the task: it connects anew.",
            )
        who = f"{self.found} at" if self.found else "at"
        return ConnectionLost(
            f"The connection to braynsService {who} {self._endpoint} broke ({said}). {now}",
            remedy="Clear the task: it connects anew.",
        )

    async def _became(self) -> Finding | str:
        """Ask the cluster what became of the service; where that is not known, a sentence that says why."""
        if self.found is None:
            return "It runs in no allocation of ours, so what became of it can only be told where it was started."
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await what_became(self._cluster, self.found.allocation, self.found.service.name) or self.found
        except (BraynsError, TimeoutError) as trouble:
            return f"The cluster could not be asked what became of it: {reason_of(trouble)}"

    async def _place(self, near: str) -> Callable[[str, int], bool]:
        """Make the function that tells whether a host and port are this service's, as the caller or anybody else knows
        it.
        """
        known = []
        for one in map(Endpoint.parse, {near or self._endpoint, self._endpoint}):
            known.append((await known_here(one.host), one.port))

        def is_service(host: str, port: int) -> bool:
            meant = host_of([host], socket.gethostname(), frozenset())
            return any(port == its and meant.is_same(place) for place, its in known)

        return is_service
