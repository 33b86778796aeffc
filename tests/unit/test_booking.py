from __future__ import annotations

import pytest

from airflow_brayns.booking import Booking, book, booking_name, service_commands
from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.cluster import SlurmCluster
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.settings import ClusterSettings, is_name


def test_many_services_come_in_the_order_of_their_nodes() -> None:
    """Folders are read in the order of their names: brayns2 must not come behind brayns11."""
    commands = service_commands(ClusterSettings.read({}), ["braynsDTI"], 11)
    names = [command.name for command in commands]
    assert names == sorted(names)
    assert [command.index for command in commands] == list(range(1, 12))


def test_a_name_is_the_same_for_every_try_and_for_nothing_else() -> None:
    name = booking_name("airflow", "dag", "run", "task", -1)
    assert name == booking_name("airflow", "dag", "run", "task", -1)
    assert is_name(name)
    others = {
        booking_name("other", "dag", "run", "task", -1),
        booking_name("airflow", "dag", "run", "task", 0),
        booking_name("airflow", "dagr", "un", "task", -1),
    }
    assert name not in others
    assert len(others) == 3


def test_a_booking_travels_as_json() -> None:
    booking = Booking("ab-0123456789ab", (Allocation("ab-0123456789ab000", 2, "77", "2026-11-22T10:00:00", "/home/x"),))
    assert Booking.from_json({**booking.to_json(), "nodes": ["a"]}) == booking


@pytest.mark.parametrize("nodes", [0, 10**9, pytest.param(10**400, id="huge")])
async def test_nodes_that_no_cluster_has_are_refused_before_a_list_is_made_of_them(nodes: int) -> None:
    """With a job for each node, a billion of them was a list of a billion first."""
    settings = ClusterSettings.read({"packing": "job_per_node"})
    with pytest.raises(InvalidSetting, match="^nodes"):
        await book(SlurmCluster(LocalShell()), settings, "ab-0123456789ab", "me", nodes=nodes, plugins=None, about="")
