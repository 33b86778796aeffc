"""The queue of frames that services share, and their pace: these decide which service renders which frame. Both are
pure values.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from airflow_brayns.movie.frame_store import Survey
from airflow_brayns.movie.images import SHEET_FRAMES, spread
from airflow_brayns.movie.interfaces import RenderService
from airflow_brayns.movie.plan import Plan

DEADLY = 3  # a frame that failed on so many different services is at fault itself
_TIMEOUT_FACTOR, _TIMEOUT_FLOOR = 10.0, 20.0


def rough_first(left: Sequence[int], shown: Sequence[int]) -> list[int]:
    """Order frames so that the whole movie is seen early: some that are spread over it, first, last, middle, quarters
    and so on, and then the others one after another.

    :param left: the frames to render, in order.
    :param shown: the frames that are spread over the movie, in order.
    """
    wanted = set(left)
    early = [frame for frame in _halved(shown) if frame in wanted]
    return [*early, *sorted(wanted.difference(early))]


def _halved(frames: Sequence[int]) -> list[int]:
    found = dict.fromkeys([*frames[:1], *frames[-1:]])
    parts = deque([(0, len(frames) - 1)])
    while parts:
        first, last = parts.popleft()
        if last - first > 1:
            middle = (first + last) // 2
            found[frames[middle]] = None
            parts += [(first, middle), (middle, last)]
    return list(found)


@dataclass
class FrameQueue:
    """The queue of frames that all services of a movie share.

    :param total: how many frames there are to render.
    :param waiting: the frames that no service is at.
    :param taken: the frames that a service is at.
    :param blamed: by frame, the services that it failed on.
    :param given_up: the frames that failed on so many services that they are at fault themselves, each with the last
        reason.
    :param done: how many frames are whole on disk.
    """

    waiting: deque[int]
    total: int
    taken: set[int] = field(default_factory=set)
    blamed: dict[int, set[str]] = field(default_factory=dict)
    given_up: dict[int, str] = field(default_factory=dict)
    done: int = 0

    @classmethod
    def of(cls, plan: Plan, survey: Survey) -> FrameQueue:
        """The queue of what is left of a movie. The whole movie is seen early, but where neighbours may be quicker one
        after another: the steps of a simulation, a movie's Python, or the tiles of a frame.
        """
        order = survey.left
        if plan.shown is None and not plan.specification.is_python and plan.tiling is None:
            order = rough_first(order, spread(plan.frames, SHEET_FRAMES))
        return cls(deque(order), len(plan.pictures), done=len(survey.done))

    @property
    def over(self) -> bool:
        """Whether every frame is done or given up."""
        return self.done + len(self.given_up) >= self.total

    def take(self, frame: int) -> bool:
        """Take a certain frame out of the waiting ones, and tell whether it was among them."""
        if frame not in self.waiting:
            return False
        self.waiting.remove(frame)
        self.taken.add(frame)
        return True

    def next_for(self, service: RenderService, others: Iterable[RenderService]) -> int | None:
        """The next frame for a service: the first waiting one that did not fail on it. A frame that did is given only
        where it failed on all other services too; None where there is none.
        """
        rivals = [one.endpoint for one in others]
        for frame in self.waiting:
            blamed = self.blamed.get(frame, ())
            if not blamed or service.endpoint not in blamed or all(one in blamed for one in rivals):
                self.take(frame)
                return frame
        return None

    def bring_forward(self, frames: Iterable[int]) -> None:
        """Put waiting frames to the front of the queue, so that they are rendered next."""
        for frame in frames:
            self.waiting.remove(frame)
            self.waiting.appendleft(frame)

    def give_back(self, frame: int) -> None:
        """Put a taken frame back to the front of the queue, without blame for anybody."""
        if frame in self.taken:
            self.taken.discard(frame)
            self.waiting.appendleft(frame)

    def fail(self, frame: int, service: RenderService, why: str, *, alone: bool) -> bool:
        """Note that a taken frame failed on a service, and tell whether it has failed before on another one.

        :param why: the reason, for people.
        :param alone: whether no other service is there now.
        """
        if frame not in self.taken:
            return False
        self.taken.discard(frame)
        blamed = self.blamed.setdefault(frame, set())
        again = bool(blamed - {service.endpoint})
        blamed.add(service.endpoint)
        if len(blamed) >= DEADLY:
            self.given_up[frame] = why
        elif again or alone:
            self.waiting.append(frame)  # other frames go first, since this one may be at fault
        else:
            self.waiting.appendleft(frame)
        return again

    def blame(self, frame: int, service: RenderService, why: str, *, alone: bool) -> bool:
        """Note, as `fail` does, that a frame failed on a service which turned out to have ended with it after the frame
        was given back.
        """
        if frame not in self.waiting:
            return False  # another service is at the frame, or done with it
        self.take(frame)
        return self.fail(frame, service, why, alone=alone)

    def finish(self, frame: int) -> None:
        """Note that a taken frame is whole on disk."""
        self.taken.discard(frame)
        self.done += 1


@dataclass
class Pace:
    """The pace of services: how long frames take on each, and on all of them."""

    recent: dict[str, deque[float]] = field(default_factory=dict)
    slowest: float = 0.0

    def add(self, service: RenderService, seconds: float) -> None:
        """Note the seconds of a frame that a service rendered."""
        self.recent.setdefault(service.endpoint, deque(maxlen=20)).append(seconds)
        self.slowest = max(self.slowest, seconds)

    def typical(self, service: RenderService) -> float | None:
        """The seconds that a service takes for a frame, of late; None before its first."""
        found = self.recent.get(service.endpoint)
        return statistics.median(found) if found else None

    def limit(self, first: float) -> float:
        """The seconds after which a frame counts as lost.

        :param first: the limit while no frame has come.
        """
        return max(_TIMEOUT_FLOOR, _TIMEOUT_FACTOR * self.slowest) if self.slowest else first

    def rate(self, live: Iterable[RenderService]) -> float:
        """The frames a second of some services together."""
        return sum(1 / max(seconds, 1e-4) for one in live if (seconds := self.typical(one)) is not None)
