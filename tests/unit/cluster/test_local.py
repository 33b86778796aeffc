"""What is this machine's own: a slot for each node, at its own address, and a keeper that sees to the time itself."""

from __future__ import annotations

import pytest

from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from tests.support.shell import FakeShell


def test_every_slot_is_at_this_machine_and_none_elsewhere() -> None:
    cluster = LocalCluster(FakeShell())
    assert cluster.address("slot1") == "127.0.0.1"
    assert [cluster.is_called("slot1", host) for host in ("127.0.0.1", "LOCALHOST", "r1i1n0")] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "slots"),
    [
        ("ab-0123456789ab000", "slot1 slot2"),
        ("ab-0123456789ab001", "slot2 slot3"),
        ("ab-0123456789ab1000", "slot4097 slot4098"),
        ("ab-1", "slot1 slot2"),
    ],
)
def test_the_parts_of_a_booking_have_slots_of_their_own(name: str, slots: str) -> None:
    """Each was a slot1, so that log, progress and services of a movie on two "nodes" could not be told apart."""
    script = LocalCluster(FakeShell()).keeper_for(AllocationRequest(nodes=2), KeeperSettings(), name=name)
    assert f"\nnodes='{slots}'\n" in script


@pytest.mark.parametrize(("limit", "seconds"), [("2:00", 120), (None, 0)])
def test_the_keeper_has_a_slot_for_each_node_and_the_time_limit(limit: str | None, seconds: int) -> None:
    request = AllocationRequest(nodes=3, time_limit=limit)
    script = LocalCluster(FakeShell()).keeper_for(request, KeeperSettings(start_timeout=66), {"s1": "abc"})
    for line in (
        "scheduler=local",
        "nodes='slot1 slot2 slot3'",
        f"time_limit={seconds}",
        "start_timeout=66",
        "proofs='s1 abc'",
        "shared=''",
    ):
        assert f"\n{line}\n" in script
