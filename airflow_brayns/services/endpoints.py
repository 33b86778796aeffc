"""Services of which only the endpoint is known: somebody typed it in, or it was handed on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import NotYet, Usable
from airflow_brayns.errors import ConnectionLost, NotReadyInTime
from airflow_brayns.services.booking import Service
from airflow_brayns.services.in_use import InUse
from airflow_brayns.services.probes import probe_until
from airflow_brayns.services.session import Session
from airflow_brayns.services.stream import ask
from airflow_brayns.services.tunnel import near_endpoint


@asynccontextmanager
async def reachable(session: Session, endpoints: Sequence[str]) -> AsyncIterator[list[Endpoint]]:
    """Make endpoints reachable from here, for as long as the block runs, and yield them as they can be connected to.

    :param endpoints: each `host:port`, as it was handed on.
    :raises InvalidSetting: a text is not `host:port`; or, with `tls: allocation`, no service of ours is there.
    :raises ConnectionLost: the login node, or the node, cannot be reached.
    """
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(near_endpoint(session.cluster, session.settings.route, await _with_tls(session, one)))
            for one in map(Endpoint.parse, endpoints)
        ]  # fmt: skip


async def _with_tls(session: Session, endpoint: Endpoint) -> Endpoint:
    """The endpoint with its TLS context, which is looked up where only the endpoint is known."""
    settings, found = session.settings, None
    if settings.tls == "allocation":
        found = await session.cluster.certificate_at(endpoint.host, endpoint.port, direct=settings.route == "direct")
    name, certificate = found or ("", "")
    return replace(endpoint, ssl_context=settings.client_context(name, endpoint.host, certificate))


async def wait_for_endpoint(
    session: Session, endpoint: str, plugins: Sequence[str], *, within: float | None = None
) -> dict[str, Any]:
    """Probe an endpoint until every rung of readiness holds, and return it as an entry of XCom's `services`.

    Where the endpoint is a service of ours, that must live and the port be its own; one that is none of ours passes.

    :param plugins: names of the plugins that must be loaded.
    :param within: seconds to wait; None for `start_timeout`.
    :raises NotReadyInTime: the time passed.
    :raises ServiceFailed: a plugin is missing, the service has ended, or its port is somebody else's.
    """
    settings, log = session.settings, session.log
    limit = settings.start_timeout if within is None else within
    parsed = Endpoint.parse(endpoint)
    target: Endpoint | None = None

    async def attempt(seconds: float) -> Usable:
        nonlocal target
        try:
            target = target or await _with_tls(session, parsed)
            usable = await ask(session, target, plugins, seconds)
        except ConnectionLost as error:
            if not error.retry:
                raise
            raise NotYet(str(error)) from None
        await InUse(session.cluster, endpoint, log, direct=settings.route == "direct").look()
        return usable

    try:
        usable = await probe_until(
            session.poller, attempt, within=limit, pause=min(settings.poll_interval, limit / 4),
            tell=lambda why: log.info("%s is not usable yet: %s", endpoint, why),
        )  # fmt: skip
    except NotYet as reason:
        raise NotReadyInTime(
            f"{endpoint} was not usable within {limit:.0f} s: {reason}",
            remedy="see that it runs, and that `route` leads there; raise start_timeout if it is only slow.",
            field="start_timeout",
        ) from None
    entry = Service("", parsed.host, parsed, "", usable, "", ends_at=None).to_json()
    return {**entry, "endpoint": endpoint, **dict.fromkeys(("job_id", "service", "log"))}  # nothing is known of these
