"""Bookings: allocations with a service on each node, which join `cluster` and `brayns`. A service grows through these
types:

ServiceSpec (brayns) ─▶ ServiceCommand (cluster) ─▶ ServiceStatus (cluster)      asked for, and what its folder tells
                                                          │ services.stream      asked by itself: Usable, at an Endpoint
RenderService (movie) ◀── rendering.service_pool ── Service (here)               usable; held by a movie's lease
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from airflow_brayns.brayns.command import PORT_PATTERNS
from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.identity import identity
from airflow_brayns.brayns.readiness import Usable
from airflow_brayns.brayns.tls import make_key_pair
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, ServiceStatus
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.owner import Owner, part_name
from airflow_brayns.cluster.request import MOST_NODES, AllocationRequest
from airflow_brayns.cluster.submission import ServiceCommand, TlsFiles
from airflow_brayns.errors import InvalidSetting, SubmissionLimited, SubmissionRefused, SubmissionUnsure
from airflow_brayns.services.settings import ClusterSettings

_UNSURE_SECONDS = 600.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Booking:
    """The allocations that one task asked for: one job, or one for each node.

    :param name: the text that the names of all its allocations begin with.
    """

    name: str
    allocations: tuple[Allocation, ...]

    def to_json(self) -> dict[str, Any]:
        """The booking as plain JSON values, for XCom and triggers."""
        return {"name": self.name, "allocations": [allocation.to_json() for allocation in self.allocations]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Booking:
        """Read what `to_json` gave."""
        return cls(str(value["name"]), tuple(Allocation.from_json(one) for one in value["allocations"]))


@dataclass(frozen=True)
class Service:
    """A service that has proved usable.

    :param endpoint: the service's, as Airflow, or the login node on its behalf, reaches it.
    :param log: the log's path on the cluster.
    :param ends_at: when its allocation ends, in ISO 8601; None where there is no limit.
    :param certificate: PEM of its allocation's own certificate; empty without one.
    """

    name: str
    node: str
    endpoint: Endpoint
    job_id: str
    usable: Usable
    log: str
    ends_at: str | None
    certificate: str = ""

    def to_json(self) -> dict[str, Any]:
        """The service as an entry of XCom's key `services`, whose keys are a contract."""
        return {
            "endpoint": str(self.endpoint),
            "node": self.node,
            "job_id": self.job_id,
            "service": self.name,
            "version": self.usable.version,
            "plugins": list(self.usable.plugins),
            "generation": self.usable.generation,
            "log": self.log,
            "ends_at": self.ends_at,
            **({"certificate": self.certificate} if self.endpoint.ssl_context is not None else {}),
        }


def service_commands(
    settings: ClusterSettings, plugins: Sequence[str], nodes: int, name: str = "brayns"
) -> list[ServiceCommand]:
    """The commands that start a braynsService on each node of an allocation."""
    names = enumerate(service_names(nodes, name), 1)
    return [service_command(settings, plugins, one, index) for index, one in names]


def service_names(nodes: int, name: str = "brayns") -> list[str]:
    """The names of an allocation's services, node by node. Their numbers have equally many digits, since folders are
    read in the order of their names.
    """
    digits = len(str(nodes))
    return [f"{name}{index:0{digits}d}" for index in range(1, nodes + 1)]


def service_command(settings: ClusterSettings, plugins: Sequence[str], name: str, index: int) -> ServiceCommand:
    """The command that starts a braynsService on one node of an allocation.

    :param plugins: names of the plugins to load.
    :param name: the service's name in the allocation.
    :param index: the node's number in the allocation; the first is 1.
    """
    spec = settings.service(tuple(plugins))
    return ServiceCommand(name, index, spec.script(), settings.port, PORT_PATTERNS, identity(spec))


