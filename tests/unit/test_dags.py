"""The DAGs people start from: they load, their forms have help, their services are given back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

DAGS = Path(__file__).parents[2] / "dags"
NAMES = ["brayns_movie", "brayns_movie_batch", "brayns_nightly_snapshot", "brayns_reaper", "brayns_session"]
WITH_SERVICE = [name for name in NAMES if name not in ("brayns_movie_batch", "brayns_reaper")]


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(str(DAGS), bundle_name="tests")


def test_they_load(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_the_form_has_help(bag: DagBag, name: str) -> None:
    for key in bag.dags[name].params:
        found = bag.dags[name].params.get_param(key)
        assert found.description or found.schema.get("description_md"), key


@pytest.mark.parametrize("name", WITH_SERVICE)
def test_the_release_runs_whatever_happened_and_shows_its_own_failure(bag: DagBag, name: str) -> None:
    release = bag.dags[name].get_task("brayns_release")
    assert release.is_teardown
    assert release.on_failure_fail_dagrun
    assert "brayns" in release.upstream_task_ids
    assert release.retries >= 3


def test_tasks_of_a_block_wait_for_the_service_and_keep_the_nodes() -> None:
    """Airflow wires the first and last tasks of a block only; those in its middle, with neighbours outside, too."""
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG

    from airflow_brayns import brayns_service

    with DAG("wired", schedule=None) as dag:
        before, after = EmptyOperator(task_id="before"), EmptyOperator(task_id="after")
        with brayns_service(queue="hpc") as service:
            first, second = EmptyOperator(task_id="first"), EmptyOperator(task_id="second")
            with brayns_service(task_id="inner"):
                EmptyOperator(task_id="inside")
            late = EmptyOperator(task_id="late")
        before >> first >> after
    release = dag.get_task("brayns_release")
    assert release.queue == "hpc"
    for task in (first, second, late, dag.get_task("inside"), dag.get_task("inner"), dag.get_task("inner_release")):
        assert service.task_id in task.upstream_task_ids, task
        assert release.task_id in task.downstream_task_ids, task


def test_a_failed_task_inside_fails_the_run() -> None:
    """Its teardown would be the run's only leaf, and succeeds: the run would show green."""
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG

    from airflow_brayns import brayns_service

    with DAG("leaves", schedule=None) as dag, brayns_service():
        inside = EmptyOperator(task_id="inside")
        with brayns_service(task_id="inner"):
            EmptyOperator(task_id="deep")
        EmptyOperator(task_id="handed_on") >> EmptyOperator(task_id="last")
    done = dag.get_task("brayns_done")
    assert done.upstream_task_ids == {"inside", "inner_done", "last"}
    assert "deep" in dag.get_task("inner_done").upstream_task_ids
    assert (done.trigger_rule, done.is_teardown, done.downstream_task_ids) == ("none_failed", False, set())
    assert inside.downstream_task_ids == {"brayns_release", "brayns_done"}


@pytest.mark.parametrize("name", WITH_SERVICE)
def test_every_dag_has_a_leaf_that_fails_with_its_work(bag: DagBag, name: str) -> None:
    leaves = [task for task in bag.dags[name].tasks if not task.downstream_task_ids and not task.is_teardown]
    assert leaves


def test_a_parameter_is_not_rendered_a_second_time(bag: DagBag) -> None:
    """Who types a template into a form gets it back as it is."""
    typed = "{{ conn.finance_db.password }}"
    task = bag.dags["brayns_nightly_snapshot"].get_task("snapshot")
    params = {"cluster_conn_id": typed, "scene": typed, "output": typed, "width": 64, "height": 64}
    context: Any = {"params": params, "ds": "2026-03-04", "ti": SimpleNamespace(xcom_pull=lambda **asked: None)}
    task.render_template_fields(context)
    assert task.cluster_conn_id == typed
    assert task.specification["models"] == [{"path": typed}]
    assert task.frames_dir == f"{typed}/2026-03-04"
