"""What a cluster's user may ask for: partitions with their limits, accounts, QOS, constraints and reservations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_brayns.cluster.answers import decode
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.errors.plain import one_line

_SECONDS = 60.0
_MOST = 200  # of each kind; what a form offers beyond that nobody reads


async def offers_of(cluster: Cluster) -> dict[str, Any]:
    """Ask a cluster what its user may ask for. It takes two or three commands, so it is asked now and then only.

    :return: `partitions`, a list of dicts (`name`, `default`, `time_limit` in Slurm's spelling, `nodes`); lists of names `accounts`,
        `qos`, `constraints` and `reservations`. What Slurm does not tell is left out; nothing on the local cluster.
    :raises ConnectionLost: the cluster did not answer.
    """
    if cluster.scheduler != "slurm":
        return {}
    async with asyncio.timeout(_SECONDS):
        return read_offers(dict(await cluster.ask("inspect", "offered", _SECONDS)))


def read_offers(told: Mapping[str, list[str]]) -> dict[str, Any]:
    """Read the answer to `offered`, which a site's own wrappers may have added lines to: what is no such line is passed over."""
    found: dict[str, Any] = {}
    partitions: dict[str, dict[str, Any]] = {}
    features = set[str]()
    for name, state, limit, nodes, given in _rows(told.get("partitions"), 5):
        if state != "up" or not nodes.isdecimal() or not (plain := name.rstrip("*")):
            continue
        one = partitions.setdefault(plain, {"name": plain, "default": name != plain, "time_limit": limit, "nodes": 0})
        one["nodes"] += int(nodes)
        features |= set(given.split(",")) - {"", "(null)"}
    accounts, qos = set[str](), set[str]()
    for account, partition, names in _rows(told.get("associations"), 3):
        if account and (not partition or partition in partitions):
            accounts.add(account)
            qos |= set(names.split(",")) - {""}
    reservations = {line.split()[0] for line in _lines(told.get("reservations")) if "ACTIVE" in line.split()[1:2]}
    found["partitions"] = list(partitions.values())[:_MOST]
    for key, names_of in (
        ("accounts", accounts), ("qos", qos), ("constraints", features), ("reservations", reservations),
    ):  # fmt: skip
        found[key] = sorted(names_of)[:_MOST]
    return {key: value for key, value in found.items() if value}


def _lines(coded: Sequence[str] | None) -> list[str]:
    return [one_line(line, 500) for line in decode(coded[0]).splitlines() if line.strip()] if coded else []


def _rows(coded: Sequence[str] | None, number: int) -> Iterator[list[str]]:
    for line in _lines(coded):
        if len(fields := [field.strip() for field in line.split("|")]) == number:
            yield fields