async def start_in(cluster: Cluster, allocation: Allocation, status: AllocationStatus, command: ServiceCommand) -> str:
    """Start a service in a running allocation, and return its name. One that a former try has started goes on; one that has ended
    stays as it is, and another comes in its place: `brayns1-2`.

    :param status: how the allocation was seen last.
    :raises InvalidSetting: one of that name runs, and was started with something else.
    """
    name, number = command.name, 1
    while (before := status.service(name)) is not None and before.exit_code is not None:
        number += 1
        name = f"{command.name}-{number}"
    await cluster.add_service(allocation, replace(command, name=name))
    return name


def awaited(services: Sequence[ServiceStatus], names: Sequence[str] | None) -> list[ServiceStatus]:
    """Of an allocation's services those that count. The names of several jobs come in one list: one that has ended does not count where
    `start_in` has put another in its place, though it runs in another job by that name.

    :param names: None for all.
    """
    if names is None:
        return list(services)
    there = {one.name for one in services}

    def place(name: str) -> tuple[str, int]:
        first, _, number = name.rpartition("-")
        return (first, int(number)) if first in there and number.isdecimal() else (name, 1)

    found = [one for one in services if one.name in names]
    latest = dict(sorted(place(one.name) for one in found))
    return [one for one in found if one.exit_code is None or place(one.name)[1] == latest[place(one.name)[0]]]


@dataclass(frozen=True)
class BookingRequest:
    """What one task asks a cluster for at once: what `book` submits, and `airflow brayns script` prints.

    :param nodes: how many.
    :param plugins: a service with these is started on each node; None for no service.
    :param purpose: one word for a person.
    """

    settings: ClusterSettings
    nodes: int
    plugins: Sequence[str] | None
    purpose: str = "nodes"

    def jobs(self) -> list[tuple[AllocationRequest, list[ServiceCommand]]]:
        """Each job, and the services that start with it.

        :raises InvalidSetting: there cannot be so many nodes.
        """
        settings, nodes = self.settings, self.nodes
        if not 1 <= nodes <= MOST_NODES:
            raise InvalidSetting("nodes", f"must be a whole number from 1 to {MOST_NODES}, not {nodes}")
        sizes = [nodes] if settings.packing == "one_job" else [1] * nodes
        return [
            (settings.request(size), [] if self.plugins is None else service_commands(settings, self.plugins, size))
            for size in sizes
        ]


async def book(
    cluster: Cluster,
    settings: ClusterSettings,
    owner: Owner,
    *,
    nodes: int,
    plugins: Sequence[str] | None,
    waits_for_room: bool = True,
    at_least: int | None = None,
) -> Booking:
    """Ask for nodes, exactly once however often this is called for one name.

    With a job for each node, a limit that is reached after some of them is not waited for: those would idle, or be given back and asked
    for again and again. What there is has to do, or it is no use to ask.

    :param owner: who asks, and takes over what runs under the name already.
    :param nodes: how many nodes, at least 1.
    :param plugins: the plugins of the services that are started, one on each node; None to start no service.
    :param waits_for_room: whether a limit of how much this user may submit is waited for here; otherwise it is raised.
    :param at_least: how many jobs do where a limit allows no more; None for `min_ready`, and without that for all.
    :raises SubmissionLimited: the limit is still reached, and nothing was submitted.
    :raises SubmissionRefused: it allows fewer jobs than are needed.
    """
    allocations = list[Allocation]()
    jobs = BookingRequest(settings, nodes, plugins).jobs()
    for part, (request, services) in enumerate(jobs):
        one = part_name(owner.name, part)
        tls = await tls_files(settings, one)
        submit = partial(cluster.submit, one, owner.token, request, services, owner.about, settings.keeper(), tls=tls)
        try:
            waits = waits_for_room and not allocations
            allocations.append(await until_known(submit, settings.queue_timeout, waits_for_room=waits))
        except SubmissionLimited as error:
            if not allocations:
                raise
            _check_enough(error, len(allocations), at_least or settings.min_ready or len(jobs))
            _log.warning(
                "Slurm takes no more than %d of %d jobs now; they have to do. %s",
                len(allocations),
                len(jobs),
                error.why,
            )
            break
    _tell_avoided(allocations)
    return Booking(owner.name, tuple(allocations))


