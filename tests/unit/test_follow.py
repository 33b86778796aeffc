"""What the follower does with logs."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace

from airflow_brayns.booking import Booking
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, ServiceStatus
from airflow_brayns.follow import Follower
from airflow_brayns.settings import ClusterSettings


def following() -> tuple[Follower, Allocation, AllocationStatus]:
    """A follower of one allocation with one service."""
    allocation = Allocation("ab-1", 1, "7")
    poller = SimpleNamespace(cluster=None)
    follower = Follower(poller, Booking("ab-1", (allocation,)), ClusterSettings.read({}), (), logging.getLogger("x"))  # type: ignore[arg-type]
    status = AllocationStatus("ab-1", 1, services=(ServiceStatus("s1"),))
    return follower, allocation, status


def test_a_log_of_one_long_line_holds_nobody_up() -> None:
    """A pattern that began with `.*` tried each of its characters as a beginning: 64 KiB took seconds of the triggerer's loop."""
    follower, allocation, status = following()
    began = time.monotonic()
    follower._show_logs(allocation, {"s1": "x" * 65536}, status)
    follower._show_logs(allocation, {"s1": "Error opening dynamic library: libX.so: no\n" + "x" * 65536}, status)
    assert time.monotonic() - began < 0.5
    assert "libX.so" in follower.log_of(status, status.services[0])


def test_a_log_cannot_move_the_readers_cursor() -> None:
    """Whoever makes braynsService log a file's name could write over the lines before it, on a terminal and in an error's text."""
    follower, allocation, status = following()
    follower._show_logs(allocation, {"s1": "\x1b[2J\x1b[31mred\x1b[0m\x07 a\u202eb\x9b1A\rover\ttab\n"}, status)
    assert follower.log_of(status, status.services[0]) == "red ab1A\rover\ttab\n"
