"""The keeper's script for one allocation: its settings, and the functions that run with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_brayns.cluster.scripts import script_of
from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors import InvalidSetting


@dataclass(frozen=True)
class KeeperSettings:
    """The limits after which a keeper ends an allocation by itself, all in seconds.

    :param idle_limit: how long nobody may use the allocation.
    :param start_timeout: how long after the keeper's start a service must listen.
    :param heartbeat_limit: how long a node's wrapper goes on without a sign of the keeper before it ends its service;
        more than the minute that a network file system may be late.
    :raises InvalidSetting: a limit is less than one second.
    """

    idle_limit: int = 1800
    start_timeout: int = 600
    heartbeat_limit: int = 180

    def __post_init__(self) -> None:
        for name in ("idle_limit", "start_timeout", "heartbeat_limit"):
            if getattr(self, name) < 1:
                raise InvalidSetting(name, f"must be at least one second, not {getattr(self, name)}")


def keeper_script(
    settings: KeeperSettings,
    *,
    scheduler: str,
    nodes: tuple[str, ...] = (),
    time_limit: int = 0,
    cpus_per_task: int | None = None,
    proofs: Mapping[str, str] | None = None,
    shared: bool = False,
    python: str = "",
) -> str:
    """The job script of an allocation, whole.

    :param scheduler: `slurm` or `local`.
    :param nodes: names of the local cluster's slots; empty for Slurm, which names its nodes itself.
    :param time_limit: seconds after which the keeper ends by itself; 0 where Slurm sees to it.
    :param cpus_per_task: CPUs for each service's step; None for all of its node.
    :param proofs: digest of each service's files (`submission.proofs`); what has another digest is not run.
    :param shared: whether others may write folders above the state folder; then nothing is run that has no digest.
    :param python: the path of a Python that makes each wrapper the parent of what its service leaves behind, where no Slurm ends
        that; empty for none.
    """
    values = {
        "scheduler": scheduler,
        "nodes": " ".join(nodes),
        "idle_limit": str(settings.idle_limit),
        "start_timeout": str(settings.start_timeout),
        "heartbeat_limit": str(settings.heartbeat_limit),
        "time_limit": str(time_limit),
        "cpus_per_task": "" if cpus_per_task is None else str(cpus_per_task),
        "proofs": "\n".join(f"{name} {digest}" for name, digest in (proofs or {}).items()),
        "shared": "yes" if shared else "",
        "python": python,
    }
    head = "".join(f"{name}={quote(value)}\n" for name, value in values.items())
    return f"#!/bin/sh\n{head}{script_of('keeper')}"
