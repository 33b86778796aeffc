"""Ledgers: each keeps account of what the nodes that are held for a movie do, while it is rendered."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass
from enum import Enum

from airflow_brayns.errors import BraynsError
from airflow_brayns.movie.frame_store import FrameStore
from airflow_brayns.movie.interfaces import Reporter
from airflow_brayns.movie.manifest import Manifest
from airflow_brayns.movie.used import Used, UsedRecord

_LOOK_SECONDS, _RECORD_SECONDS = 5.0, 60.0
_LAST_RECORD_SECONDS = 2.0  # a task that was told to stop has four


class Doing(Enum):
    """What a node does; see `Used`."""

    STARTING = "starting"
    WAITING = "waiting"
    LOST = "lost"


@dataclass
class _Node:
    """A node that is, or was, held.

    :param since: the time up to which it is told what the node did.
    :param doing: what the node has done since then.
    :param until: when it was given back or lost; None while it is held.
    """

    since: float
    doing: Doing = Doing.STARTING
    until: float | None = None


class Ledger:
    """The ledger of one try of a movie. A place is a node of a job, with one service at a time; see
    `RenderService.place`.

    :param movie: the movie that is rendered, the same for every try.
    :param holder: the token of this try.
    :param budget: the node-hours that the movie may use in all tries; None for any number.
    :ivar holder: the token of this try, which each frame of it is written with.
    :ivar ended_by_budget: whether this try ends since they are spent.
    """

    def __init__(self, movie: str = "", holder: str = "", budget: float | None = None) -> None:
        self._movie, self.holder = movie, holder or secrets.token_hex(6)
        self._nodes: dict[str, _Node] = {}
        self._seconds = dict.fromkeys(("rendering", "starting", "waiting", "lost"), 0.0)
        self._frames, self._recorded = 0, 0.0
        self._told_held, self._told_at = tuple[str, ...](), 0.0
        self._began, self._left = time.time(), dict[str, float]()
        self._late, self._news = 0.0, asyncio.Event()
        self.earlier, self._spent_before = Used(), 0.0
        self.budget, self.ended_by_budget = budget, False

    def opens(self, manifest: Manifest) -> None:
        """Read what the earlier tries of this movie have used. A node that one of them held when it was
        last heard of, and that is still there, was lost in between: that try was killed.
        """
        others = [one for one in manifest.used.values() if one.movie == self._movie and one.holder != self.holder]
        self.earlier = sum((one.used for one in others), Used())
        self._spent_before = max((one.spent for one in others), default=0.0)
        for one in sorted(others, key=lambda one: one.at):
            # a try that has ended has told what became of the nodes that it found
            self._left = {**self._left, **dict.fromkeys(one.held, one.at)} if one.held else {}
            self._late = one.late

    # ---- what nodes do -----------------------------------------------------------------------------------------
    def held(self, place: str) -> None:
        """Note a node that is there from now on, or has been before; its service starts, or is found to be there."""
        if place not in self._nodes:
            self._nodes[place] = _Node(time.monotonic())
            self._news.set()

    def ready(self, place: str) -> None:
        """Note that a node's service has the scene, and can take frames."""
        if (node := self._nodes.get(place)) is not None and node.doing is not Doing.WAITING:
            self._settle(node, time.monotonic(), node.doing.value)
            node.doing = Doing.WAITING

    def rendered(self, place: str, began: float, ended: float) -> None:
        """Note a frame that a node was at from one time to another (`time.monotonic()`)."""
        if (node := self._nodes.get(place)) is not None:
            self._settle(node, began, node.doing.value)
            self._settle(node, ended, "rendering")
            self._frames += 1

    def vain(self, seconds: float) -> None:
        """Note that a frame which was rendered is not whole, or does not count."""
        self._seconds["rendering"] -= seconds
        self._seconds["lost"] += seconds
        self._frames -= 1

    def breaks(self, place: str, since: float | None = None) -> None:
        """Note that a node is of no use from now on, until its service, or another one on it, has the scene. Of a
        service that never had it, the start was in vain.

        :param since: since when that is so, where it is noticed late (`time.monotonic()`).
        """
        if (node := self._nodes.get(place)) is None:
            return
        if node.doing is Doing.WAITING:
            self._settle(node, time.monotonic() if since is None else since, node.doing.value)
        node.doing = Doing.LOST

    def gone(self, place: str) -> None:
        """Note that a node is not held any more."""
        if (node := self._nodes.get(place)) is not None and node.until is None:
            node.until = time.monotonic()

    def _settle(self, node: _Node, until: float, doing: str) -> None:
        until = max(node.since, until if node.until is None else min(until, node.until))
        self._seconds[doing] += until - node.since
        node.since = until

    # ---- the budget --------------------------------------------------------------------------------------------
    @property
    def is_spent_before(self) -> bool:
        """Whether earlier tries have spent the budget: they have used it up, or one of them ended by it, or by a larger one.
        A node that is asked for again would only cost.
        """
        return self.budget is not None and self.budget <= max(self._spent_before, self.earlier.node_hours)

    def affords(self, seconds: float) -> bool:
        """Tell whether the budget does for a frame of so many seconds, in which all nodes that are held cost."""
        if self.budget is None:
            return True
        return self.total.node_seconds + len(self._held()) * seconds < self.budget * 3600

    # ---- what was used -----------------------------------------------------------------------------------------
    @property
    def used(self) -> Used:
        """What this try has used until now."""
        now, seconds = time.monotonic(), dict(self._seconds)
        for node in self._nodes.values():
            until = now if node.until is None else node.until
            seconds[node.doing.value] += max(0.0, until - node.since)
        left = sum(max(0.0, self._began - at) for place, at in self._left.items() if place in self._nodes)
        seconds["lost"] += max(0.0, left - self._late)
        return Used(**seconds, frames=self._frames)

    @property
    def total(self) -> Used:
        """What all tries of the movie have used until now."""
        return self.earlier + self.used

    async def kept(self, store: FrameStore) -> None:
        """Write into the manifest what was used, soon after nodes come or go, and then again and again: a try that is killed
        has told most of it, which nodes it left, and whose its frames are, which count although they come later.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._news.wait()
            self._news.clear()
            if self._told_held == self._held() and time.monotonic() - self._told_at < _RECORD_SECONDS:
                continue
            with contextlib.suppress(BraynsError):  # whoever keeps frames tells what is wrong with the place
                await self._record(store, self.used)

    async def close(self, store: FrameStore, reporter: Reporter) -> None:
        """Write and tell what was used, whatever the try has come to."""
        used = self.used
        with contextlib.suppress(BraynsError, TimeoutError):
            async with asyncio.timeout(_LAST_RECORD_SECONDS):
                await self._record(store, used, last=True)
        reporter.used(used, self.earlier + used)

    async def _record(self, store: FrameStore, used: Used, *, last: bool = False) -> None:
        if used.node_seconds > self._recorded:
            held = () if last else self._held()
            self._told_held, self._told_at = held, time.monotonic()
            spent = self.budget if last and self.ended_by_budget and self.budget is not None else 0.0
            await store.note(UsedRecord(self._movie, self.holder, time.time(), used, held, spent))
            self._recorded = used.node_seconds

    def _held(self) -> tuple[str, ...]:
        return tuple(place for place, node in self._nodes.items() if node.until is None)
