"""The local cluster: this machine's processes in place of Slurm's jobs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script
from airflow_brayns.cluster.location import (
    Host,
    is_loopback,
    known_here,
)
from airflow_brayns.cluster.owner import part_of
from airflow_brayns.cluster.request import AllocationRequest


class LocalCluster(Cluster):
    """A cluster that is this machine: each of its "nodes" is a slot in which one service runs."""

    scheduler = "local"

    def keeper_for(
        self,
        request: AllocationRequest,
        keeper: KeeperSettings,
        proofs: Mapping[str, str] | None = None,
        name: str = "",
    ) -> str:
        """See `Cluster.keeper_for`; no two services of a booking have one slot, also where each is an allocation."""
        first = part_of(name) + 1
        slots = tuple(f"slot{number}" for number in range(first, first + request.nodes))
        limit = request.seconds or 0
        return keeper_script(
            keeper,
            scheduler=self.scheduler,
            nodes=slots,
            time_limit=limit,
            proofs=proofs,
            shared=self.shared_parents,
            python=sys.executable or "",
        )

    def address(self, node: str) -> str:
        """See `Cluster.address`."""
        return "127.0.0.1"

    def is_called(self, node: str, host: str) -> bool:
        """See `Cluster.is_called`; every slot is at this machine's own address, and no slot is at another's."""
        return is_loopback(host)

    async def hosts(self, host: str, nodes: Sequence[str] = (), *, direct: bool) -> tuple[Host, Mapping[str, Host]]:
        """See `Cluster.hosts`: every slot is this machine."""
        meant, here = await known_here(host), await known_here("localhost")
        return meant, dict.fromkeys(nodes, here)
