"""Connecting anew after a lost connection: whether the service is still there and ours, and a client of it with the
scene as it was.

A broken connection is not a dead service: a login node that drops a connection drops those of all services at once. And
whoever answers at the port next need not be the service: a process of another account may have waited for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import ConnectionLost, RpcFailed, ServiceFailed, reason_of
from airflow_brayns.errors.plain import one_line
from airflow_brayns.movie.interfaces import Liveness, Proof, RenderService

PATIENCE_SECONDS = 600.0  # a service may be out of reach for as long as a cluster may be while something is awaited
ALONE_SECONDS = 120.0  # the same for a service that no cluster knows: nobody can say whether that has ended
_CONNECT_SECONDS = 10.0  # time for an answer, since a service that hangs takes connections and never answers
_PAUSES = (0.0, 0.5, 2.0, 5.0, 10.0)
_MOST_HANGS, _MOST_UNPROVEN = 3, 2

# A function that sees to it that the service has the scene; it is told whether the service is certainly the one that
# had it before.
Restore = Callable[[BraynsClient, bool], Awaitable[None]]


def client_of(service: RenderService) -> BraynsClient:
    """A client of a service, which is not connected yet."""
    return BraynsClient(service.endpoint, ssl_context=service.ssl_context, told=service.told)


async def check_ours(service: RenderService) -> Proof:
    """Ask those who look after a service whether whoever answers at its endpoint is that service.

    :raises ServiceFailed: the service has ended, or its port is somebody else's.
    """
    proof = await service.prove()
    if proof.liveness is Liveness.ENDED:
        raise ServiceFailed(proof.why, node=service.node, idle=proof.idle)
    return proof


async def regain(
    service: RenderService, restore: Restore, *, patience: float | None = None, timed_out: bool = False
) -> BraynsClient:
    """Connect to the same service anew, and return a client of it with the scene as it was.

    A service is dead when the cluster says so. While the cluster cannot be asked, or says that the service lives and
    there is no way to it, connecting is tried again; a service that takes connections and does not answer hangs.

    :param restore: a function that sees to it that the service has the scene.
    :param patience: seconds that the way to it may be broken; None for `PATIENCE_SECONDS`. They are `ALONE_SECONDS` at
        most where no cluster knows the service.
    :param timed_out: whether the service has just not answered in time. braynsService goes on with what it was asked,
        whoever cancels it (3.10.1, run), so a service that is there and silent once more is not waited for.
    :raises ServiceFailed: the service has ended, hangs, is of another version, or its port is somebody else's; the error has what the
        cluster knows of it.
    :raises ConnectionLost: the service could not be reached for so long.
    """
    loop = asyncio.get_running_loop()
    began, patience = loop.time(), PATIENCE_SECONDS if patience is None else patience
    hangs = unproven = tries = 0
    while True:
        await asyncio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
        tries += 1
        client = client_of(service)
        try:
            trouble, version = await _opened(client)
            # asked only now, so the answer also holds for when the connection was made
            proof = await check_ours(service)
            if trouble is None and proof.liveness in (Liveness.OURS, Liveness.NOBODYS):
                _check_version(service, version)
                await restore(client, proof.liveness is Liveness.OURS)
                return client
        except BaseException as error:
            await client.close()
            if isinstance(error, ConnectionLost) and loop.time() < began + patience and tries < 1000:
                continue  # the connection broke again while the scene was looked at
            raise
        await client.close()
        hangs += isinstance(trouble, TimeoutError)
        unproven += proof.liveness is Liveness.UNPROVEN
        alone = proof.liveness is Liveness.NOBODYS
        patience = min(patience, ALONE_SECONDS) if alone else patience
        if alone and isinstance(trouble.__cause__ if trouble else None, ConnectionRefusedError):
            raise ServiceFailed(f"{service} has ended: nobody listens at {service.told or service.endpoint} any more.")
        there = proof.liveness in (Liveness.OURS, Liveness.NOBODYS)
        if hangs >= (1 if timed_out and there else _MOST_HANGS):
            raise ServiceFailed(f"{service} hangs: it takes connections and does not answer. {proof.why}".strip())
        if unproven >= _MOST_UNPROVEN:
            raise ServiceFailed(
                f"{service} does not answer, nor does its node when it is asked of it. {proof.why}".strip()
            )
        if loop.time() > began + patience:
            raise ConnectionLost(
                f"There was no way to {service} for {patience:.0f} s: {reason_of(trouble) if trouble else proof.why}"
            )


async def _opened(client: BraynsClient) -> tuple[ConnectionLost | RpcFailed | TimeoutError | None, Any]:
    """Open a client's connection; return why nobody answers there, None where somebody does, and which version that is."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await client.open()
            return None, (await client.call("get-version")).result
    except (ConnectionLost, RpcFailed, TimeoutError) as error:
        return error, None


def _check_version(service: RenderService, told: Any) -> None:
    """Check that whoever answers is of the version that the service was: somebody may have started another one in its place.

    :raises ServiceFailed: its frames would be other ones.
    """
    parts = [told.get(part) for part in ("major", "minor", "patch")] if isinstance(told, dict) else []
    version = ".".join(map(str, parts))
    if service.version and version != service.version:
        raise ServiceFailed(
            f"{service} is braynsService {one_line(version, 40) or 'of no version'} by now, and was {service.version}: mixing them would "
            "flicker.",
            remedy="start the same version there, or render all of it anew in another folder.",
            field="executable",
            node=service.node,
        )
