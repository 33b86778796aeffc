"""Estimates of what a movie will take, made of a few frames of full quality that one service has rendered."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import ConnectionLost, RenderingFailed, ServiceFailed
from airflow_brayns.movie.frame_store import listed
from airflow_brayns.movie.images import check_picture, check_tile
from airflow_brayns.movie.interfaces import Liveness, RenderService
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.reconnect import client_of
from airflow_brayns.movie.render_call import ONE_PASS, SNAPSHOT, RenderCall, check_region, offers_one_pass
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.stage import Stage
from airflow_brayns.movie.used import duration, hours_text

SAMPLE = 3
_FIRST_SURPLUS = 1.1  # above this part of all others, the first frame after loading is rendered once more
_HOUR = 3600.0


@dataclass(frozen=True)
class Cost:
    """What a movie takes on some number of nodes, each value with the least and the most that it may be.

    :param hours: from the moment when all nodes are there to the last frame.
    :param node_hours: that for all nodes together.
    """

    nodes: int
    hours: tuple[float, float, float]
    node_hours: tuple[float, float, float]


@dataclass(frozen=True)
class Estimate:
    """An estimate of what a movie takes.

    :param frames: how many frames the movie has, or tiles where they are rendered in these.
    :param sample: the frames, or tiles, that were rendered, each with its seconds; each stands for a part of the movie of the same
        length.
    :param start: seconds from a node's coming until its service is usable.
    :param load: seconds that the scene takes to load, with what the first frame takes longer than it does later.
    :param service: words for the service that rendered them.
    :param way: the way in which they were asked for, see `make_call`.
    :param noun: what is counted: frames or tiles.
    """

    frames: int
    sample: tuple[tuple[int, float], ...]
    start: float
    load: float
    service: str = ""
    way: str = ""
    noun: str = "frames"

    @property
    def each(self) -> tuple[float, float, float]:
        """The seconds that a frame takes: the mean, and the quickest and the slowest of the sample."""
        seconds = [one for _, one in self.sample]
        return statistics.fmean(seconds), min(seconds), max(seconds)

    def on(self, nodes: int) -> Cost:
        """What the movie takes on so many nodes, each of which starts a service, loads the scene, and is held until the
        last frame.
        """
        rounds = -(-self.frames // nodes)
        mean, low, high = ((self.start + self.load + rounds * seconds) / _HOUR for seconds in self.each)
        return Cost(nodes, (mean, low, high), (nodes * mean, nodes * low, nodes * high))

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """A row of plain JSON values for each number of nodes."""
        each, quickest, slowest = (round(one, 4) for one in self.each)
        same = {
            "frames": self.frames, "frame_seconds": each, "frame_seconds_low": quickest, "frame_seconds_high": slowest,
            "start_seconds": round(self.start, 3), "load_seconds": round(self.load, 3),
        }  # fmt: skip
        found = []
        for cost in map(self.on, numbers):
            row: dict[str, Any] = {"nodes": cost.nodes}
            for name, values in (("hours", cost.hours), ("node_hours", cost.node_hours)):
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), (round(one, 6) for one in values), strict=True))
            found.append(row | same)
        return found

    def plain(self, numbers: Sequence[int]) -> dict[str, Any]:
        """The estimate as plain JSON values, for XCom."""
        rows = self.rows(numbers)
        sample = [{"frame": frame, "seconds": round(seconds, 4)} for frame, seconds in self.sample]
        return {"nodes": rows, "sample": sample, "service": self.service, "way": self.way}

    def text(self, numbers: Sequence[int]) -> str:
        """Words for people, in several lines."""
        each, quickest, slowest = self.each
        lines = [
            f"{self.frames} {self.noun} of {each:.3g} s ({quickest:.3g} to {slowest:.3g}), by {self.noun} "
            f"{listed([frame for frame, _ in self.sample])} of full quality on {self.service}.",
            f"Before that each node takes {self.start:.3g} s to start and {self.load:.3g} s to load. Not in it: the queue, faults, encoding.",
            f"  {'nodes':>5}  {'time':<42}node-hours",
        ]
        for cost in map(self.on, numbers):
            times = [duration(_HOUR * one) for one in cost.hours]
            least = [hours_text(one, cost.node_hours[0]) for one in cost.node_hours]
            lines.append(f"  {cost.nodes:>5}  {_between(times):<42}{_between(least)}")
        return "\n".join(lines)


def _between(values: Sequence[str]) -> str:
    mean, low, high = values
    return f"{mean} ({low} to {high})"


def sample_of(frames: Sequence[int], number: int = SAMPLE) -> list[int]:
    """The middle frames of so many equal parts of a movie, each of which stands for its part; all where there are no
    more.
    """
    if len(frames) <= number:
        return list(frames)
    return [frames[(2 * part + 1) * len(frames) // (2 * number)] for part in range(number)]


@dataclass(frozen=True)
class Sampling:
    """The measuring of frames on one service.

    :param stage: the movie's scene on the service.
    :param way: the way to ask for a frame; None for one pass where the service offers it.
    :param frame_timeout: seconds that a frame may take.
    """

    specification: MovieSpecification
    service: RenderService
    stage: Stage
    way: str | None
    frame_timeout: float

    async def measure(self, start: float) -> Estimate:
        """Load the scene, and render a few frames of full quality.

        :param start: the seconds that the service took to become usable.
        :raises RenderingFailed: a frame does not come in time, or is not whole.
        :raises ServiceFailed: the service ended.
        """
        try:
            async with client_of(self.service) as client:
                began = time.monotonic()
                if self.specification.tiles is not None:
                    await check_region(client, str(self.service), self.service.version)
                facts = await self.stage.prepare(client)
                plan = Plan(self.specification, facts, "")
                call = self.stage.call(self.way or (ONE_PASS if await offers_one_pass(client) else SNAPSHOT))
                await call.begin(client, plan, facts.loaded)
                load = time.monotonic() - began
                timed = partial(self._seconds, client, plan, call)
                sample = {picture: await timed(picture) for picture in sample_of(plan.pictures)}
                load += await self._surplus(sample, timed)
        except ConnectionLost as error:
            proof = await self.service.prove()
            if proof.liveness is Liveness.ENDED:
                raise ServiceFailed(proof.why, node=self.service.node) from error
            raise
        finally:
            await self.stage.close()
        told = f"{self.service}, braynsService {self.service.version}" if self.service.version else str(self.service)
        return Estimate(len(plan.pictures), tuple(sample.items()), start, load, told, call.name, plan.noun)

    async def _surplus(self, sample: dict[int, float], timed: Any) -> float:
        """The seconds by which the first frame after loading took longer than it does; where it may have, it is rendered
        once more.
        """
        first, *others = sample
        before = sample[first]
        if not others or before <= _FIRST_SURPLUS * max(sample[one] for one in others):
            return 0.0
        sample[first] = await timed(first)
        return max(0.0, before - sample[first])

    async def _seconds(self, client: BraynsClient, plan: Plan, call: RenderCall, picture: int) -> float:
        began = time.monotonic()
        asked = asyncio.ensure_future(call.render(client, plan, picture))
        try:
            while not asked.done() and (rest := call.since(began) + self.frame_timeout - time.monotonic()) > 0:
                await asyncio.wait({asked}, timeout=rest)
            if not asked.done():
                raise RenderingFailed(
                    f"{plan.named(picture)} did not come within {self.frame_timeout:.0f} s.",
                    remedy="give it more time, or a renderer with fewer samples.",
                    field="frame_timeout",
                    frame=plan.part(picture)[0],
                )
            data = await asked
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        seconds = time.monotonic() - began
        check = check_picture if plan.tiling is None else check_tile
        check(data, plan.size, plan.specification.format)
        return seconds
