"""What joins cluster and brayns: allocations with a service on each node, and the way to them."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from airflow_brayns.brayns.command import PORT_PATTERNS
from airflow_brayns.brayns.readiness import Usable
from airflow_brayns.brayns.tls import make_key_pair
from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.request import MOST_NODES
from airflow_brayns.cluster.ssh import SSHShell
from airflow_brayns.cluster.submission import ServiceCommand, TlsFiles
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.settings import ClusterSettings
from airflow_brayns.tunnel import local_port


def booking_name(installation: str, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """The name that a task's allocations share: the same for every try of one task instance, and for nothing else."""
    text = "\0".join((installation, dag_id, run_id, task_id, str(map_index)))
    return "ab-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(frozen=True)
class Booking:
    """All allocations that one task asked for: one job, or one for each node.

    :param name: what the allocations' names begin with.
    """

    name: str
    allocations: tuple[Allocation, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for XCom and triggers."""
        return {"name": self.name, "allocations": [allocation.to_json() for allocation in self.allocations]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Booking:
        """The reverse of `to_json`."""
        return cls(str(value["name"]), tuple(Allocation.from_json(one) for one in value["allocations"]))


@dataclass(frozen=True)
class Service:
    """A service that has proved usable.

    :param address: host as Airflow, or the login node on its behalf, reaches it.
    :param log: the log's path on the cluster.
    :param ends_at: when its allocation ends, ISO 8601; None where there is no limit.
    :param certificate: PEM of its allocation's own certificate; empty without one.
    :param ssl_context: for its clients; None where it speaks no TLS.
    """

    name: str
    node: str
    address: str
    port: int
    job_id: str
    usable: Usable
    log: str
    ends_at: str | None
    certificate: str = ""
    ssl_context: ssl.SSLContext | None = field(default=None, compare=False, repr=False)

    @property
    def endpoint(self) -> str:
        """`host:port`."""
        return f"{self.address}:{self.port}"

    def to_json(self) -> dict[str, Any]:
        """The contract of XCom's key `services`."""
        return {
            "endpoint": self.endpoint,
            "node": self.node,
            "job_id": self.job_id,
            "service": self.name,
            "version": self.usable.version,
            "plugins": list(self.usable.plugins),
            "generation": self.usable.generation,
            "log": self.log,
            "ends_at": self.ends_at,
            **({"certificate": self.certificate} if self.ssl_context is not None else {}),
        }


def service_commands(
    settings: ClusterSettings, plugins: Sequence[str], nodes: int, name: str = "brayns"
) -> list[ServiceCommand]:
    """One braynsService for each node."""
    digits = len(str(nodes))  # folders are read in the order of their names
    return [service_command(settings, plugins, f"{name}{index:0{digits}d}", index) for index in range(1, nodes + 1)]


def service_command(settings: ClusterSettings, plugins: Sequence[str], name: str, index: int) -> ServiceCommand:
    """A braynsService on one node of an allocation; the first is 1."""
    return ServiceCommand(name, index, settings.service(tuple(plugins)).script(), settings.port, PORT_PATTERNS)


async def book(
    cluster: Cluster,
    settings: ClusterSettings,
    name: str,
    token: str,
    *,
    nodes: int,
    plugins: Sequence[str] | None,
    about: str,
) -> Booking:
    """Ask for nodes, exactly once however often this is called for one name.

    :param plugins: start a service with these on each node; None to start none.
    """
    if not 1 <= nodes <= MOST_NODES:
        raise InvalidSetting("nodes", f"must be a whole number from 1 to {MOST_NODES}")
    sizes = [nodes] if settings.packing == "one_job" else [1] * nodes
    allocations = []
    for part, size in enumerate(sizes):
        services = [] if plugins is None else service_commands(settings, plugins, size)
        part_name = f"{name}{part:03x}"
        tls = await tls_files(settings, part_name)
        allocations.append(
            await cluster.submit(part_name, token, settings.request(size), services, about, settings.keeper(), tls=tls)
        )
    return Booking(name, tuple(allocations))


async def book_on(
    cluster: Cluster,
    settings: ClusterSettings,
    allocation: Allocation,
    token: str,
    *,
    nodes: int,
    plugins: Sequence[str],
    about: str,
) -> Allocation:
    """Ask for the same again, for when an allocation's time is over: a further incarnation of its name, so that whoever
    gives the first one back gives this one back too.
    """
    services = service_commands(settings, plugins, nodes)
    return await cluster.submit(
        allocation.name,
        token,
        settings.request(nodes),
        services,
        about,
        settings.keeper(),
        after=allocation.incarnation,
        tls=await tls_files(settings, allocation.name),
    )


async def tls_files(settings: ClusterSettings, name: str) -> TlsFiles | None:
    """A certificate for an allocation of that name, where its services are to have one of their own."""
    if settings.tls != "allocation":
        return None
    pair = await asyncio.to_thread(make_key_pair, name)
    return TlsFiles(pair.key, pair.certificate)


async def context_for(cluster: Cluster, settings: ClusterSettings, host: str, port: int) -> ssl.SSLContext | None:
    """What a client needs that only knows where a service is.

    :raises InvalidSetting: no allocation of ours has a service there.
    """
    found = await cluster.certificate_at(cluster.node_at(host), port) if settings.tls == "allocation" else None
    name, certificate = found or ("", "")
    return settings.client_context(name, host, certificate)


@asynccontextmanager
async def way_to(cluster: Cluster, route: str, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    """A host and port that can be connected to from here, for as long as the block runs, also when the login connection breaks
    meanwhile and is made anew.

    :raises ConnectionLost: the login node, or with `route: node` the node, cannot be reached now.
    """
    shell = cluster.shell
    if route == "direct" or not isinstance(shell, SSHShell):
        yield host, port
        return
    await (shell.inside(host) if route == "node" else shell.connection())
    reach = partial(shell.channel_in, host, port) if route == "node" else partial(shell.channel, host, port)
    async with local_port(reach) as near:
        yield "127.0.0.1", near
