"""The Slurm cluster: jobs of sbatch on nodes of a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from airflow_brayns.cluster.cluster import COMMAND_SECONDS, Cluster
from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script
from airflow_brayns.cluster.location import (
    Host,
    is_loopback,
    known_here,
    read_hosts,
    spelled,
)
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import Shell, quote
from airflow_brayns.errors import InvalidSetting


class SlurmCluster(Cluster):
    """A Slurm cluster, whose nodes are asked for by `sbatch` on a login node or on this machine. Further parameters are
    `Cluster`'s.

    :param node_suffix: text to put behind a node's name, where it is not known by its short one; empty for none.
    """

    scheduler = "slurm"

    def __init__(
        self,
        shell: Shell,
        *,
        state_dir: str = "~/.airflow-brayns",
        node_suffix: str = "",
        shared_parents: bool = False,
        deployment: str = "",
    ) -> None:
        super().__init__(shell, state_dir=state_dir, shared_parents=shared_parents, deployment=deployment)
        if found := re.search(r"%[0-9AaJjNnstuxb%]", state_dir):
            why = f"{state_dir!r}: sbatch would take {found[0]} for something else in the names of a job's files."
            raise InvalidSetting("state_dir", why, remedy="choose a folder without % in its path.")
        self._node_suffix = node_suffix

    def keeper_for(
        self,
        request: AllocationRequest,
        keeper: KeeperSettings,
        proofs: Mapping[str, str] | None = None,
        name: str = "",
    ) -> str:
        """See `Cluster.keeper_for`."""
        return keeper_script(
            keeper,
            scheduler=self.scheduler,
            cpus_per_task=request.cpus_per_task,
            proofs=proofs,
            shared=self.shared_parents,
        )

    def address(self, node: str) -> str:
        """See `Cluster.address`."""
        return f"{node}{self._node_suffix}"

    def is_called(self, node: str, host: str) -> bool:
        """See `Cluster.is_called`."""
        return spelled(host) in (spelled(node), spelled(self.address(node)))

    async def hosts(self, host: str, nodes: Sequence[str] = (), *, direct: bool) -> tuple[Host, Mapping[str, Host]]:
        """See `Cluster.hosts`; this machine, the login node and the scheduler are asked."""
        meant = await known_here(host) if direct else Host()
        asked = [] if direct and is_loopback(host) else [host]  # this machine's loopback is not the login node's
        words = " ".join(quote(one) for one in (*asked, *nodes))
        known = read_hosts(await self.call("find", f"hosts {words}", COMMAND_SECONDS)) if words else {}
        for one in asked:
            meant |= known.get(one, Host())
        return meant, {node: known[node] for node in nodes if node in known}
