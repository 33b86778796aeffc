"""Whether a task is tried again is its error's word, wherever it was raised: at most of these places it was dropped."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_brayns import (
    AllocateNodesOperator,
    BraynsMovieOperator,
    BraynsServiceOperator,
    BraynsServiceSensor,
    EncodeMovieOperator,
    ReapNodesOperator,
    RenderFramesOperator,
    StartBraynsServiceOperator,
)
from airflow_brayns.errors import ConnectionLost, InvalidSetting, SubmissionLimited, SubmissionRefused
from airflow_brayns.services.settings import ClusterSettings
from airflow_brayns.task import movie_fields
from tests.support.local import HERE

ALLOCATION = {"name": "ab-1", "allocations": [{"name": "ab-1", "incarnation": 1, "job_id": "7"}]}
PARAMS = {"cluster_conn_id": "here", "folder": "", "output": "/tmp", "specification": "x", "nodes": 1, "plugins": []}
WAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "operators.cluster.whole_number": AllocateNodesOperator(task_id="task").execute,
    "operators.service.word_list": BraynsServiceOperator(task_id="task").execute,
    "operators.service.word_list (start)": StartBraynsServiceOperator(task_id="task", allocation=ALLOCATION).execute,
    "operators.movie.read_specification": BraynsMovieOperator(task_id="task", specification="x").execute,
    "operators.frames.read_specification": RenderFramesOperator(
        task_id="task", specification="x", frames_dir="f"
    ).execute,
    "operators.encode.encoding_of": EncodeMovieOperator(task_id="task", frames_dir="f", output_file="o").execute,
    "sensors.service.word_list": BraynsServiceSensor(task_id="task", endpoint="h:5").execute,
    "task.movie_fields.read_specification": lambda context: movie_fields.check_movie(PARAMS, "run"),
}


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_brayns.task.operator.BraynsOperator.read_settings", lambda self: ClusterSettings())


@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("where", WAYS)
def test_a_field_that_cannot_work_now_is_tried_again_where_that_may_help(
    where: str, retry: bool, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise InvalidSetting("fetch", "cannot be read now", retry=retry)

    monkeypatch.setattr(f"airflow_brayns.{where.split(' ')[0]}", fail)
    context["ti"].xcom_push = lambda **_: None
    with pytest.raises(AirflowException, match="fetch: cannot be read now") as raised:
        WAYS[where](context)
    assert isinstance(raised.value, AirflowFailException) is not retry


@pytest.mark.parametrize("retries", [(False, False), (False, True)])
def test_a_folder_of_movies_is_looked_at_again_where_that_may_help_one(
    retries: tuple[bool, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(operator: object, path: str, context: object) -> None:
        raise InvalidSetting("specification", "cannot be read", retry=retries[Path(path).stem == "b"])

    monkeypatch.setattr(movie_fields, "read_specification", fail)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").touch()
    with pytest.raises(AirflowException, match=r"(?s)a.yaml: specification: .*b.yaml: ") as raised:
        movie_fields.find_movies({**PARAMS, "folder": str(tmp_path)})
    assert isinstance(raised.value, AirflowFailException) is not any(retries)


@pytest.mark.parametrize("retries", [(False, False), (False, True)])
def test_what_could_not_be_given_back_is_tried_again_where_that_may_help(
    retries: tuple[bool, bool], context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that is refused was tried again, too."""
    left = [SimpleNamespace(name=f"ab-{retry}", job_id="7", run="run", why="ended", foreign="") for retry in retries]
    told = [
        ConnectionLost(f"{one.name} is not given back", retry=retry) for one, retry in zip(left, retries, strict=True)
    ]
    home = "airflow_brayns.operators.cluster"
    monkeypatch.setattr(f"{home}.ask", AsyncMock(return_value=left))
    monkeypatch.setattr("airflow_brayns.cluster.orphans.give_back", AsyncMock(side_effect=told))
    for name in ("installation_id", "deployment"):
        monkeypatch.setattr(f"{home}.{name}", lambda: "here")

    @asynccontextmanager
    async def session(log: object) -> AsyncIterator[Any]:
        yield SimpleNamespace(cluster=SimpleNamespace(survey=AsyncMock(return_value=([], [])), scheduler="local"))

    operator = ReapNodesOperator(task_id="task")
    operator.__dict__["hook"] = SimpleNamespace(session=session)
    with pytest.raises(AirflowException, match="(?s)is not given back.*is not given back") as raised:
        operator.execute(context)
    assert isinstance(raised.value, AirflowFailException) is not any(retries)


# ---- a limit of how much may be submitted -------------------------------------------------------------------------------
@pytest.fixture
def limited(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncMock:
    """`book`, at a limit of the account's."""
    settings = ClusterSettings(scheduler="local", queue_timeout=600.0)
    monkeypatch.setattr("airflow_brayns.task.operator.BraynsOperator.read_settings", lambda self: settings)
    book = AsyncMock(side_effect=SubmissionLimited("Slurm refused the request: AssocMaxSubmitJobLimit"))
    monkeypatch.setattr("airflow_brayns.operators.cluster.book", book)
    monkeypatch.setattr("airflow_brayns.task.allocating.AllocatingOperator.let_go", AsyncMock())
    return book


@pytest.mark.parametrize("kind", [AllocateNodesOperator, BraynsServiceOperator])
def test_at_a_limit_of_jobs_a_task_waits_without_a_slot_and_without_its_retries(
    kind: type[AllocateNodesOperator], context: dict[str, Any], limited: AsyncMock
) -> None:
    operator = kind(task_id="task", deferrable=True, **HERE)
    with pytest.raises(TaskDeferred) as first:
        operator.execute(context)
    assert 40 < first.value.trigger.moment.timestamp() - time.time() < 80
    with pytest.raises(TaskDeferred) as second:
        getattr(operator, first.value.method_name)(context, event="2026", **first.value.kwargs)
    assert second.value.kwargs == first.value.kwargs, "it was asked for once"
    assert limited.await_count == 2
    limited.side_effect = SubmissionRefused("invalid account")
    with pytest.raises(AirflowFailException, match="invalid account"):
        operator.ask_again(context, event="2026", **first.value.kwargs)


@pytest.mark.parametrize("seconds", [10**6, 600])
def test_at_a_limit_of_jobs_queue_timeout_and_execution_timeout_count(
    context: dict[str, Any], limited: AsyncMock, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow begins execution_timeout anew with each deferral (3.3.2)."""
    if seconds < 10**6:
        settings = ClusterSettings(scheduler="local")
        monkeypatch.setattr("airflow_brayns.task.operator.BraynsOperator.read_settings", lambda self: settings)
    operator = AllocateNodesOperator(
        task_id="task", deferrable=True, execution_timeout=timedelta(seconds=seconds), **HERE
    )
    since = datetime.now(UTC) - timedelta(seconds=590)
    with pytest.raises(AirflowException, match="AssocMaxSubmitJobLimit") as raised:
        operator.ask_again(context, event="2026", since=since.isoformat())
    assert not isinstance(raised.value, AirflowFailException)
