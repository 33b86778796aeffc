"""A local `host:port` for an endpoint, whatever the route: for scripts and tasks with a client of their own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from airflow_brayns.booking import context_for, way_to
from airflow_brayns.brayns.readiness import parse_endpoint
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.settings import DEFAULT_CONN_ID, ClusterSettings
from airflow_brayns.tunnel import local_port


@dataclass(frozen=True)
class Reached:
    """A service as it can be connected to from here.

    :param ssl_context: for its clients; None where it speaks no TLS.
    """

    host: str
    port: int
    ssl_context: ssl.SSLContext | None = field(default=None, compare=False)

    @property
    def endpoint(self) -> str:
        """`host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@asynccontextmanager
async def reachable(
    hook: BraynsClusterHook, settings: ClusterSettings, endpoints: Sequence[str]
) -> AsyncIterator[list[Reached]]:
    """The endpoints as they can be connected to from here, for as long as the block runs.

    :raises InvalidSetting: not an endpoint; or, with `tls: allocation`, no service of ours is there.
    :raises ConnectionLost: the way there cannot be made.
    """
    parsed = [parse_endpoint(endpoint) for endpoint in endpoints]
    if settings.route == "direct" and settings.tls != "allocation":
        yield [Reached(host, port, settings.client_context("", host, "")) for host, port in parsed]
        return
    async with hook.connect(settings) as poller, AsyncExitStack() as stack:
        near = []
        for host, port in parsed:
            context = await context_for(poller.cluster, settings, host, port)
            way = await stack.enter_async_context(way_to(poller.cluster, settings.route, host, port))
            near.append(Reached(*way, context))
        yield near


@contextmanager
def open_endpoint(endpoint: str, cluster_conn_id: str = DEFAULT_CONN_ID, **overrides: Any) -> Iterator[str]:
    """A context manager that yields a local `host:port` leading to a service.

    With `route: direct` and no TLS that is the endpoint itself; otherwise a port of this machine, which leads there for as
    long as the block runs: through the login node (`ssh`), into the node (`node`), and through TLS, whose certificate is
    checked here. So any client can use it as it is, without TLS of its own.

    :param endpoint: `host:port` as it was handed on through XCom.
    :param cluster_conn_id: connection of type `brayns_cluster`.
    :param overrides: fields of the connection with other values.
    :raises InvalidSetting: no such connection, not an endpoint, or no certificate to know the service by.
    :raises ConnectionLost: the way there cannot be made.
    """
    hook = BraynsClusterHook(cluster_conn_id, overrides)
    settings = hook.settings
    parse_endpoint(endpoint)
    if settings.route == "direct" and settings.tls == "off":
        yield endpoint
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="brayns-endpoint", daemon=True)
    thread.start()
    way = _plain(hook, settings, endpoint)
    try:
        near = asyncio.run_coroutine_threadsafe(way.__aenter__(), loop).result()
        try:
            yield near
        finally:
            asyncio.run_coroutine_threadsafe(way.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@asynccontextmanager
async def _plain(hook: BraynsClusterHook, settings: ClusterSettings, endpoint: str) -> AsyncIterator[str]:
    """The way to one endpoint for clients that speak no TLS."""
    async with reachable(hook, settings, [endpoint]) as [near]:
        if near.ssl_context is None:
            yield near.endpoint
            return
        async with local_port(partial(asyncio.open_connection, near.host, near.port, ssl=near.ssl_context)) as port:
            yield f"127.0.0.1:{port}"
