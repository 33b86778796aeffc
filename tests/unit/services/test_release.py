"""Green means that nothing runs on: what is said of a booking that was to be given back."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_brayns.cluster.answers import Released
from airflow_brayns.cluster.owner import About, Owner, RunOf, comment
from airflow_brayns.errors import AskedForElsewhere, ConnectionLost, InvalidSetting
from airflow_brayns.services.release import Wanted, give_back, release_each, verdict
from tests.support.clock import jumping_clock

__all__ = ["jumping_clock"]


@pytest.mark.parametrize(
    ("one", "found", "field", "retry"),
    [
        (Wanted("ab-1", {}, "success", "t"), 1, "", False),
        (Wanted("ab-1", {"name": "ab-1"}, "success", "t"), 0, "", False),
        (Wanted("ab-1", {}), 0, "allocation", False),
        *((Wanted("ab-1", {}, state, "t"), 0, "", False) for state in ("None", "skipped", "removed", "failed")),
        *(
            (Wanted("ab-1", {}, state, "t"), 0, "allocated_by", True)
            for state in ("success", "running", "up_for_retry", "")
        ),
    ],
)
def test_what_it_means_that_so_many_are_found(one: Wanted, found: int, field: str, retry: bool) -> None:
    said = verdict(one, found)
    assert isinstance(said, str) is (field == "")
    if isinstance(said, InvalidSetting):
        assert (said.field, said.retry) == (field, retry)
    assert ("has been given back" in str(said)) == bool(found)


@pytest.mark.parametrize(("completing", "told"), [(0, False), (1, True)])
def test_nodes_that_an_epilog_still_cleans_are_given_back_and_it_is_said(completing: int, told: bool) -> None:
    said = verdict(Wanted("ab-1", {}), Released(1, completing))
    assert isinstance(said, str)
    assert said.startswith("ab-1 has been given back.")
    assert ("COMPLETING: the site's epilog" in said) is told


async def test_all_are_tried_though_one_fails_and_jobs_without_a_folder_are_ended() -> None:
    ended, asked = [], []

    async def release(name: str) -> int:
        asked.append(name)
        if name == "ab-b":
            raise ConnectionLost("no answer")
        return 0

    async def survey() -> tuple[list[Any], list[Any]]:
        return [], [SimpleNamespace(name=name, comment="") for name in ("ab-c-1", "ab-c01-2", "ab-d-1", "other")]

    async def end_job(job: Any) -> bool:
        ended.append(job.name)
        return True

    fake: Any = SimpleNamespace(release=release, survey=survey, end_job=end_job, deployment="here")
    with pytest.raises(ConnectionLost):
        await release_each(fake, [Wanted(name, {}) for name in ("ab-b", "ab-c")])
    assert asked == ["ab-b", "ab-c"]
    assert ended == ["ab-c-1", "ab-c01-2"]


@pytest.mark.parametrize(
    ("of", "here", "ends"), [("prod", "clone", False), ("prod", "prod", True), ("", "x", True), ("prod", "", True)]
)
async def test_a_clones_release_ends_no_job_of_the_other_airflow_that_has_its_folder_elsewhere(
    of: str, here: str, ends: bool
) -> None:
    """The clone had another `state_dir`: no folder was there, and production's job was ended by its name."""
    ended = []

    async def release(name: str) -> int:
        return 0

    async def survey() -> tuple[list[Any], list[Any]]:
        told = str(About("a-mark", RunOf("dag", "run", "task"), of))
        return [], [SimpleNamespace(name="ab-c-1", comment=comment("ab-c", told))]

    async def end_job(job: Any) -> bool:
        ended.append(job.name)
        return True

    fake: Any = SimpleNamespace(release=release, survey=survey, end_job=end_job, deployment=here)
    if ends:
        await release_each(fake, [Wanted("ab-c", {})])
    else:
        with pytest.raises(AskedForElsewhere, match="another Airflow, prod, asked for ab-c"):
            await release_each(fake, [Wanted("ab-c", {})])
    assert bool(ended) is ends


@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize(("told_to_stop", "given_back"), [(True, False), (False, True)])
async def test_a_slow_login_node_is_waited_for_where_nobody_presses(
    told_to_stop: bool, given_back: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A task whose wait had timed out gave up after 4 s, and its job stayed in the queue until the idle limit."""

    async def cancel(name: str, token: str) -> int:
        await asyncio.sleep(20)
        return 1

    with caplog.at_level("INFO"):
        await give_back(SimpleNamespace(cancel=cancel), Owner("ab-a", "token"), logging, told_to_stop=told_to_stop)  # type: ignore[arg-type]
    assert ("ab-a: 1 job(s) given back." in caplog.text) is given_back
    assert ("could not be given back now" in caplog.text) is not given_back
