"""What a look at an allocation tells the log, and of each service."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job, ServiceStatus
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.errors import AllocationLost, ConnectionLost, InvalidSetting, ServiceFailed
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from airflow_brayns.services.watch import AllocationWatch


def watching() -> tuple[AllocationWatch, AllocationStatus]:
    """A watch of one allocation with one service."""
    session = Session(SimpleNamespace(cluster=None), ClusterSettings.read({}), logging.getLogger("x"))  # type: ignore[arg-type]
    watch = AllocationWatch(session, Allocation("ab-1", 1, "7", folder="/home/me/.airflow-brayns/ab-1/1"))
    return watch, AllocationStatus("ab-1", 1, services=(ServiceStatus("s1"),))


def test_a_log_cannot_move_the_readers_cursor() -> None:
    """Whoever makes braynsService log a file's name could write over the lines before it, on a terminal and in an error's text."""
    watch, status = watching()
    watch._show_logs({"s1": "\x1b[2J\x1b[31mred\x1b[0m\x07 a\u202eb\x9b1A\rover\ttab\n"}, status)
    assert watch.log_of(status.services[0]) == "red ab\nover\ttab\n"


def test_a_services_lines_are_folded_where_they_are_many(caplog: pytest.LogCaptureFixture) -> None:
    """And a service cannot fold ours away: a group of its own would hide all that is said after it."""
    watch, status = watching()
    with caplog.at_level(logging.INFO):
        watch._show_logs({"s1": "Brayns version 3.10.1 (x)\n" + "[warn] ::group::odd\n" * 4}, status)
        watch._show_logs({"s1": "[warn] ::endgroup::\n"}, status)
    told = [record.getMessage() for record in caplog.records][1:]
    assert told[0] == "::group::[ s1] 5 lines of its log"
    assert told[2:7] == ["[ s1] [warn] ::group: :odd"] * 4 + ["::endgroup::"]
    assert told[7:] == ["[ s1] [warn] ::endgroup: :"]


@pytest.mark.parametrize(
    ("version", "exit_code", "says"),
    [
        ("3.10.1", None, "the plugin 'X' and ends."),
        ("3.10.1", 1, "the plugin 'X' and exited with 1."),
        ("2.0.0", None, "the plugin 'X' and goes on without it."),
        ("2.0.0", 0, "the plugin 'X' and exited with 0."),
        ("", None, "the plugin 'X'."),
    ],
)
def test_what_a_service_does_without_a_plugin_is_told_by_its_generation(
    version: str, exit_code: int | None, says: str
) -> None:
    """'goes on without it' was said of a 3.x that had exited: a look may come between its line and its end."""
    watch, status = watching()
    name = f"Brayns version {version} (x)\n" if version else ""
    watch._show_logs({"s1": f"{name}Error opening dynamic library: libX.so: no such file\n"}, status)
    with pytest.raises(ServiceFailed, match=says) as raised:
        watch.check(ServiceStatus("s1", exit_code=exit_code))
    assert not raised.value.retry


async def test_a_local_allocation_of_another_machine_is_not_watched() -> None:
    """Its folder is not here, which was told as if somebody had taken it away."""
    cluster = LocalCluster(LocalShell())
    session = Session(Poller(cluster, 5), ClusterSettings.read({"scheduler": "local"}), logging.getLogger("x"))
    watch = AllocationWatch(session, Allocation("ab-1", 1, "7", machine="worker1"))
    with pytest.raises(InvalidSetting, match=r"(?s)one machine: .*run on worker1, and this is ") as raised:
        await anext(watch.statuses())
    assert raised.value.field == "cluster_conn_id" and raised.value.retry


@pytest.mark.parametrize(
    ("made_on", "says"), [("worker1", "made on worker1, and this is worker2"), ("worker2", ""), ("", "")]
)
async def test_a_folder_that_another_worker_made_is_told_from_one_that_was_taken_away(made_on: str, says: str) -> None:
    watch, _ = watching()
    watch.allocation = Allocation("ab-1", 1, "7", machine=made_on)
    watch._session.poller.cluster = SimpleNamespace(machine="worker2")  # type: ignore[assignment]
    with pytest.raises(AllocationLost, match=says or "state_dir.$"):
        await watch._check_job(AllocationStatus("ab-1", 1, answered=True, gone=True))


def test_the_log_says_once_where_the_rest_is(caplog: pytest.LogCaptureFixture) -> None:
    watch, status = watching()
    with caplog.at_level(logging.INFO):
        for _ in range(10):
            watch._show_logs({"s1": "[info][21:12:00] New request.\n"}, status)
        watch._show_logs({"s1": "[warn][21:12:00] odd\n"}, status)
    assert [(one.levelno, one.getMessage()) for one in caplog.records] == [
        (logging.INFO, "[ s1] Its start and its warnings are shown here; all it says is in /home/me/.airflow-brayns/ab-1/1/services/s1/log"),
        (logging.WARNING, "[ s1] [warn][21:12:00] odd"),
    ]  # fmt: skip


@pytest.mark.parametrize(("why", "idle"), [("not used for 3 s (idle_limit)", True), ("the time limit is near", False)])
async def test_that_nobody_used_the_nodes_is_a_fact_of_their_loss(why: str, idle: bool) -> None:
    watch, _ = watching()
    watch._session.poller.cluster = SimpleNamespace(post_mortem=AsyncMock(return_value=""))  # type: ignore[assignment]
    with pytest.raises(AllocationLost, match="The keeper says: ") as raised:
        await watch._check_job(AllocationStatus("ab-1", 1, job_id="7", ended=why))
    assert raised.value.idle is idle


async def test_a_job_that_the_scheduler_forgets_is_lost_after_some_looks_in_a_row() -> None:
    """One look without its line may be Slurm's own gap; a look that tells of it begins the row anew."""
    watch, _ = watching()
    watch._session.poller.cluster = SimpleNamespace(post_mortem=AsyncMock(return_value=""))  # type: ignore[assignment]
    forgotten = AllocationStatus("ab-1", 1, job_id="7")
    runs = AllocationStatus("ab-1", 1, job=Job("7", "RUNNING", "None", "n1", "ab-1-1", "", "", None), job_id="7")
    for seen in (forgotten, forgotten, runs, forgotten, forgotten):
        await watch._check_job(seen)
    with pytest.raises(
        AllocationLost, match=r"^Clear the task: it allocates anew\.\n +Job 7 ended before it was done with"
    ):
        await watch._check_job(forgotten)


