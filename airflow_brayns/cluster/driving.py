"""Who renders with what: one at a time with an allocation, a service of one, or a service that is in none of ours."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.submission import NAME, SERVICE, check
from airflow_brayns.errors import BraynsError

_PLACE = re.compile(r"[0-9]{1,9}(/services/[a-z0-9][a-z0-9_-]{0,63})?")
_ELSEWHERE = re.compile(r"at-[0-9a-f]{16}")


class Occupied(BraynsError):  # noqa: N818 - named for what it says
    """Another movie renders with it.

    :param by: which.
    :param heard: seconds since it was heard of.
    """

    def __init__(self, by: str, heard: int) -> None:
        super().__init__(f"{by or 'another movie'} renders with it, and was heard of {heard} s ago")
        self.by, self.heard = by, heard


@dataclass(frozen=True)
class Seat:
    """What one driver at a time has.

    :param name: of the allocation; `at-` and a hash for a service that is in none of ours.
    :param place: the incarnation, and for one service `/services/` and its name.
    """

    name: str
    place: str

    def __post_init__(self) -> None:
        if not _ELSEWHERE.fullmatch(self.name):
            check(NAME, "name", self.name)
        if not _PLACE.fullmatch(self.place):
            raise ValueError(self.place)


def seat_of(allocation: Allocation, service: str = "") -> Seat:
    """An allocation's, or that of one of its services."""
    if not service:
        return Seat(allocation.name, str(int(allocation.incarnation)))
    check(SERVICE, "service", service)
    return Seat(allocation.name, f"{int(allocation.incarnation)}/services/{service}")


def seat_elsewhere(address: str) -> Seat:
    """That of a service which is in no allocation of ours, by its address as the drivers know it."""
    return Seat(f"at-{hashlib.sha256(address.encode('utf-8', 'replace')).hexdigest()[:16]}", "1")
