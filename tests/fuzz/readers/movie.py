"""What a service says of a scene, and the pictures it sends, damaged."""

from __future__ import annotations

import asyncio
import binascii
import io
import json
import math
import time
from functools import cache
from random import Random
from typing import Any

from PIL import Image

from airflow_brayns.brayns.client import Reply
from airflow_brayns.movie import render_call, scene
from airflow_brayns.movie.images import check_picture
from airflow_brayns.movie.plan import Plan, SceneFacts
from tests.fuzz import cases
from tests.fuzz.readers.checks import SLOW, must, ours
from tests.fuzz.senders.common import a_plan, a_specification

# ---- what a service says ------------------------------------------------------------------------------------------------
FACTS = {"min": [0, 0, 0], "max": [1, 2, 3]}, {"start_frame": 0, "end_frame": 9, "current": 0, "dt": 0.1, "unit": "ms"}


def facts(rng: Random) -> None:
    """What a service tells of its scene, or a manifest of it: the camera stays finite."""
    bounds, simulation = cases.damaged(rng, FACTS[0], 0.1), cases.damaged(rng, FACTS[1], 0.1)
    found = ours(lambda: SceneFacts.read(bounds, simulation))
    if found is None:
        return
    again = ours(
        lambda: SceneFacts.from_plain(json.loads(cases.as_json(rng, found.plain()))), ValueError, RecursionError
    )
    found.agrees_with(again or found)
    _check_plan(a_plan(), found, simulation=rng.random() < 0.5)


def _check_plan(plan: Plan, found: SceneFacts, simulation: bool) -> None:
    spec = plan.specification
    if simulation:
        spec = a_specification(frames=None, simulation={"slowing_factor": 1.0, "start": 0, "end": 3})
    plan = Plan(spec, found, "scene")
    total = ours(lambda: plan.total)
    for frame in range(min(total or 0, 3)):
        pose = plan.pose(frame)
        numbers = [*pose.position, *pose.target, *pose.up, pose.fovy]
        must(all(math.isfinite(number) for number in numbers), f"{pose!r} of {found!r}")
        plan.key(frame)


class Answering:
    """A client whose service answers anything."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.calls = 0

    def reply(self, method: str) -> Reply:
        self.calls += 1
        must(self.calls < 10_000, "it asks for ever")
        good: dict[str, Any] = {
            "get-scene": {"bounds": FACTS[0], "models": []}, "get-simulation-parameters": FACTS[1], "add-model": [{"model_id": 1}],
            "get-color-methods": ["solid", "morphology section"], "get-color-values": ["soma", "axon"],
            "snapshot": {"color_buffer": {"offset": 0, "size": 4}}, "render-image": {"accumulation": 1, "max_accumulation": 1},
        }  # fmt: skip
        return Reply(cases.damaged(self.rng, good.get(method), 0.08), self.rng.randbytes(self.rng.randint(0, 8)))

    async def call(self, method: str, params: Any = None, **_: Any) -> Reply:
        json.dumps(params, allow_nan=False)
        return self.reply(method)

    async def call_in_order(self, messages: Any, **_: Any) -> list[Reply]:
        json.dumps(messages, allow_nan=False)
        return [self.reply(method) for method, _ in messages]


def replies(rng: Random) -> None:
    """Preparing a scene and rendering a frame with a service that answers anything."""
    client: Any = Answering(rng)
    plan = a_plan()

    async def main() -> None:
        match rng.randrange(3):
            case 0:
                await scene.prepare(client, plan.specification)
            case 1:
                data = await render_call.Snapshot().render(client, plan, 1)
                must(len(data) <= 8, "more than came")
            case _:
                await render_call.OnePass().render(client, plan, 1)

    ours(lambda: asyncio.run(main()))


@cache
def _pictures() -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {"png": [], "jpg": []}
    noise = Image.effect_noise((96, 64), 80)
    for mode in ("RGB", "RGBA", "L", "P"):
        for kind, name in (("png", "PNG"), ("jpg", "JPEG")):
            if kind == "png" or mode in ("RGB", "L"):
                target = io.BytesIO()
                noise.convert(mode).save(target, name)
                found[kind].append(target.getvalue())
    return found


def pictures(rng: Random) -> None:
    """`check_picture`: nothing but a whole picture of the right size passes, and nothing but our error is raised."""
    kind = rng.choice(("png", "jpg"))
    good = rng.choice(_pictures()[kind])
    end = {"png": b"IEND\xaeB`\x82", "jpg": b"\xff\xd9"}[kind]
    bad = cases.mutated(rng, good, [b"IHDR", b"IDAT", b"\xff\xc0", b"zTXt\0\0", b"iCCP", b"acTL", end])
    if rng.random() < 0.4:
        place = rng.randrange(len(good))
        bad = good[:place] + rng.randbytes(rng.randint(1, 4)) + good[place + rng.randint(1, 4) :]
    if kind == "png" and rng.random() < 0.5:
        bad = _with_sums(bad)
    began = time.process_time()
    ours(lambda: check_picture(bad + rng.choice((b"", end)), (96, 64), kind))
    must(time.process_time() - began < SLOW, "a picture took too long")


def _with_sums(data: bytes) -> bytes:
    """A PNG whose chunks' sums are right again, so that what is wrong in them is reached."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + size]
        if size > len(data) or len(body) < 4:
            break
        out += data[at : at + 4] + body + (binascii.crc32(body) & 0xFFFFFFFF).to_bytes(4, "big")
        at += 12 + size
    return bytes(out)
