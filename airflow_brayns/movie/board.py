"""What the drivers of a movie share: which frames are left, who is at work, how fast each is, what failed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque

from airflow_brayns.errors import BraynsError, RenderingFailed
from airflow_brayns.movie.frames import DEADLY, FrameQueue, Pace
from airflow_brayns.movie.picture import is_of_one_color
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.store import Made, Store, listed
from airflow_brayns.movie.supply import Progress, Reporter, Station

_QUEUE_AHEAD_BELOW = 2.0  # seconds a frame: above it, the way there and back is nothing
_END_MARGIN = 3.0
_NOTHING_SEEN = (
    "nothing of the scene is seen in it. Look at the camera, the lights, and the models (radii of 0, hidden, clipped)."
)


class Board:
    """What the drivers of a movie share.

    :param store: where frames go.
    :param reporter: who is told.
    :param frame_timeout: seconds that the first frame may take; later ones have time-outs learnt from those rendered.
    """

    def __init__(self, store: Store, reporter: Reporter, frame_timeout: float) -> None:
        self._store, self._reporter, self._frame_timeout = store, reporter, frame_timeout
        self._plan: Plan | None = None
        self.frames = FrameQueue(deque(), 0)
        self.pace = Pace()
        self.live: dict[str, Station] = {}
        self.failures: list[BraynsError] = []
        self.rendered = 0
        self._nodes: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def begin(self, plan: Plan, frames: FrameQueue) -> None:
        """What is to be rendered is known."""
        self._plan, self.frames = plan, frames

    def joins(self, station: Station) -> None:
        """A service that takes frames from now on."""
        self.live[station.endpoint] = station

    def leaves(self, station: Station) -> None:
        """One that takes no more."""
        self.live.pop(station.endpoint, None)
        self._changed.set()

    @property
    def planned(self) -> bool:
        """Whether it is known what is to be rendered."""
        return self._plan is not None

    @property
    def plan(self) -> Plan:
        """The movie's frames."""
        assert self._plan is not None
        return self._plan

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.planned and self.frames.over

    @property
    def outstanding(self) -> int:
        """See `Store`."""
        return self._store.outstanding

    def note(self, text: str) -> None:
        """For the log."""
        self._reporter.note(text)

    def file_path(self, frame: int) -> str:
        """Where the service is to write a frame itself."""
        return self._store.file_path(self.plan, frame)

    def limit(self) -> float:
        """Seconds after which a frame counts as lost."""
        return self.pace.limit(self._frame_timeout)

    def limit_told(self) -> str:
        """What that time-out is."""
        return "the time-out learnt so far" if self.pace.slowest else "frame_timeout, since none has come yet"

    def take(self, station: Station, in_flight: int) -> int | None:
        """The next frame for a service; None where it should take none now."""
        frames = self.frames
        if not frames.waiting:
            return None
        typical = self.pace.typical(station)
        others = [one for one in self.live.values() if one.endpoint != station.endpoint]
        if typical is not None and others and (rate := self.pace.rate(others)):
            quickest = min(seconds for one in others if (seconds := self.pace.typical(one)) is not None)
            # The others are done with all that is left before this service is with one: a slow one must not be the last.
            if typical * (in_flight + 1) > len(frames.waiting) / rate + max(quickest, 0.05):
                return None
        if in_flight and (typical is None or len(frames.waiting) <= len(self.live)):
            return None
        return frames.next_for(station, others)

    def ahead(self, station: Station) -> int:
        """How many frames may be asked for at once."""
        typical = self.pace.typical(station)
        return 2 if typical is not None and typical < _QUEUE_AHEAD_BELOW else 1

    def would_not_finish(self, station: Station) -> bool:
        """Whether the allocation ends before a further frame is done."""
        ends_at = station.ends_at()
        if ends_at is None:
            return False
        expected = self.pace.typical(station) or self.pace.slowest or 1.0
        return time.time() + 1.5 * expected > ends_at - _END_MARGIN

    async def change(self) -> None:
        """Await that a frame comes back or the last one is done."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._changed.wait()

    async def keep(self, station: Station, frame: int, data: bytes, seconds: float, way: str) -> None:
        """Check and write a frame, count it."""
        if not station.holds():
            self.frames.give_back(frame)
            return
        made = Made(seconds, station.node, station.job, station.name, station.version, way)
        await self._store.keep(self.plan, frame, data, made)
        self.frames.finish(frame)
        self.rendered += 1
        if self.rendered == 1 and data and is_of_one_color(data):
            self._reporter.trouble(f"Frame {frame} is of one colour: {_NOTHING_SEEN}")
        self._nodes[station.node or station.endpoint] += 1
        self.pace.add(station, seconds)
        self._changed.set()
        rate = self.pace.rate(list(self.live.values()))
        self._reporter.progress(
            Progress(self.frames.done, self.frames.total, rate, self.seconds_left(), dict(self._nodes), seconds)
        )

    def give_back(self, frame: int) -> None:
        """A frame that this service did not get to."""
        self.frames.give_back(frame)
        self._changed.set()

    def failed(self, frame: int, station: Station, error: BraynsError, *, held: bool = True) -> bool:
        """A frame that failed on this service. Whether it did on another before.

        :param held: whether it was this service's until now; False where it was given back before that was known.
        """
        self.failures.append(error)
        alone = not any(one.endpoint != station.endpoint for one in self.live.values())
        blame = self.frames.fail if held else self.frames.blame
        again = blame(frame, station, str(error), alone=alone)
        self._reporter.trouble(f"Frame {frame} failed on {station}: {error}")
        if frame in self.frames.given_up:
            self._reporter.trouble(
                f"Frame {frame} failed on {DEADLY} different services; the others are rendered without it."
            )
        self._changed.set()
        return again

    def seconds_left(self) -> float | None:
        """Until the last frame, at the present pace; None while that is not known."""
        rate = self.pace.rate(list(self.live.values()))
        left = self.frames.total - self.frames.done - len(self.frames.given_up)
        return left / rate if rate and self.planned else None

    def none_left(self) -> BraynsError:
        """Why it cannot go on without a service."""
        last = self.failures[-1] if self.failures else None
        if not self.planned:
            return last or RenderingFailed("No service became usable.")
        return self.gaps(self.missing())

    def missing(self) -> list[int]:
        """Frames that are not whole on disk."""
        return sorted([*self.frames.waiting, *self.frames.taken, *self.frames.given_up])

    def gaps(self, missing: list[int]) -> RenderingFailed:
        """What to say of frames that are missing."""
        given_up = self.frames.given_up
        text = f"{len(missing)} of {self.frames.total} frames are missing ({listed(missing)})."
        if given_up:
            worst = min(given_up)
            text += (
                f" Frames {listed(sorted(given_up))} failed on {DEADLY} different services, so it is the frame: look at camera "
                f"and scene there. Of frame {worst}: {given_up[worst]}"
            )
        if len(given_up) < len(missing):
            why = f" The last failure: {self.failures[-1]}" if self.failures else ""
            text += f" No service is left to render them; a retry goes on from here.{why}"
        return RenderingFailed(text, retry=len(given_up) < len(missing))
