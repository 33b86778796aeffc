"""Interfaces that rendering needs of the world around it: services to render with, and somebody to tell."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from airflow_brayns.movie.used import Used


class Liveness(Enum):
    """The answer to whether a service lives, by those who look after it.

    `OURS`: it lives, and its port is its own. `ENDED`: it has ended, or its port is somebody else's. `UNPROVEN`:
    nothing tells of its end, and its node does not answer. `UNKNOWN`: they cannot be asked now. `NOBODYS`: nobody looks
    after it.
    """

    OURS = "ours"
    ENDED = "ended"
    UNPROVEN = "unproven"
    UNKNOWN = "unknown"
    NOBODYS = "nobody's"


@dataclass(frozen=True)
class Proof:
    """The answer of those who look after a service, and why.

    :param why: for a service that has ended, how it did, with its last lines; for one that cannot be proved, why not.
    :param idle: whether the service ended with an allocation that nobody used.
    """

    liveness: Liveness
    why: str = ""
    idle: bool = False


async def _nobodys() -> Proof:
    return Proof(Liveness.NOBODYS)


@dataclass(frozen=True)
class RenderService:
    """A usable service, as rendering sees it.

    :param endpoint: the `host:port` that can be connected to from here.
    :param name: the service's name; `node` and `job` are its node and its job, for the manifest and for messages.
    :param version: the version of its braynsService.
    :param ends_at: a function that tells when the service is stopped since its allocation ends (`time.time()`); None
        where it is not.
    :param owned: whether nobody else renders with it; where others may, only `snapshot` is safe.
    :param holds: a function that tells whether that is still so; it is asked before each frame is asked for, and before
        the frame counts. It raises `Superseded` where another try of the movie has the service now.
    :param told: the `host:port` as people know it, where `endpoint` is a tunnel's; empty for `endpoint` itself.
    :param prove: a function that asks whether the service lives and is ours; it answers within half a minute, and
        raises no error.
    """

    endpoint: str
    name: str
    node: str = ""
    job: str = ""
    version: str = ""
    owned: bool = True
    ends_at: Callable[[], float | None] = field(default=lambda: None, compare=False)
    holds: Callable[[], bool] = field(default=lambda: True, compare=False)
    ssl_context: ssl.SSLContext | None = field(default=None, compare=False)
    told: str = ""
    prove: Callable[[], Awaitable[Proof]] = field(default=_nobodys, compare=False)

    @property
    def place(self) -> str:
        """The node of a job that it is on, where another service may come in its place; else its endpoint."""
        return place_of(self.job, self.node) if self.node else self.endpoint

    def __str__(self) -> str:
        return f"{self.name} on {self.node}" if self.node else self.endpoint


def place_of(job: str, node: str) -> str:
    """The text for a node of a job."""
    return f"{job}/{node}"


class ServiceSource(Protocol):
    """An interface: the source that services come from."""

    def services(self) -> AsyncIterator[RenderService]:
        """Yield each service as it becomes usable, until no more can come.

        :raises BraynsError: no service is usable; the error says why.
        """
        ...

    async def set_aside(self, service: RenderService, why: str, *, again: bool, hung: bool = False) -> bool:
        """Take a service back that is of no use any more, and tell whether another will come in its place.

        :param why: why it is of no use, for people.
        :param again: whether it may be started anew on its node.
        :param hung: whether it does not answer, and the frame that it is at is not known to do that to others.
        """
        ...

    def outlook(self, seconds: float | None) -> None:
        """Hear how many seconds the rendering will still take with the services there are; None while nobody can tell."""
        ...


class FixedServices:
    """A source of services that are there, and that nobody can start anew."""

    def __init__(self, services: list[RenderService]) -> None:
        self._services = services

    async def services(self) -> AsyncIterator[RenderService]:
        """See `ServiceSource.services`."""
        for service in self._services:
            yield service

    async def set_aside(self, service: RenderService, why: str, *, again: bool, hung: bool = False) -> bool:
        """See `ServiceSource.set_aside`."""
        return False

    def outlook(self, seconds: float | None) -> None:
        """See `ServiceSource.outlook`."""


@dataclass(frozen=True)
class Progress:
    """The progress of a movie.

    :param done: how many frames are whole on disk, those of earlier tries included.
    :param rate: the frames a second of late.
    :param left: the seconds to go; None while nobody can tell.
    :param nodes: how many frames each node rendered in this try.
    :param seconds: the seconds that the last frame took.
    :param noun: what is counted: frames or tiles.
    """

    done: int
    total: int
    rate: float
    left: float | None
    nodes: dict[str, int]
    seconds: float = 0.0
    noun: str = "frames"


class Reporter(Protocol):
    """An interface: whoever is told how rendering goes."""

    def progress(self, progress: Progress) -> None:
        """Hear how far the movie is; called after each frame."""
        ...

    def note(self, text: str) -> None:
        """Hear a sentence that a person wants to read in the log."""
        ...

    def said(self, line: str) -> None:
        """Hear a line that a movie's Python has printed, with its frame and node."""
        ...

    def trouble(self, text: str) -> None:
        """Hear a warning that a person wants to read in the log."""
        ...

    def used(self, used: Used, total: Used) -> None:
        """Hear what was used, once at the end of each try, whatever it has come to.

        :param total: what all tries of the movie have used, this one included.
        """
        ...
