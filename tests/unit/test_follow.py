"""What the follower does with logs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from airflow_brayns.booking import Booking
from airflow_brayns.brayns.readiness import NotYet
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job, ServiceStatus
from airflow_brayns.errors import AllocationLost, NotReadyInTime, ServiceFailed
from airflow_brayns.follow import Follower
from airflow_brayns.settings import ClusterSettings


def following() -> tuple[Follower, Allocation, AllocationStatus]:
    """A follower of one allocation with one service."""
    allocation = Allocation("ab-1", 1, "7")
    poller = SimpleNamespace(cluster=None)
    follower = Follower(poller, Booking("ab-1", (allocation,)), ClusterSettings.read({}), (), logging.getLogger("x"))  # type: ignore[arg-type]
    status = AllocationStatus("ab-1", 1, services=(ServiceStatus("s1"),))
    return follower, allocation, status


def test_a_log_cannot_move_the_readers_cursor() -> None:
    """Whoever makes braynsService log a file's name could write over the lines before it, on a terminal and in an error's text."""
    follower, allocation, status = following()
    follower._show_logs(allocation, {"s1": "\x1b[2J\x1b[31mred\x1b[0m\x07 a\u202eb\x9b1A\rover\ttab\n"}, status)
    assert follower.log_of(status, status.services[0]) == "red ab\nover\ttab\n"


async def test_a_service_that_is_stopped_alone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`scancel JOB.STEP`: the wait went on until start_timeout. One that a job stops as it ends has the job's reason."""
    monkeypatch.setattr("airflow_brayns.follow._STOPPED_LIMIT", 0.2)
    follower, _, _ = following()
    word = "RUNNING"

    async def watch(*_: Any) -> AsyncIterator[tuple[AllocationStatus, dict[str, str]]]:
        while True:
            service = ServiceStatus("s1", node="r1i1n0", exit_code=0, exit_text="stopped")
            job = Job("7", word, "None", "r1i1n0", "ab-1-1", "", "", None)
            ended = None if word == "RUNNING" else "the time limit is near"
            yield (
                AllocationStatus("ab-1", 1, job_id="7", nodes=("r1i1n0",), services=(service,), job=job, ended=ended),
                {},
            )
            await asyncio.sleep(0.05)

    follower._poller = SimpleNamespace(watch=watch)  # type: ignore[assignment]
    with pytest.raises(ServiceFailed, match="s1 on r1i1n0 was stopped before it was usable, while job 7 goes on"):
        await asyncio.wait_for(follower.services(), 10)
    word = "TIMEOUT"
    follower._cluster = SimpleNamespace(post_mortem=AsyncMock(return_value=""))  # type: ignore[assignment]
    with pytest.raises(AllocationLost, match="the time limit is near"):
        await asyncio.wait_for(follower.services(), 10)


async def test_why_a_service_is_not_usable_is_told_once_and_names_its_node(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Through a tunnel each look has a local port of its own: hundreds of lines, none of which named the node's port."""
    ports = itertools.count(40000)

    @contextlib.asynccontextmanager
    async def tunnel(*_: Any) -> AsyncIterator[tuple[str, int]]:
        yield "127.0.0.1", next(ports)

    async def unusable(host: str, port: int, *_: Any, **__: Any) -> None:
        raise NotYet(f"braynsService at {host}:{port} cannot be reached")

    monkeypatch.setattr("airflow_brayns.follow.way_to", tunnel)
    monkeypatch.setattr("airflow_brayns.follow.probe", unusable)
    monkeypatch.setattr("airflow_brayns.follow._PROBE_PAUSE", 0.01)
    follower, _, status = following()
    follower._cluster = SimpleNamespace(address=lambda node: node)  # type: ignore[assignment]
    follower._settings = ClusterSettings.read({"start_timeout": 0.2})
    service = ServiceStatus("s1", node="r1i1n0", port=5000)
    with caplog.at_level(logging.INFO), pytest.raises(NotReadyInTime, match="at r1i1n0:5000 cannot be reached"):
        await asyncio.wait_for(follower.prove(status, service), 10)
    assert next(ports) > 40003, "it looked several times"
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("version", "exit_code", "says"),
    [
        ("3.10.1", None, "the plugin 'X' and ends. Take"),
        ("3.10.1", 1, "the plugin 'X' and exited with 1. Take"),
        ("2.0.0", None, "the plugin 'X' and goes on without it. Take"),
        ("2.0.0", 0, "the plugin 'X' and exited with 0. Take"),
        ("", None, "the plugin 'X'. Take"),
    ],
)
def test_what_a_service_does_without_a_plugin_is_told_by_its_generation(
    version: str, exit_code: int | None, says: str
) -> None:
    """'goes on without it' was said of a 3.x that had exited: a look may come between its line and its end."""
    follower, allocation, status = following()
    name = f"Brayns version {version} (x)\n" if version else ""
    follower._show_logs(allocation, {"s1": f"{name}Error opening dynamic library: libX.so: no such file\n"}, status)
    with pytest.raises(ServiceFailed, match=says) as raised:
        follower.check(status, ServiceStatus("s1", exit_code=exit_code))
    assert not raised.value.retry


def test_the_log_says_once_where_the_rest_is(caplog: pytest.LogCaptureFixture) -> None:
    follower, _, status = following()
    allocation = Allocation("ab-1", 1, "7", folder="/home/me/.airflow-brayns/ab-1/1")
    with caplog.at_level(logging.INFO):
        for _ in range(10):
            follower._show_logs(allocation, {"s1": "[info][21:12:00] New request.\n"}, status)
        follower._show_logs(allocation, {"s1": "[warn][21:12:00] odd\n"}, status)
    assert [(one.levelno, one.getMessage()) for one in caplog.records] == [
        (logging.INFO, "[ s1] Its start and its warnings are shown here; all it says is in /home/me/.airflow-brayns/ab-1/1/services/s1/log"),
        (logging.WARNING, "[ s1] [warn][21:12:00] odd"),
    ]  # fmt: skip
