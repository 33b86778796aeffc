"""Sessions: a cluster that is worked with, its settings and the log, handed on as one object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.services.settings import CONNECTING, ClusterSettings

# A function that reads the SSH connection of an id.
ReadLogin = Callable[[str], Awaitable[Any]]


class Told:
    """What a task's log has shown of each allocation. A wait that goes on in another process is given it, and shows none of it again.

    :param before: what another process has shown, as `to_json()` gives it; anything else counts as nothing.
    """

    def __init__(self, before: Any = None) -> None:
        self.states: dict[str, str] = {}
        self.lines: dict[str, int] = {}
        if isinstance(before, Mapping):
            states, lines = (before.get(name) for name in ("states", "lines"))
            self.states |= {str(key): str(one) for key, one in states.items()} if isinstance(states, Mapping) else {}
            self.lines |= (
                {str(key): one for key, one in lines.items() if isinstance(one, int)}
                if isinstance(lines, Mapping)
                else {}
            )

    def to_json(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"states": dict(self.states), "lines": dict(self.lines)}


@dataclass(frozen=True)
class Session:
    """A cluster that is worked with, with all that this needs.

    :param poller: the poller, which asks the cluster on behalf of all who wait.
    :param settings: the connection's fields, with the task's overrides.
    :param log: the task's log.
    :param told: what that log has shown so far.
    """

    poller: Poller
    settings: ClusterSettings
    log: Any
    told: Told = field(default_factory=Told, compare=False)

    @property
    def cluster(self) -> Cluster:
        """The cluster, where nodes come from."""
        return self.poller.cluster


class _Shared:
    """The poller of a cluster, shared by all who use that cluster in one event loop.

    :param read_login: the function of whoever came last, since keys are changed and hosts move while somebody always
        waits.
    """

    def __init__(
        self, settings: ClusterSettings, make: Callable[[ClusterSettings, ReadLogin], Cluster], read_login: ReadLogin
    ) -> None:
        self.read_login = read_login
        self.users = 0
        self.poller = Poller(make(settings, self._login), settings.poll_interval)

    async def _login(self, ssh_conn_id: str) -> Any:
        return await self.read_login(ssh_conn_id)


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Shared]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_poller(
    settings: ClusterSettings, make: Callable[[ClusterSettings, ReadLogin], Cluster], read_login: ReadLogin
) -> AsyncIterator[Poller]:
    """Yield a cluster's poller. All who use the same cluster in one process share it, and so one SSH connection.

    :param make: a function that makes the cluster which settings describe; it is given a function that reads an SSH
        connection.
    :param read_login: the function that reads an SSH connection by its id.
    """
    key = settings.model_dump_json(include=set(CONNECTING))
    pool = _shared.setdefault(asyncio.get_running_loop(), {})
    shared = pool.get(key) or pool.setdefault(key, _Shared(settings, make, read_login))
    shared.read_login = read_login
    shared.users += 1
    try:
        yield shared.poller
    finally:
        shared.users -= 1
        if not shared.users:
            pool.pop(key, None)
            await shared.poller.close()