def _check_enough(error: SubmissionLimited, taken: int, needed: int) -> None:
    if taken < needed:
        raise SubmissionRefused(
            f"Slurm takes {taken} of the {needed} jobs that are needed: {error.why}",
            remedy="ask for fewer, or set min_ready, or packing to one_job; a retry may find more room.",
            field="nodes",
            retry=True,
        ) from None


async def book_on(
    cluster: Cluster,
    settings: ClusterSettings,
    allocation: Allocation,
    owner: Owner,
    *,
    nodes: int,
    command: ServiceCommand,
) -> Allocation:
    """Ask for nodes that follow on an allocation when its time is over: a further incarnation of its name, so that
    whoever gives back the first gives back this one too.

    :param command: the command that a service of that allocation was started with.
    """
    services = [replace(command, name=name, index=index) for index, name in enumerate(service_names(nodes), 1)]
    submit = partial(
        cluster.submit,
        allocation.name,
        owner.token,
        settings.request(nodes),
        services,
        owner.about,
        settings.keeper(),
        after=allocation.incarnation,
        tls=await tls_files(settings, allocation.name),
    )
    following = await until_known(submit, settings.queue_timeout, waits_for_room=False)
    _tell_avoided([following])
    return following


def _tell_avoided(allocations: Iterable[Allocation]) -> None:
    nodes = sorted({node for one in allocations for node in one.avoided})
    if nodes:
        _log.info(
            "Not asked for: %s, since services failed there in several jobs within a day (`airflow brayns services` tells why). "
            "A request that names nodes gets them.",
            ", ".join(nodes),
        )


async def until_known(
    submit: Callable[[], Awaitable[Allocation]], patience: float | None, *, waits_for_room: bool = True
) -> Allocation:
    """Submit, and while it is not known whether that was taken, look and submit again, ever less often: a controller that
    changes over, or a configuration that is being written, passes by itself. So does a limit of how much may be submitted,
    which is a wait in the queue before the queue.

    :param patience: seconds, such as `queue_timeout`; None for ten minutes, and for as long as it takes at a limit.
    :param waits_for_room: see `book`.
    :raises SubmissionUnsure: it is still not known.
    :raises SubmissionLimited: the limit is still reached.
    """
    loop = asyncio.get_running_loop()
    began, pause = loop.time(), 2.0
    while True:
        try:
            return await submit()
        except SubmissionUnsure as error:
            if loop.time() + pause > began + (_UNSURE_SECONDS if patience is None else patience):
                raise
            _log.warning("The job may not have been taken, and is looked for again in %.0f s: %s", pause, error.said)
        except SubmissionLimited as error:
            if not waits_for_room or (patience is not None and loop.time() + pause > began + patience):
                raise
            _log.info("Slurm takes no more jobs of yours now, and is asked again in %.0f s: %s", pause, error.why)
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))
        pause = min(pause * 2, 30.0)


def check_machine(cluster: Cluster, allocations: Iterable[Allocation]) -> None:
    """What a local cluster runs is processes of one machine, whose loopback its services listen on.

    :raises InvalidSetting: what is to be worked with runs on another machine than this.
    """
    if cluster.scheduler != "local":
        return
    if other := next((one.machine for one in allocations if one.machine not in ("", cluster.machine)), None):
        raise InvalidSetting(
            "cluster_conn_id",
            f"a local cluster is one machine: the services run on {other}, and this is {cluster.machine}.",
            remedy="have all tasks of the run, and the triggerer, on one machine, or allocate on Slurm over SSH.",
            retry=True,  # the next try may come to the right worker
        )


async def tls_files(settings: ClusterSettings, name: str) -> TlsFiles | None:
    """A certificate and key for an allocation of that name; None unless `tls` is `allocation`."""
    if settings.tls != "allocation":
        return None
    pair = await asyncio.to_thread(make_key_pair, name)
    return TlsFiles(pair.key, pair.certificate)
