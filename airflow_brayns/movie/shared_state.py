"""The state that the workers of a movie share: which frames are left, which services are at work, how fast each is, and
what failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque

from airflow_brayns.errors import BraynsError, BudgetSpent, NothingSeen, RenderingFailed
from airflow_brayns.movie.budget import budget_spent
from airflow_brayns.movie.frame_store import FrameStore, Made
from airflow_brayns.movie.images import color_of, is_empty, spread, tile_color
from airflow_brayns.movie.interfaces import Progress, RenderService, Reporter
from airflow_brayns.movie.ledger import Ledger
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.queue import DEADLY, FrameQueue, Pace

_QUEUE_AHEAD_BELOW = 2.0  # seconds a frame; above it, the way to the service and back counts for nothing
_END_MARGIN = 3.0
_LOOKS = 3  # pictures of one colour, spread over the movie, after which no more are rendered
_REMEDY = "Look at the camera, the lights, and the models (radii of 0, hidden, clipped)."


class SharedState:
    """The state that the workers of a movie share.

    :param store: the place where frames go.
    :param reporter: whoever is told how it goes.
    :param frame_timeout: seconds that the first frame may take; later ones have time-outs learnt from those rendered.
    :param ledger: the ledger in which it is noted what each service's node does.
    """

    def __init__(self, store: FrameStore, reporter: Reporter, frame_timeout: float, ledger: Ledger) -> None:
        self._store, self._reporter, self._frame_timeout = store, reporter, frame_timeout
        self.ledger = ledger
        self._plan: Plan | None = None
        self.frames = FrameQueue(deque(), 0)
        self.pace = Pace()
        self.live: dict[str, RenderService] = {}
        self.failures: list[BraynsError] = []
        self.rendered = 0
        self._nodes: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._blank: list[int] = []
        self._is_seen = self._has_others = False

    def begin(self, plan: Plan, frames: FrameQueue) -> None:
        """Take what is to be rendered, which is known from now on."""
        self._plan, self.frames, self._has_others = plan, frames, frames.done > 0

    def joins(self, service: RenderService) -> None:
        """Note a service that takes frames from now on."""
        self.live[service.endpoint] = service

    def leaves(self, service: RenderService) -> None:
        """Note a service that takes no more frames."""
        self.live.pop(service.endpoint, None)
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
        """Whether there is nothing left to render."""
        return self.planned and self.frames.over

    @property
    def outstanding(self) -> int:
        """See `FrameStore`; tiles are large, so one of a service is written while the next one is rendered."""
        return self._store.outstanding if self.plan.tiling is None else 1

    def note(self, text: str) -> None:
        """Write a sentence for people into the log."""
        self._reporter.note(text)

    def file_path(self, frame: int) -> str:
        """The path to which the service is to write a frame itself; empty where the image comes over the connection."""
        return self._store.file_path(self.plan, frame)

    def limit(self) -> float:
        """The seconds after which a frame counts as lost."""
        return self.pace.limit(self._frame_timeout)

    def limit_told(self) -> str:
        """Words for where that time-out comes from, for messages."""
        return "the time-out learnt so far" if self.pace.slowest else "frame_timeout, since none has come yet"

    def take(self, service: RenderService, in_flight: int) -> int | None:
        """The next frame for a service; None where it should take none now.

        :param in_flight: how many frames the service is at already.
        """
        frames = self.frames
        if not frames.waiting:
            return None
        typical = self.pace.typical(service)
        if not self.ledger.affords((in_flight + 1) * (typical or self.pace.slowest)):
            return None
        others = [one for one in self.live.values() if one.endpoint != service.endpoint]
        if typical is not None and others and (rate := self.pace.rate(others)):
            quickest = min(seconds for one in others if (seconds := self.pace.typical(one)) is not None)
            # The other services are done with all that is left before this one is with one frame: a slow service must
            # not be the last.
            if typical * (in_flight + 1) > len(frames.waiting) / rate + max(quickest, 0.05):
                return None
        if in_flight and (typical is None or len(frames.waiting) <= len(self.live)):
            return None
        return frames.next_for(service, others)

    async def budget_spent(self) -> None:
        """Wait until the budget does for no further frame, and none is being rendered or written."""
        while self.frames.taken or self._affords_any():
            await self.change()

    def _affords_any(self) -> bool:
        known = [seconds for one in self.live.values() if (seconds := self.pace.typical(one)) is not None]
        return self.ledger.affords(min(known, default=self.pace.slowest))

    def ahead(self, service: RenderService) -> int:
        """The number of frames that a service may be asked for at once."""
        typical = self.pace.typical(service)
        if self.plan.tiling is not None:
            return 1
        return 2 if typical is not None and typical < _QUEUE_AHEAD_BELOW else 1

    def would_not_finish(self, service: RenderService) -> bool:
        """Tell whether a service's allocation ends before a further frame would be done."""
        ends_at = service.ends_at()
        if ends_at is None:
            return False
        expected = self.pace.typical(service) or self.pace.slowest or 1.0
        return time.time() + 1.5 * expected > ends_at - _END_MARGIN

    async def change(self) -> None:
        """Wait until a frame comes back, or the last one is done."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._changed.wait()

    async def keep(self, service: RenderService, frame: int, data: bytes, seconds: float, way: str) -> None:
        """Check a frame, write it, and count it. One that is not ours to write was rendered in vain."""
        if not service.holds():
            self.ledger.vain(seconds)
            self.frames.give_back(frame)
            return
        made = Made(seconds, service.node, service.job, service.name, service.version, way, self.ledger.holder)
        flat = await self._store.keep(self.plan, frame, data, made)
        self.frames.finish(frame)
        self.rendered += 1
        if not self._is_seen:
            color = await self._color(data) if data else None
            self._look(frame, flat or color is not None, flat or (color is not None and self._is_empty(color)))
        self._nodes[service.node or service.endpoint] += 1
        self.pace.add(service, seconds)
        self._changed.set()
        rate = self.pace.rate(list(self.live.values()))
        self._reporter.progress(
            Progress(
                self.frames.done,
                self.frames.total,
                rate,
                self.seconds_left(),
                dict(self._nodes),
                seconds,
                self.plan.noun,
            )
        )

    async def _color(self, data: bytes) -> tuple[int, int, int] | None:
        return color_of(data) if self.plan.tiling is None else await asyncio.to_thread(tile_color, data)

    def _is_empty(self, color: tuple[int, int, int]) -> bool:
        return is_empty(color, self.plan.specification.renderer.background_color)

    def _look(self, frame: int, flat: bool, empty: bool) -> None:
        """Until something is seen, each picture is looked at; after the first in which nothing is, those from the movie's middle and
        end are rendered next: it may begin in the dark.

        :param flat: whether it is of one colour.
        :param empty: whether that is the colour of nothing.
        :raises NothingSeen: nothing is seen in them either.
        """
        first, self._is_seen = not self._blank, not empty
        tiles = 1 if self.plan.tiling is None else self.plan.tiling.number  # a tile may well show nothing
        if flat and first and tiles == 1:
            self._reporter.trouble(f"Frame {frame} is of one colour: nothing of the scene is seen in it. {_REMEDY}")
        if not empty:
            return
        if first and tiles == 1:
            self.frames.bring_forward(spread(sorted(self.frames.waiting), _LOOKS)[1:])
        self._blank.append(frame)
        if (
            len(self._blank) >= min(_LOOKS * tiles, self.frames.total)
            and not self._has_others
            and self.plan.sample is None
        ):
            raise NothingSeen(
                f"nothing of the scene is seen: {self.plan.noun} {self.plan.listed(self._blank)} are of one colour.",
                remedy="l" + _REMEDY[1:],
                field="models",
            )

    def give_back(self, frame: int) -> None:
        """Put a frame back that a service did not get to."""
        self.frames.give_back(frame)
        self._changed.set()

    def failed(self, frame: int, service: RenderService, error: BraynsError, *, held: bool = True) -> bool:
        """Note that a frame failed on a service, and tell whether it has failed before on another one.

        :param held: whether the frame was the service's until now; False where it was given back before the failure was
            known.
        """
        self.failures.append(error)
        alone = not any(one.endpoint != service.endpoint for one in self.live.values())
        blame = self.frames.fail if held else self.frames.blame
        again = blame(frame, service, str(error), alone=alone)
        named = self.plan.named(frame)
        self._reporter.trouble(f"{named.capitalize()} failed on {service}: {error}")
        if frame in self.frames.given_up:
            self._reporter.trouble(
                f"{named.capitalize()} failed on {DEADLY} different services; the others are rendered without it."
            )
        self._changed.set()
        return again

    def seconds_left(self) -> float | None:
        """The seconds until the last frame at the present pace; None while that is not known."""
        rate = self.pace.rate(list(self.live.values()))
        left = self.frames.total - self.frames.done - len(self.frames.given_up)
        return left / rate if rate and self.planned else None

    def none_left(self) -> BraynsError:
        """The error that says why rendering cannot go on without a service."""
        last = self.failures[-1] if self.failures else None
        if not self.planned:
            return last or RenderingFailed("No service became usable.", remedy="Look at the services' own lines above.")
        return self.gaps(self.missing())

    def spent(self, left: tuple[list[int], Plan] | None) -> BudgetSpent:
        """The error that ends the movie since its budget is spent.

        :param left: the pictures that were missing when this try began, and their plan; None where nobody could tell.
        """
        self.ledger.ended_by_budget = True
        left = (self.missing(), self.plan) if self.planned else left
        return budget_spent(self.ledger.budget or 0.0, self.ledger.total, left)

    def missing(self) -> list[int]:
        """The frames that are not whole on disk."""
        return sorted([*self.frames.waiting, *self.frames.taken, *self.frames.given_up])

    def gaps(self, missing: list[int]) -> RenderingFailed:
        """The error for frames that are missing."""
        given_up = self.frames.given_up
        text = f"{len(missing)} of {self.frames.total} {self.plan.noun} are missing ({self.plan.listed(missing)})."
        remedy = "Look at camera and scene in the frames that failed." if given_up else ""
        if given_up:
            worst = min(given_up)
            text += (
                f" {self.plan.noun.capitalize()} {self.plan.listed(sorted(given_up))} failed on {DEADLY} different services, so it is the frame. "
                f"Of {self.plan.named(worst)}: {given_up[worst]}"
            )
        if len(given_up) < len(missing):
            why = f" The last failure: {self.failures[-1].why}" if self.failures else ""
            text += f" No service is left to render them.{why}"
            remedy = (
                remedy or "Clear the task, where it has no retries left: it goes on from the frames that are there."
            )
        idle = bool(self.failures) and self.failures[-1].idle
        return RenderingFailed(
            text,
            remedy=remedy,
            retry=len(given_up) < len(missing),
            frame=self.plan.part(min(given_up))[0] if given_up else None,
            idle=idle,
        )
