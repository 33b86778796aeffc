"""Leases for rendering: one movie at a time renders with an allocation, with one of its services, or with a service
elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.answers import check_folder, check_ours, coded, decode, whole
from airflow_brayns.cluster.cluster import COMMAND_SECONDS, Cluster
from airflow_brayns.cluster.submission import NAME, SERVICE, TOKEN, check
from airflow_brayns.errors import Occupied

_PLACE = re.compile(r"[0-9]{1,9}(/services/[a-z0-9][a-z0-9_-]{0,63})?")
_ELSEWHERE = re.compile(r"at-[0-9a-f]{16}")


@dataclass(frozen=True)
class RenderLease:
    """A thing that one movie at a time renders with: an allocation, or a service.

    :param name: the allocation's name; `at-` and a hash for a service that is in no allocation of ours.
    :param place: the allocation's incarnation; for one service, `/services/` and its name behind that.
    """

    name: str
    place: str

    def __post_init__(self) -> None:
        if not _ELSEWHERE.fullmatch(self.name):
            check(NAME, "name", self.name)
        if not _PLACE.fullmatch(self.place):
            raise ValueError(self.place)


def lease_of(allocation: Allocation, service: str = "") -> RenderLease:
    """The lease of a whole allocation, or of one of its services."""
    if not service:
        return RenderLease(allocation.name, str(int(allocation.incarnation)))
    check(SERVICE, "service", service)
    return RenderLease(allocation.name, f"{int(allocation.incarnation)}/services/{service}")


def lease_elsewhere(address: str) -> RenderLease:
    """The lease of a service that is in no allocation of ours, by its address as its users know it."""
    return RenderLease(f"at-{hashlib.sha256(address.encode('utf-8', 'replace')).hexdigest()[:16]}", "1")


async def take_leases(
    cluster: Cluster, leases: Sequence[RenderLease], token: str, by: str = ""
) -> dict[RenderLease, int]:
    """Take allocations, or single services, to render with; an earlier holder is told by its next `confirm_leases`.

    :param token: of the holder.
    :param by: for which movie; the next try of the same takes over, another one is kept out as long as it is confirmed.
    :return: seconds since the holder before was last heard of; -1 where there was none. Those that have ended are
        missing.
    :raises Occupied: another movie renders with one of them; then none is taken.
    :raises AskedForElsewhere: one is another Airflow's, such as that which this one is the clone of.
    """
    told = await _ask(cluster, "drive", leases, token, f" '{coded(by)}'")
    if occupied := next((fields for word, fields in told if word == "occupied"), None):
        await leave_leases(cluster, leases, token)
        raise Occupied(decode(occupied[3]), whole(occupied[2]) or 0)
    driving = [fields for word, fields in told if word == "driving"]  # one that came at the same moment may have it
    return {
        RenderLease(name, place): int(heard) for name, place, heard in driving if re.fullmatch(r"-?[0-9]{1,12}", heard)
    }


async def confirm_leases(
    cluster: Cluster, leases: Sequence[RenderLease], token: str, by: str = ""
) -> dict[RenderLease, bool]:
    """Say that leases are in use, and tell of each whether it is still this holder's; those whose folder has gone are
    missing.
    """
    told = await _ask(cluster, "confirm", leases, token, f" '{coded(by)}' 0")
    return {RenderLease(fields[0], fields[1]): word == "driving" for word, fields in told}


async def leave_leases(cluster: Cluster, leases: Sequence[RenderLease], token: str) -> None:
    """Give leases up, so that the next holder need not wait."""
    await _ask(cluster, "let_go", leases, token, "")


async def _ask(
    cluster: Cluster, verb: str, leases: Sequence[RenderLease], token: str, more: str
) -> list[tuple[str, list[str]]]:
    """Call a verb of lease.sh for some leases, and return the lines that tell of them."""
    check(TOKEN, "token", token)
    body = "\n".join(f"{verb} {lease.name} {lease.place} {token}{more}" for lease in leases)
    told = await cluster.ask("lease", body, COMMAND_SECONDS)
    check_folder(told)
    check_ours(leases[0].name if leases else "", told)
    known = {(lease.name, lease.place) for lease in leases}
    return [(word, fields) for word, fields in told if tuple(fields[:2]) in known]
