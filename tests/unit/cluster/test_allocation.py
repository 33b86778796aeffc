"""What keeper and wrapper say in words is read here, and only here: as the scripts write it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_brayns.cluster.allocation import (
    HOPELESS_REASONS,
    Allocation,
    AllocationStatus,
    Job,
    JobState,
    ServiceStatus,
    is_idle_end,
)
from airflow_brayns.cluster.finding import Finding
from airflow_brayns.cluster.keeper import KeeperSettings, keeper_script

SCRIPT = keeper_script(KeeperSettings(), scheduler="slurm")


def ends() -> list[str]:
    """Why a keeper ends, as it writes it."""
    return [found[1] for found in re.finditer(r'\bend "([^"]+)"', SCRIPT)]


def test_one_end_of_a_keeper_is_that_nobody_used_it() -> None:
    assert [why for why in ends() if is_idle_end(why)] == ["not used for $idle_limit s (idle_limit)"]
    assert not is_idle_end(None)


@pytest.mark.parametrize(("why", "idle"), [("not used for 3 s (idle_limit)", True), ("released", False), (None, False)])
def test_a_service_that_was_found_tells_whether_it_ended_since_nobody_used_it(why: str | None, idle: bool) -> None:
    status = AllocationStatus("ab-1", 1, ended=why)
    assert Finding(Allocation("ab-1", 1, "7"), status, ServiceStatus("s1")).idle is idle


def test_a_wrapper_says_that_its_service_was_stopped_or_with_what_it_ended() -> None:
    assert 'fail_service 0 "stopped"' in SCRIPT
    assert '"the service ended with exit code $code"' in SCRIPT
    stopped = ServiceStatus("s1", exit_code=0, exit_text="stopped")
    ended = ServiceStatus("s1", exit_code=3, exit_text="the service ended with exit code 3")
    suspect = ServiceStatus("s1", exit_code=98, exit_text="pid 7 listens on its port")
    assert [one.stopped for one in (stopped, ended, suspect)] == [True, False, False]
    assert [one.said for one in (ended, suspect)] == ["", "pid 7 listens on its port"]


# ---- the job's step ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("PENDING CONFIGURING REQUEUED REQUEUE_HOLD", JobState.PENDING),
        ("RUNNING SUSPENDED STOPPED RESIZING SIGNALING", JobState.RUNNING),
        ("COMPLETING STAGE_OUT", JobState.ENDING),
        ("COMPLETED FAILED TIMEOUT CANCELLED OUT_OF_MEMORY NODE_FAIL PREEMPTED", JobState.ENDED),
    ],
)
def test_every_word_of_squeue_is_one_of_four_steps(words: str, state: JobState) -> None:
    """A suspended job still holds its nodes; one that is requeued waits for some again."""
    assert {job(word).state for word in words.split()} == {state}
    assert JobState.of("") is JobState.UNKNOWN


def job(word: str) -> Job:
    return Job("77", word, "None", "n1", "ab-1-1", "s", "N/A", None)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"job": job("RUNNING"), "job_id": "77"}, JobState.RUNNING),
        ({"job": job("RUNNING"), "job_id": "77", "ended": "released"}, JobState.RUNNING),
        ({"job": job("COMPLETED"), "job_id": "77", "ended": "released"}, JobState.ENDED),
        ({"job_id": "77", "ended": "released"}, JobState.ENDED),
        ({"job_id": "77", "ended": "released", "answered": False}, JobState.ENDED),
        ({"job_id": "77", "answered": False}, JobState.UNKNOWN),
        ({"job": job("RUNNING"), "job_id": "77", "answered": False}, JobState.UNKNOWN),
        ({"job_id": "77"}, JobState.ENDED),
        ({}, JobState.UNKNOWN),
    ],
)
def test_the_scheduler_is_believed_and_the_keeper_where_it_has_forgotten_the_job(
    status: dict[str, Any], state: JobState
) -> None:
    """Silence is never an end, and a keeper's last word none while its job still holds nodes."""
    assert AllocationStatus("ab-1", 1, **status).state is state


def test_a_service_is_found_by_its_name() -> None:
    services = (ServiceStatus("s1"), ServiceStatus("s2", node="n2"))
    status = AllocationStatus("ab-1", 1, services=services)
    assert status.service("s2") is services[1]
    assert status.service("s3") is None


@pytest.mark.parametrize("more", [{}, {"adopted": True}, {"key_of_another_version": 1}])
def test_an_allocation_travels_as_json(more: dict[str, Any]) -> None:
    one = Allocation("ab-1", 2, "77", "2026-11-22", "/s/ab-1/2")
    assert Allocation.from_json({**one.to_json(), **more}) == one
    assert one.key == ("ab-1", 2)
    assert "machine" not in one.to_json(), "XCom's form is that of 0.2.0 where nothing else is to be told"
    here = Allocation("ab-1", 2, "77", machine="worker1")
    assert Allocation.from_json(here.to_json()) == here
    assert Allocation.from_json({"name": "ab-1", "incarnation": "2", "job_id": 77}) == Allocation("ab-1", 2, "77")


@pytest.mark.parametrize(
    "reason",
    ["PartitionTimeLimit", "PartitionNodeLimit", "PartitionDown", "PartitionInactive", "PartitionConfig", "AccountNotAllowed", "QOSNotAllowed",
     "InvalidAccount", "InvalidQOS", "BadConstraints", "AssocMaxWallDurationPerJobLimit", "QOSMaxWallDurationPerJobLimit",
     "AssocMaxNodePerJobLimit", "QOSMaxNodePerJobLimit", "launch failed requeued held",
     "QOSMaxCpuPerJobLimit", "AssocMaxCpuMinutesPerJobLimit", "QOSMaxMemoryPerJob", "AssocMaxMemPerNode", "QOSMaxGRESPerJob",
     "QOSMaxBillingMinutesPerJob", "QOSMinCpuNotSatisfied", "QOSMinGRES", "MaxMemPerLimit", "DependencyNeverSatisfied", "ReservationDeleted"],
)  # fmt: skip
def test_what_no_waiting_mends(reason: str) -> None:
    assert reason in HOPELESS_REASONS


@pytest.mark.parametrize(
    "reason",
    [
        "Priority",
        "Resources",
        "None",
        "Dependency",
        "QOSMaxJobsPerUserLimit",
        "ReqNodeNotAvail",
        "BeginTime",
        "QOSMaxGRESPerUser",
        "MaxCpuPerAccount",
        "AssocGrpGRESMinutes",
        "QOSGrpCpuLimit",
        "JobHeldUser",
    ],
)
def test_what_waiting_mends(reason: str) -> None:
    assert reason not in HOPELESS_REASONS
