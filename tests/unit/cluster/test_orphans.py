"""What the reaper takes for left behind: pure decisions, and the same on a real local cluster."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.cluster.allocation import AllocationStatus, Job
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.orphans import Here, Leftover, Reaped, give_back, leftovers, looked_at, reap
from airflow_brayns.cluster.owner import RunOf, comment
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import ConnectionLost, SubmissionRefused
from tests.support.shell import in_turn

NAME = "ab-0123456789ab000"
ABOUT = json.dumps({"installation": "ours", "dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1})
JOB = Job("7", "RUNNING", "None", "n1", f"{NAME}-1", "2026-01-01", "", 100, comment(NAME, ABOUT))
STATUS = AllocationStatus(NAME, 1, JOB, "7", "2026-01-01", nodes=("n1",), about=ABOUT, silent=1.0, owner="me")


def found(status: AllocationStatus = STATUS, state: str | None = "running", jobs: Any = (JOB,)) -> list[str]:
    return [one.why for one in leftovers([status], list(jobs), "ours", lambda run: state)]


def test_what_a_running_dag_run_uses_stays() -> None:
    assert found() == found(state="queued") == []


@pytest.mark.parametrize(("state", "why"), [("success", "has ended"), ("failed", "has ended"), (None, "was deleted")])
def test_a_run_that_ended_or_was_deleted(state: str | None, why: str) -> None:
    assert why in found(state=state)[0]


def test_a_keeper_that_is_lost_while_its_job_runs() -> None:
    assert "orphaned" in found(replace(STATUS, silent=700.0))[0]
    suspended = replace(JOB, word="SUSPENDED")
    assert found(replace(STATUS, silent=700.0, job=suspended)) == [], "a suspended job's keeper is suspended too"


@pytest.mark.parametrize(
    "about",
    [
        ABOUT.replace("ours", "theirs"), "", "nonsense", "[]", '{"installation": "ours"}',
        json.dumps({"dag_id": "d", "run_id": "r", "task_id": "t"}),
    ],
)  # fmt: skip
def test_what_does_not_bear_our_mark_is_left_alone(about: str) -> None:
    job = replace(JOB, comment=comment(NAME, about))
    assert found(replace(STATUS, about=about, job=job), state=None, jobs=[job]) == []


def test_a_job_whose_folder_has_gone() -> None:
    ours = [one.why for one in leftovers([], [JOB], "ours", lambda run: "running")]
    assert ours == ["its folder has gone, or says that it has ended"]
    for text in ("airflow-brayns:ours2:d/r/t", "airflow-brayns::d/r/t", "", "mine"):
        assert leftovers([], [replace(JOB, comment=text)], "ours", lambda run: None) == [], text


HERE = Here("prod.example.org-1")


def told_at(deployment: str, here: Here = HERE) -> list[bool]:
    """Whether what an Airflow of this mark asked for at a place is foreign, by its folder and by its comment alone."""
    about = json.dumps({**json.loads(ABOUT), "deployment": deployment} if deployment else json.loads(ABOUT))
    job = replace(JOB, comment=comment(NAME, about))
    by_folder = leftovers([replace(STATUS, about=about, job=job)], [job], "ours", lambda run: None, here=here)
    by_comment = leftovers([], [job], "ours", lambda run: None, here=here)
    return [bool(one.foreign) for one in (*by_folder, *by_comment)]


def test_a_clone_with_the_same_mark_ends_nothing_of_the_others() -> None:
    """To the clone of a database every run that production began since seems deleted."""
    assert told_at("prod.example.org-1") == [False, False]
    assert told_at("staging.example.org-2") == [True, True]
    assert told_at("") == [False, False], "of 0.2.0, which did not tell"
    assert told_at("", Here("prod.example.org-1", shared=True)) == [True, True], "and whose mark others may have"


async def test_what_is_foreign_is_never_given_back() -> None:
    assert not await give_back(SlurmCluster(LocalShell()), Leftover("why", None, STATUS, foreign="another's"))
    assert not await give_back(SlurmCluster(LocalShell()), Leftover("why", None, job=JOB, foreign="another's"))


def test_an_error_of_the_scheduler_is_no_answer() -> None:
    silent = replace(STATUS, answered=False, job=None)
    assert found(silent, state=None, jobs=[]) == []


def test_each_run_is_asked_for_once() -> None:
    asked: list[RunOf] = []
    statuses = [replace(STATUS, name=f"ab-0123456789ab{part:03x}") for part in range(5)]
    leftovers(statuses, [], "ours", lambda run: asked.append(run) or "running")  # type: ignore[func-returns-value]
    assert asked == [RunOf("d", "r", "t")]


async def test_it_is_given_back_unless_somebody_took_it_over(tmp_path: Path) -> None:
    """Between looking and giving back, a cleared task's new try may have adopted it."""
    cluster = LocalCluster(LocalShell(), state_dir=str(tmp_path))
    await cluster.submit(NAME, "try-1", AllocationRequest(), [], ABOUT)
    await asyncio.wait_for(_running(cluster), 10)
    [left] = leftovers(*await cluster.survey(), "ours", lambda run: "failed")
    await cluster.submit(NAME, "try-2", AllocationRequest(), [], ABOUT)
    assert not await give_back(cluster, left)
    assert (await cluster.list_all())[0].state.value == "running"
    [again] = leftovers(*await cluster.survey(), "ours", lambda run: None)
    assert await give_back(cluster, again)
    assert leftovers(*await cluster.survey(), "ours", lambda run: None) == []
    assert leftovers(*await cluster.survey(), "theirs", lambda run: None) == []


