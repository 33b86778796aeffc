"""The keeper's text for one allocation: its settings, then `keeper.sh`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors import InvalidSetting

IDLE_END = "(idle_limit)"  # in the text of an end that came since nobody used the allocation; keeper.sh writes it


@dataclass(frozen=True)
class KeeperSettings:
    """How long a keeper holds on. All in seconds.

    :param idle_limit: ends the allocation when nobody has used it for so long.
    :param start_timeout: ends it when no service listened so long after its start.
    :param heartbeat_limit: a node's wrapper ends its service when the keeper has shown no sign for so long; more than the
        minute that a network file system may be late.
    """

    idle_limit: int = 1800
    start_timeout: int = 600
    heartbeat_limit: int = 180

    def __post_init__(self) -> None:
        for name in ("idle_limit", "start_timeout", "heartbeat_limit"):
            if getattr(self, name) < 1:
                raise InvalidSetting(name, f"must be at least one second, not {getattr(self, name)}")


@cache
def shell_text(name: str) -> str:
    """One of the package's sh files."""
    return (Path(__file__).parent / f"{name}.sh").read_text()


def keeper_script(
    settings: KeeperSettings,
    *,
    scheduler: str,
    nodes: tuple[str, ...] = (),
    time_limit: int = 0,
    cpus_per_task: int | None = None,
    proofs: Mapping[str, str] | None = None,
    shared: bool = False,
) -> str:
    """The whole job script.

    :param nodes: names of the local cluster's slots; Slurm names its own.
    :param time_limit: seconds after which the keeper ends by itself; 0 where Slurm sees to it.
    :param proofs: digest of each service's files (`submission.proofs`): what is not that is not run.
    :param shared: whether others may write folders above the state folder, so that nothing is run without a proof.
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
    }
    head = "".join(f"{name}={quote(value)}\n" for name, value in values.items())
    return f"#!/bin/sh\n{head}{shell_text('keeper')}"
