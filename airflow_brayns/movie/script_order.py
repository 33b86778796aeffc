"""Whether a movie's frames depend on their order: a few are rendered alone, after another and on a second service, and
the pictures are compared.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageChops

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.movie.interfaces import RenderService, Reporter
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.reconnect import client_of
from airflow_brayns.movie.render_call import SNAPSHOT, offers_one_pass
from airflow_brayns.movie.scene_facts import SceneFacts
from airflow_brayns.movie.script import Script, ScriptSpecification
from airflow_brayns.movie.script_call import ScriptCall
from airflow_brayns.movie.script_output import captured
from airflow_brayns.movie.script_run import ScriptRun
from airflow_brayns.movie.specification import MovieSpecification

_NEAR = 2  # of 255: pictures of two processors may differ in the last digit


@dataclass(frozen=True)
class Order:
    """What was found of a movie's frames.

    :param frames: the frames that were rendered.
    :param after_others: those that are another picture after other frames than alone.
    :param on_second: those that are another picture on a second service.
    """

    frames: Sequence[int]
    after_others: Sequence[int]
    on_second: Sequence[int]

    @property
    def differ(self) -> list[int]:
        """The frames that depend on what was rendered before."""
        return sorted({*self.after_others, *self.on_second})


async def order_of(
    specification: ScriptSpecification,
    script: Script,
    services: Sequence[RenderService],
    frames: Sequence[int],
    reporter: Reporter,
    *,
    scene_seconds: float,
    frame_seconds: float,
) -> Order:
    """Render frames in several orders, and compare.

    :param specification: the movie's, small.
    :param services: two services that nobody else uses.
    :raises ScriptFailed: the movie's Python failed.
    """

    async def rendered(service: RenderService, runs: Sequence[Sequence[int]]) -> list[dict[int, bytes]]:
        run = ScriptRun(
            script, specification, service, reporter, scene_seconds=scene_seconds, frame_seconds=frame_seconds, preview=True
        )  # fmt: skip
        try:
            async with client_of(service) as client:
                return [await _sequence(client, run, specification, numbers) for numbers in runs]
        finally:
            await run.close()

    # the first one of the order backwards comes once more at its end, after all others
    backwards = [*reversed(frames), frames[-1]]
    with captured():
        works = [
            asyncio.create_task(rendered(services[0], [*([frame] for frame in frames), backwards])),
            asyncio.create_task(rendered(services[1], [frames])),
        ]
        try:
            first, second = await asyncio.gather(*works)
        finally:
            for work in works:
                work.cancel()  # the other one, where one has failed
            await asyncio.gather(*works, return_exceptions=True)
    alone = {frame: picture for one in first[:-1] for frame, picture in one.items()}
    return Order(frames, _differing(alone, first[-1]), _differing(alone, second[0]))


async def _sequence(
    client: BraynsClient, run: ScriptRun, specification: MovieSpecification, numbers: Sequence[int]
) -> dict[int, bytes]:
    """The last picture of each frame of a sequence, which begins with the scene made anew."""
    facts: SceneFacts = await run.prepare(client)
    call = ScriptCall("one-pass" if await offers_one_pass(client) else SNAPSHOT, run)
    plan = Plan(specification, facts, "")
    await call.begin(client, plan)
    return {number: await call.render(client, plan, number) for number in numbers}


def _differing(alone: dict[int, bytes], other: dict[int, bytes]) -> list[int]:
    return [frame for frame, picture in alone.items() if not same_picture(picture, other[frame])]


def same_picture(one: bytes, other: bytes) -> bool:
    """Tell whether two images show the same, but for the last digit."""
    if one == other:
        return True
    with Image.open(io.BytesIO(one)) as first, Image.open(io.BytesIO(other)) as second:
        if first.size != second.size:
            return False
        extremes = ImageChops.difference(first.convert("RGBA"), second.convert("RGBA")).getextrema()
    return all(high <= _NEAR for _, high in extremes)  # type: ignore[misc]
