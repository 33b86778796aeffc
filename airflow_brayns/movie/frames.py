"""The shared queue of frames, and how long they take: what decides which service renders what. Pure values."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_brayns.movie.supply import Station

DEADLY = 3  # a frame that failed on so many different services: it is the frame
_TIMEOUT_FACTOR, _TIMEOUT_FLOOR = 10.0, 20.0


@dataclass
class FrameQueue:
    """The shared queue.

    :param waiting: frames that nobody is at.
    :param taken: frames that a service is at.
    :param blamed: services that a frame failed on.
    :param given_up: frames that failed on so many services that it is the frame; with the last reason.
    :param done: how many are whole on disk.
    """

    waiting: deque[int]
    total: int
    taken: set[int] = field(default_factory=set)
    blamed: dict[int, set[str]] = field(default_factory=dict)
    given_up: dict[int, str] = field(default_factory=dict)
    done: int = 0

    @property
    def over(self) -> bool:
        """Whether every frame is done or given up."""
        return self.done + len(self.given_up) >= self.total

    def take(self, frame: int) -> bool:
        """One that is certain; whether it was waiting."""
        if frame not in self.waiting:
            return False
        self.waiting.remove(frame)
        self.taken.add(frame)
        return True

    def next_for(self, station: Station, others: Iterable[Station]) -> int | None:
        """The first that did not fail here; one that did, only where it failed on all others too."""
        rivals = [one.endpoint for one in others]
        for frame in self.waiting:
            blamed = self.blamed.get(frame, ())
            if not blamed or station.endpoint not in blamed or all(one in blamed for one in rivals):
                self.take(frame)
                return frame
        return None

    def give_back(self, frame: int) -> None:
        """One that is nobody's fault."""
        if frame in self.taken:
            self.taken.discard(frame)
            self.waiting.appendleft(frame)

    def fail(self, frame: int, station: Station, why: str, *, alone: bool) -> bool:
        """One that failed here. Whether it has failed before on another service."""
        if frame not in self.taken:
            return False
        self.taken.discard(frame)
        blamed = self.blamed.setdefault(frame, set())
        again = bool(blamed - {station.endpoint})
        blamed.add(station.endpoint)
        if len(blamed) >= DEADLY:
            self.given_up[frame] = why
        elif again or alone:
            self.waiting.append(frame)  # the others first: it may be the frame
        else:
            self.waiting.appendleft(frame)
        return again

    def blame(self, frame: int, station: Station, why: str, *, alone: bool) -> bool:
        """One that was given back, and then this service turned out to have ended with it. As `fail`."""
        if frame not in self.waiting:
            return False  # others are at it, or done with it
        self.take(frame)
        return self.fail(frame, station, why, alone=alone)

    def finish(self, frame: int) -> None:
        """One that is whole on disk."""
        self.taken.discard(frame)
        self.done += 1


@dataclass
class Pace:
    """How long frames take, on each station and at all."""

    recent: dict[str, deque[float]] = field(default_factory=dict)
    slowest: float = 0.0

    def add(self, station: Station, seconds: float) -> None:
        """A frame that a station rendered."""
        self.recent.setdefault(station.endpoint, deque(maxlen=20)).append(seconds)
        self.slowest = max(self.slowest, seconds)

    def typical(self, station: Station) -> float | None:
        """Seconds a frame, lately; None before its first."""
        found = self.recent.get(station.endpoint)
        return statistics.median(found) if found else None

    def limit(self, first: float) -> float:
        """Seconds after which a frame counts as lost."""
        return max(_TIMEOUT_FLOOR, _TIMEOUT_FACTOR * self.slowest) if self.slowest else first

    def rate(self, live: Iterable[Station]) -> float:
        """Frames a second of all together."""
        return sum(1 / max(seconds, 1e-4) for one in live if (seconds := self.typical(one)) is not None)
