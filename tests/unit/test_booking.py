from __future__ import annotations

from airflow_brayns.booking import Booking, booking_name, service_commands
from airflow_brayns.cluster.allocation import Allocation
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
