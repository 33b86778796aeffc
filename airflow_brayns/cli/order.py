"""The proof of `airflow brayns movie check FILE.py`: frames do not depend on their order."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence

from airflow_brayns.cluster.owner import About, Owner, RunOf
from airflow_brayns.errors import RenderingFailed, ServiceFailed
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.movie.frame_store import listed
from airflow_brayns.movie.interfaces import RenderService, Reporter
from airflow_brayns.movie.script import ScriptSpecification
from airflow_brayns.movie.script_file import ScriptFile
from airflow_brayns.movie.script_order import Order, order_of
from airflow_brayns.rendering.service_pool import ServicePool
from airflow_brayns.services.booking import book

_SECONDS = 600.0  # for the scene, and for a frame


async def prove(
    hook: BraynsClusterHook,
    specification: ScriptSpecification,
    plugins: tuple[str, ...],
    frames: Sequence[int],
    reporter: Reporter,
) -> Order:
    """Render some frames in several orders with two services of a cluster, which are given back whatever happens."""
    name = f"ab-{secrets.token_hex(6)}"
    about = About(run=RunOf("airflow brayns movie check", "", specification.script.name))
    owner = Owner(name, f"check-{secrets.token_hex(4)}", str(about), movie=name)
    async with hook.session(logging.getLogger("airflow_brayns.check")) as session:
        try:
            booking = await book(session.cluster, hook.settings, owner, nodes=2, plugins=plugins)
            pool = ServicePool(session, booking, plugins, token=owner.token, owner=owner, renew_before=None)
            async with pool:
                return await order_of(
                    specification, ScriptFile.of(specification.script), await _two(pool), frames, reporter,
                    scene_seconds=_SECONDS, frame_seconds=_SECONDS,
                )  # fmt: skip
        finally:
            await asyncio.shield(session.cluster.release(owner.name))


async def _two(pool: ServicePool) -> list[RenderService]:
    found = list[RenderService]()
    async for service in pool.services():
        found.append(service)
        if len(found) == 2:
            return found
    raise ServiceFailed(
        "no second service became usable, and two are needed.", remedy="Try again, or see the lines above for why."
    )


def told(order: Order, name: str) -> str:
    """The words for frames that do not depend on their order.

    :raises RenderingFailed: some do; the error names them.
    """
    if not order.differ:
        return f"  Frames {listed(order.frames)} are the same pictures alone, after others and on a second service."
    places = [("after other frames", order.after_others), ("on a second service", order.on_second)]
    where = "; ".join(f"{place}: {listed(frames)}" for place, frames in places if frames)
    raise RenderingFailed(
        f"{name}: frames {listed(order.differ)} depend on what was rendered before, so they would differ from node to node and "
        f"from try to try. Other pictures than alone: {where}.",
        remedy="Let `frame` set all that it changes, from the frame's number alone: no counters, and nothing that stays from the "
        "frame before.",
        retry=False,
    )