async def test_a_clone_takes_over_no_job_of_the_same_run(tmp_path: Path) -> None:
    def at(place: str) -> tuple[LocalCluster, str]:
        about = json.dumps({**json.loads(ABOUT), "dag_id": 'x", "deployment": "forged"', "deployment": place})
        return LocalCluster(LocalShell(), state_dir=str(tmp_path), deployment=place), about

    production, about = at("prod.example.org-1")
    first = await production.submit(NAME, "try-1", AllocationRequest(), [], about)
    clone, cloned = at("staging.example.org-2")
    with pytest.raises(SubmissionRefused, match="another Airflow, prod.example.org-1"):
        await clone.submit(NAME, "try-1b", AllocationRequest(), [], cloned)
    with pytest.raises(SubmissionRefused):
        await clone.submit(NAME, "try-1b", AllocationRequest(nodes=2), [], cloned)
    for cluster, text in ((production, about), at("")):
        again = await cluster.submit(NAME, "try-2", AllocationRequest(), [], text)
        assert again.adopted
        assert again.job_id == first.job_id
    await production.release(NAME)


async def test_a_job_that_was_submitted_since_it_was_looked_at_stays(tmp_path: Path) -> None:
    """The queue is asked after the folders were listed: a job that comes in between has a folder, which was not seen."""
    (tmp_path / NAME / "1").mkdir(parents=True)
    cluster = SlurmCluster(LocalShell(), state_dir=str(tmp_path))
    [left] = leftovers([], [JOB], "ours", lambda run: "running")
    assert not await give_back(cluster, left)


async def _running(cluster: LocalCluster) -> None:
    while not any(status.nodes for status in await cluster.list_all()):
        await asyncio.sleep(0.1)


async def test_one_that_cannot_be_given_back_keeps_none_of_the_others() -> None:
    """And of each it is told what became of it."""
    left = [
        Leftover("over", None, replace(STATUS, incarnation=n), foreign="a clone's" if n == 4 else "")
        for n in (1, 2, 3, 4)
    ]
    cluster, shell = in_turn(f"taken {NAME}\n", "", f"released {NAME} 3\n")
    became = [what async for _, what in reap(cluster, left, really=True)]
    assert isinstance(became[1], ConnectionLost)
    assert [became[0], *became[2:]] == [Reaped.TAKEN_OVER, Reaped.GIVEN_BACK, Reaped.FOREIGN]
    cluster, shell = in_turn()
    assert [what async for _, what in reap(cluster, left, really=False)] == [*[Reaped.FOUND] * 3, Reaped.FOREIGN]
    assert shell.commands == 0


# ---- each reason -------------------------------------------------------------------------------------------------------
DONE = replace(STATUS, job=None, ended="released")


@pytest.mark.parametrize(
    ("status", "state", "why"),
    [
        (STATUS, "failed", "its DAG run has ended (failed)"), (STATUS, None, "its DAG run was deleted"),
        (DONE, "running", ""), (DONE, "success", "its job is over; what is left of its folder is closed"),
        (DONE, None, "its job is over; what is left of its folder is closed"),
        (replace(STATUS, silent=600.0), "running", ""), (replace(STATUS, silent=601.0), "running", "it is orphaned: its keeper has shown no sign for 601 s"),
        (replace(STATUS, silent=None), "running", ""), (replace(STATUS, job=replace(JOB, word="PENDING"), silent=700.0), "running", ""),
        (replace(STATUS, job=replace(JOB, word="COMPLETING")), None, ""), (replace(STATUS, answered=False), None, ""),
    ],
)  # fmt: skip
def test_why_something_is_left_over_and_what_is_not(status: AllocationStatus, state: str | None, why: str) -> None:
    """Silence of the scheduler is no end, and what is ending needs nobody."""
    assert found(status, state, jobs=[JOB]) == ([why] if why else [])


@pytest.mark.parametrize(("word", "left"), [("RUNNING", 1), ("PENDING", 1), ("COMPLETING", 0), ("FAILED", 0)])
def test_of_jobs_without_a_folder_those_that_hold_or_want_nodes_are_left_over(word: str, left: int) -> None:
    assert len(leftovers([], [replace(JOB, word=word)], "ours", lambda _: "running")) == left


def test_a_leftover_is_named_by_its_folder_or_its_job() -> None:
    assert (Leftover("", None, STATUS).name, Leftover("", None, STATUS).job_id) == (NAME, "7")
    assert (Leftover("", None, job=JOB).name, Leftover("", None, job=JOB).job_id) == (f"{NAME}-1", "7")
    assert (Leftover("", None).name, Leftover("", None).job_id) == ("", "")


def test_what_was_looked_at_is_said_also_where_nothing_was_to_do() -> None:
    assert looked_at(3, 2, 0) == "Looked at 3 allocations and 2 jobs of airflow-brayns: all of them are somebody's."
    assert looked_at(3, 2, 1).endswith("1 are nobody's any more, each told above.")
