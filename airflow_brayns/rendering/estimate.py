"""The estimate of a movie: one node is asked for, renders a few frames, and is given back whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from airflow_brayns.errors import ServiceFailed
from airflow_brayns.movie.estimate import Estimate, Sampling
from airflow_brayns.movie.interfaces import Reporter
from airflow_brayns.movie.render_call import SNAPSHOT
from airflow_brayns.movie.script_output import captured
from airflow_brayns.movie.stage import stages
from airflow_brayns.rendering.render import RenderRequest, one_node
from airflow_brayns.rendering.service_pool import ServicePool
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.session import Session


async def estimate_movie(
    session: Session,
    request: RenderRequest,
    reporter: Reporter,
    announce: Callable[[Booking], Awaitable[None]] | None = None,
) -> Estimate:
    """Estimate what a movie takes, by a service of its own.

    :param request: the movie, as it would be rendered; nothing is written into its folder.
    :param announce: a function that is told of the booking.
    """
    request = await request.prepared(session.cluster)
    async with one_node(session, request, announce) as booking:
        return await _estimate_with(session, booking, request, reporter)


async def _estimate_with(session: Session, booking: Booking, request: RenderRequest, reporter: Reporter) -> Estimate:
    how, script = request.how, request.functions
    pool = ServicePool(
        session, booking, how.plugins, token=request.holder, owner=request.owner, renew_before=None, ledger=request.ledger
    )  # fmt: skip
    with captured() if script is not None else contextlib.nullcontext():
        async with pool:
            incoming = pool.services()
            async with contextlib.aclosing(incoming):  # type: ignore[type-var]
                async for service in incoming:
                    start = request.ledger.used.node_seconds
                    stage = stages(
                        request.specification, script, reporter, load_timeout=how.load_timeout,
                        frame_timeout=how.frame_timeout, preview=False,
                    )(service)  # fmt: skip
                    way = SNAPSHOT if request.on_cluster else how.way
                    sampling = Sampling(request.specification, service, stage, way, how.frame_timeout)
                    return await sampling.measure(start)
    raise ServiceFailed("No service became usable.", remedy="Look at the service's own lines above.")
