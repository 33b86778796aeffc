"""A local `host:port` for an endpoint, whatever the route, for scripts and tasks with a client of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.hooks.supervisor import supervisor_has_gone
from airflow_brayns.services.endpoints import reachable
from airflow_brayns.services.in_use import InUse
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import DEFAULT_CONN_ID
from airflow_brayns.services.tunnel import local_port

Result = TypeVar("Result")


@contextmanager
def open_endpoint(endpoint: str, cluster_conn_id: str = DEFAULT_CONN_ID, **overrides: Any) -> Iterator[str]:
    """A context manager that yields a local `host:port` leading to a service.

    With `route: direct` and no TLS that is the endpoint itself; otherwise a port of this machine, which leads there for
    as long as the block runs: through the login node (`ssh`), into the node (`node`), and through TLS, whose
    certificate is checked here. So any client can use it as it is, without TLS of its own. A login connection that
    breaks is made anew for the next connection of the client.

    The service counts as used while the block is open, whatever its client does. Where the client's connection breaks,
    the cluster is asked what became of the service, for a few seconds, and that is raised. An error of another
    connection, such as to a database, is left as it is.

    :param endpoint: the `host:port` as it was handed on through XCom.
    :param cluster_conn_id: the id of a connection of type `brayns_cluster`.
    :param overrides: fields of the connection to which other values are given.
    :raises InvalidSetting: there is no such connection, the text is no endpoint, or there is no certificate to know the
        service by.
    :raises ConnectionLost: the service cannot be reached; or, instead of the client's error, the connection broke.
    :raises ServiceFailed: the service has ended, or its port is somebody else's; also instead of the client's error.
    """
    hook = BraynsClusterHook(cluster_conn_id, overrides)
    Endpoint.parse(endpoint)
    hook.prepare()  # Airflow is asked here, before the loop
    with _loop() as run:
        opened = _opened(hook, endpoint)
        near, use = run(opened.__aenter__())
        try:
            yield near
        except Exception as error:
            told = run(use.explain(error, near))
            if told is None:
                raise
            raise told from error
        else:
            use.check()
        finally:
            run(opened.__aexit__(None, None, None))


@contextmanager
def _loop() -> Iterator[Callable[[Coroutine[Any, Any, Result]], Result]]:
    """Run a loop in a thread of its own, which goes on while the caller's code blocks, and ends with the block."""
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
async def _opened(hook: BraynsClusterHook, endpoint: str) -> AsyncIterator[tuple[str, InUse]]:
    """Yield a service's endpoint as it can be connected to from here; it counts as used for as long as the block runs."""
    async with hook.session() as session, _plain(session, endpoint) as near:
        use = InUse(session.cluster, endpoint, session.log, direct=session.settings.route == "direct")
        await use.look()
        keeping = asyncio.create_task(
            use.keep(supervisor_has_gone)
        )  # this is no task group, since the block is left in another task than it was entered in
        try:
            yield near, use
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


@asynccontextmanager
async def _plain(session: Session, endpoint: str) -> AsyncIterator[str]:
    """Yield the local `host:port` of an endpoint for clients that speak no TLS."""
    async with reachable(session, [endpoint]) as [near]:
        if near.ssl_context is None:
            yield str(near)
            return
        async with local_port(partial(asyncio.open_connection, near.host, near.port, ssl=near.ssl_context)) as port:
            yield f"127.0.0.1:{port}"
