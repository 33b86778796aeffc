"""What rendering needs of the world around it: services to render with, and somebody to tell."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class Standing(Enum):
    """What can be said of a service by those who look after it.

    `OURS`: it lives, and its port is its own. `ENDED`: it has ended, or its port is somebody else's. `UNPROVEN`: nothing tells
    of its end, and its node does not answer. `UNKNOWN`: they cannot be asked now. `NOBODYS`: nobody looks after it.
    """

    OURS = "ours"
    ENDED = "ended"
    UNPROVEN = "unproven"
    UNKNOWN = "unknown"
    NOBODYS = "nobody's"


@dataclass(frozen=True)
class Proof:
    """What was found when a service was asked after.

    :param why: of one that has ended: how, with its last lines; of one that cannot be proved: why not.
    """

    standing: Standing
    why: str = ""


async def _nobodys() -> Proof:
    return Proof(Standing.NOBODYS)


@dataclass(frozen=True)
class Station:
    """A service as rendering sees it.

    :param endpoint: `host:port` that can be connected to from here.
    :param name: of the service, its node and its job, for the manifest and for messages.
    :param version: of braynsService.
    :param ends_at: tells when the service is stopped since its allocation ends (`time.time()`); None where it is not.
    :param owned: whether nobody else renders with it; without, only `snapshot` is safe.
    :param holds: whether it still is so; asked before each frame is asked for, and before it counts.
    :param told: `host:port` as people know it, where `endpoint` is a tunnel's; empty where it is that.
    :param prove: asks whether it lives and is ours; within half a minute, and without an error.
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

    def __str__(self) -> str:
        return f"{self.name} on {self.node}" if self.node else self.endpoint


class Supply(Protocol):
    """Where stations come from."""

    def stations(self) -> AsyncIterator[Station]:
        """Each as it becomes usable; ends when no more can come.

        :raises BraynsError: there are none, and why.
        """
        ...

    async def set_aside(self, station: Station, why: str, *, again: bool) -> bool:
        """A service is of no use any more. Whether another will come in its place.

        :param again: whether it may be started anew on its node.
        """
        ...

    def outlook(self, seconds: float | None) -> None:
        """How much longer the rendering will take with the stations there are; None while nobody can tell."""
        ...


class FixedSupply:
    """Stations that are there and that nobody can start anew."""

    def __init__(self, stations: list[Station]) -> None:
        self._stations = stations

    async def stations(self) -> AsyncIterator[Station]:
        """See `Supply.stations`."""
        for station in self._stations:
            yield station

    async def set_aside(self, station: Station, why: str, *, again: bool) -> bool:
        """See `Supply.set_aside`."""
        return False

    def outlook(self, seconds: float | None) -> None:
        """See `Supply.outlook`."""


@dataclass(frozen=True)
class Progress:
    """How far it is.

    :param done: frames that are whole on disk, those of earlier tries included.
    :param rate: frames a second, lately.
    :param left: seconds to go; None while nobody can tell.
    :param nodes: frames that each node rendered in this try.
    :param seconds: that the last frame took.
    """

    done: int
    total: int
    rate: float
    left: float | None
    nodes: dict[str, int]
    seconds: float = 0.0


class Reporter(Protocol):
    """Who is told."""

    def progress(self, progress: Progress) -> None:
        """After each frame."""
        ...

    def note(self, text: str) -> None:
        """What a person wants to read in the log."""
        ...

    def trouble(self, text: str) -> None:
        """The same, as a warning."""
        ...
