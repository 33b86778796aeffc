"""A local `host:port` for an endpoint, whatever the route: for scripts and tasks with a client of their own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from airflow_brayns.booking import context_for, way_to
from airflow_brayns.brayns.readiness import parse_endpoint
from airflow_brayns.errors import ServiceFailed
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.in_use import InUse, connection_broke
from airflow_brayns.settings import DEFAULT_CONN_ID, ClusterSettings
from airflow_brayns.tunnel import local_port

Result = TypeVar("Result")


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


async def check_endpoint(hook: BraynsClusterHook, settings: ClusterSettings, endpoint: str, log: Any) -> None:
    """Of an endpoint of ours, the service must live and the port be its own; one that is none of ours passes.

    :raises ServiceFailed: it has ended, or its port is somebody else's.
    """
    async with hook.connect(settings) as poller:
        await InUse(poller.cluster, endpoint, log).look()


@contextmanager
def open_endpoint(endpoint: str, cluster_conn_id: str = DEFAULT_CONN_ID, **overrides: Any) -> Iterator[str]:
    """A context manager that yields a local `host:port` leading to a service.

    With `route: direct` and no TLS that is the endpoint itself; otherwise a port of this machine, which leads there for as
    long as the block runs: through the login node (`ssh`), into the node (`node`), and through TLS, whose certificate is
    checked here. So any client can use it as it is, without TLS of its own. A login connection that breaks is made anew for the
    next connection of the client.

    The service counts as used while the block is open, whatever its client does. Where the client's connection breaks, the
    cluster is asked what became of the service, for a few seconds, and that is raised.

    :param endpoint: `host:port` as it was handed on through XCom.
    :param cluster_conn_id: connection of type `brayns_cluster`.
    :param overrides: fields of the connection with other values.
    :raises InvalidSetting: no such connection, not an endpoint, or no certificate to know the service by.
    :raises ConnectionLost: the way there cannot be made; or, instead of the client's error, the connection broke.
    :raises ServiceFailed: the service has ended, or its port is somebody else's; also instead of the client's error.
    """
    hook = BraynsClusterHook(cluster_conn_id, overrides)
    settings = hook.settings
    parse_endpoint(endpoint)
    hook.prepare()  # asks Airflow, which no loop may
    with _loop() as run:
        way = _opened(hook, settings, endpoint)
        near, use = run(way.__aenter__())
        try:
            yield near
        except Exception as error:
            if not connection_broke(error):
                raise
            told = run(use.explain(error, near))
            if isinstance(error, TimeoutError) and not isinstance(told, ServiceFailed):
                raise  # the caller's own time-out, of a service that runs
            raise told from error
        finally:
            run(way.__aexit__(None, None, None))


@contextmanager
def _loop() -> Iterator[Callable[[Coroutine[Any, Any, Result]], Result]]:
    """A loop in a thread of its own, which goes on while the caller's code blocks, and ends with the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="brayns-endpoint", daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@asynccontextmanager
async def _opened(
    hook: BraynsClusterHook, settings: ClusterSettings, endpoint: str
) -> AsyncIterator[tuple[str, InUse]]:
    """The way to a service that is in use, for as long as the block runs."""
    async with hook.connect(settings) as poller, _plain(hook, settings, endpoint) as near:
        use = InUse(poller.cluster, endpoint, hook.log)
        await use.look()
        keeping = asyncio.create_task(use.keep())
        try:
            yield near, use
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


@asynccontextmanager
async def _plain(hook: BraynsClusterHook, settings: ClusterSettings, endpoint: str) -> AsyncIterator[str]:
    """The way to one endpoint for clients that speak no TLS."""
    async with reachable(hook, settings, [endpoint]) as [near]:
        if near.ssl_context is None:
            yield near.endpoint
            return
        async with local_port(partial(asyncio.open_connection, near.host, near.port, ssl=near.ssl_context)) as port:
            yield f"127.0.0.1:{port}"
