"""A local `host:port` for an endpoint, whatever the route: for scripts and tasks with a client of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from airflow_brayns.booking import way_to
from airflow_brayns.brayns.readiness import parse_endpoint
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.settings import DEFAULT_CONN_ID, ClusterSettings


@asynccontextmanager
async def reachable(
    hook: BraynsClusterHook, settings: ClusterSettings, endpoints: list[str]
) -> AsyncIterator[list[str]]:
    """The endpoints as they can be connected to from here, for as long as the block runs."""
    parsed = [parse_endpoint(endpoint) for endpoint in endpoints]
    if settings.route == "direct":
        yield endpoints
        return
    async with hook.connect(settings) as poller, AsyncExitStack() as stack:
        near = [
            await stack.enter_async_context(way_to(poller.cluster, settings.route, host, port)) for host, port in parsed
        ]
        yield [f"{host}:{port}" for host, port in near]


@contextmanager
def open_endpoint(endpoint: str, cluster_conn_id: str = DEFAULT_CONN_ID, **overrides: Any) -> Iterator[str]:
    """A context manager that yields a local `host:port` leading to a service.

    With `route: direct` that is the endpoint itself; with `route: ssh` a port of this machine, which leads through the
    login node for as long as the block runs.

    :param endpoint: `host:port` as it was handed on through XCom.
    :param cluster_conn_id: connection of type `brayns_cluster`.
    :param overrides: fields of the connection with other values.
    :raises InvalidSetting: no such connection, or not an endpoint.
    :raises ConnectionLost: the login node cannot be reached.
    """
    hook = BraynsClusterHook(cluster_conn_id, overrides)
    settings = hook.settings
    parse_endpoint(endpoint)
    if settings.route == "direct":
        yield endpoint
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="brayns-endpoint", daemon=True)
    thread.start()
    way = reachable(hook, settings, [endpoint])
    try:
        near = asyncio.run_coroutine_threadsafe(way.__aenter__(), loop).result()
        try:
            yield near[0]
        finally:
            asyncio.run_coroutine_threadsafe(way.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