async def test_a_new_job_that_an_old_listing_does_not_have_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sites keep squeue's answer for a minute: each job was taken for ended 15 s after its submission."""
    watch, _ = watching()
    watch._session.poller.cluster = SimpleNamespace(post_mortem=AsyncMock(return_value=""))  # type: ignore[assignment]
    clock, at = asyncio.get_running_loop(), [100.0]
    monkeypatch.setattr(clock, "time", lambda: at[0])
    for _ in range(15):
        await watch._check_job(AllocationStatus("ab-1", 1, job_id="7"))
        at[0] += 5
    at[0] += 5
    with pytest.raises(AllocationLost, match="ended before it was done with"):
        await watch._check_job(AllocationStatus("ab-1", 1, job_id="7"))


async def test_a_job_whose_keeper_shows_itself_is_there_whatever_the_scheduler_lists() -> None:
    watch, _ = watching()
    runs = AllocationStatus("ab-1", 1, job=Job("7", "RUNNING", "None", "n1", "ab-1-1", "", "", None), job_id="7")
    await watch._check_job(runs)
    for beat in range(10):
        await watch._check_job(AllocationStatus("ab-1", 1, job_id="7", heartbeat=str(beat)))


async def test_a_scheduler_that_does_not_answer_has_forgotten_nothing() -> None:
    watch, _ = watching()
    for _ in range(10):
        await watch._check_job(AllocationStatus("ab-1", 1, job_id="7", answered=False))


async def test_that_a_job_has_ended_is_told_also_where_nobody_can_say_more() -> None:
    watch, _ = watching()
    post_mortem = AsyncMock(side_effect=ConnectionLost("the login node is away"))
    watch._session.poller.cluster = SimpleNamespace(post_mortem=post_mortem)  # type: ignore[assignment]
    with pytest.raises(AllocationLost, match=r"The keeper says: gone\.$"):
        await watch._check_job(AllocationStatus("ab-1", 1, job_id="7", ended="gone"))
    post_mortem.assert_awaited_once_with("ab-1", 1)


def test_that_a_service_logged_nothing_is_said() -> None:
    watch, status = watching()
    assert watch.last_lines(status.services[0]) == "It logged nothing."
    watch._show_logs({"s1": "one\ntwo\n"}, status)
    assert watch.last_lines(ServiceStatus("s1", "n1")) == "Last lines of s1 on n1:\none\ntwo"
