"""After a lost connection: whether the service is still there and ours, and a client of it with the scene as it was left.

A broken connection is not a dead service: a login node that drops a connection drops those of all services at once. And whoever
answers at the port next need not be the service: a process of another account may have waited for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import ConnectionLost, RpcFailed, ServiceFailed, reason_of
from airflow_brayns.movie.supply import Proof, Standing, Station

PATIENCE_SECONDS = 600.0  # as long as a cluster may be out of reach while something is awaited
ALONE_SECONDS = 120.0  # for a service that no cluster knows: nobody can say whether it has ended
_CONNECT_SECONDS = 10.0  # a service that hangs takes connections and never answers
_PAUSES = (0.0, 0.5, 2.0, 5.0, 10.0)
_MOST_HANGS, _MOST_UNPROVEN = 3, 2

# Sees to it that the service has the scene; told whether it is certainly the one that had it before.
Restore = Callable[[BraynsClient, bool], Awaitable[None]]


def client_of(station: Station) -> BraynsClient:
    """A client that is not connected yet."""
    return BraynsClient(station.endpoint, ssl_context=station.ssl_context, told=station.told)


async def check_ours(station: Station) -> Proof:
    """Whoever answers at a station must be it.

    :raises ServiceFailed: it has ended, or its port is somebody else's.
    """
    proof = await station.prove()
    if proof.standing is Standing.ENDED:
        raise ServiceFailed(proof.why)
    return proof


async def regain(
    station: Station, restore: Restore, *, patience: float | None = None, timed_out: bool = False
) -> BraynsClient:
    """A client of the same service, connected, with the scene as it was.

    A service is dead when the cluster says so. While the cluster cannot be asked, or says that it lives and there is no way to
    it, it is tried again; one that takes connections and does not answer hangs.

    :param patience: seconds that the way to it may be broken; None for `PATIENCE_SECONDS`. `ALONE_SECONDS` at most where no
        cluster knows the service.
    :param timed_out: whether it has just not answered in time. braynsService goes on with what it was asked, whoever cancels
        it (3.10.1, run), so one that is there and silent once more is not waited for.
    :raises ServiceFailed: it has ended, hangs, or its port is somebody else's; with what the cluster knows of it.
    :raises ConnectionLost: there was no way to it for so long.
    """
    loop = asyncio.get_running_loop()
    began, patience = loop.time(), PATIENCE_SECONDS if patience is None else patience
    hangs = unproven = tries = 0
    while True:
        await asyncio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
        tries += 1
        client = client_of(station)
        trouble: BaseException | None = None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await client.open()
                await client.call("get-version")
        except (ConnectionLost, RpcFailed, TimeoutError) as error:
            trouble = error
        try:
            proof = await check_ours(station)  # only now: it was so as well when the connection was made
            if trouble is None and proof.standing in (Standing.OURS, Standing.NOBODYS):
                await restore(client, proof.standing is Standing.OURS)
                return client
        except BaseException as error:
            await client.close()
            if isinstance(error, ConnectionLost) and loop.time() < began + patience and tries < 1000:
                continue  # it broke again while the scene was looked at
            raise
        await client.close()
        hangs += isinstance(trouble, TimeoutError)
        unproven += proof.standing is Standing.UNPROVEN
        alone = proof.standing is Standing.NOBODYS
        patience = min(patience, ALONE_SECONDS) if alone else patience
        if alone and isinstance(trouble.__cause__ if trouble else None, ConnectionRefusedError):
            raise ServiceFailed(f"{station} has ended: nobody listens at {station.told or station.endpoint} any more.")
        there = proof.standing in (Standing.OURS, Standing.NOBODYS)
        if hangs >= (1 if timed_out and there else _MOST_HANGS):
            raise ServiceFailed(f"{station} hangs: it takes connections and does not answer. {proof.why}".strip())
        if unproven >= _MOST_UNPROVEN:
            raise ServiceFailed(
                f"{station} does not answer, nor does its node when it is asked of it. {proof.why}".strip()
            )
        if loop.time() > began + patience:
            raise ConnectionLost(
                f"There was no way to {station} for {patience:.0f} s: {reason_of(trouble) if trouble else proof.why}"
            )
