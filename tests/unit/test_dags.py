"""The DAGs people start from: they load, their forms have help, their services are given back."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException, ParamValidationError

from tests.released import code

DAGS = Path(__file__).parents[2] / "dags"
NAMES = ["brayns_movie", "brayns_movie_batch", "brayns_nightly_snapshot", "brayns_reaper", "brayns_session"]
WITH_SERVICE = [name for name in NAMES if name not in ("brayns_movie_batch", "brayns_reaper")]


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(str(DAGS), bundle_name="tests")


def test_they_load(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == NAMES


def test_those_of_the_former_version_load() -> None:
    """People have copied and changed them. What they import inside their tasks is there, too."""
    bag = DagBag(str(code("0.2.0") / "dags"), bundle_name="tests")
    assert bag.import_errors == {}
    assert sorted(bag.dags) == NAMES
    from airflow_brayns.movie.store import remove_frames

    from airflow_brayns.links.texts import connect_lines
    from airflow_brayns.task.movie_fields import check_movie, find_movies

    assert all(map(callable, (connect_lines, remove_frames, check_movie, find_movies)))


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_the_form_has_help(bag: DagBag, name: str) -> None:
    for key in bag.dags[name].params:
        found = bag.dags[name].params.get_param(key)
        assert found.description or found.schema.get("description_md"), key


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_the_form_has_a_title_and_what_a_person_needs_first_is_open(bag: DagBag, name: str) -> None:
    """Airflow's page shows the fields without a section first, and open; a section is folded (3.3.2)."""
    params = bag.dags[name].params
    assert all(params.get_param(key).schema.get("title") for key in params)
    if name == "brayns_reaper":
        return
    first = ["account", "partition", "plugins", "more_plugins"]
    assert list(params)[:4] == first
    assert not [key for key in first if "section" in params.get_param(key).schema]
    assert {"cluster_conn_id", "time_limit", "constraint", "exclusive", "cpus_per_task", "memory"} <= set(params)


@pytest.mark.parametrize("name", NAMES)
def test_the_form_as_it_opens_is_valid(bag: DagBag, name: str) -> None:
    params = copy.deepcopy(bag.dags[name].params)
    params.validate()
    for key in ("plugins", "more_plugins", "exclusive", "time_limit") if name != "brayns_reaper" else ():
        params.update({key: None})  # as a field that was emptied
    params.validate()


@pytest.mark.parametrize("budget", [0, -1, "much", True, 1e12])
def test_a_budget_that_is_none_is_refused_in_the_form(bag: DagBag, budget: Any) -> None:
    def fill(value: Any) -> None:
        params = copy.deepcopy(bag.dags["brayns_movie"].params)
        params.update({"budget": value})
        params.validate()

    fill(0.5)
    with pytest.raises(ParamValidationError):
        fill(budget)


ASKED = {
    "account": "proj3", "partition": "prod", "plugins": ["braynsDTI"], "more_plugins": "braynsCircuitInfo, mine",
    "constraint": "cpu", "exclusive": True, "cpus_per_task": 8, "memory": "4G", "time_limit": "2:00:00",
}  # fmt: skip
ALLOCATING = {
    "brayns_movie": "brayns",
    "brayns_nightly_snapshot": "brayns",
    "brayns_session": "brayns",
    "brayns_movie_batch": "movie",
}


@pytest.mark.parametrize("name", ALLOCATING)
def test_what_is_asked_for_in_the_form_reaches_the_cluster(
    bag: DagBag, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SLURM", '{"conn_type": "brayns_cluster"}')
    task: Any = copy.copy(bag.dags[name].get_task(ALLOCATING[name]))
    if name == "brayns_movie_batch":
        task = task.unmap({"specification": "x", "output_file": "x.mp4"})
    params = {**bag.dags[name].params.dump(), **ASKED, "cluster_conn_id": "slurm"}
    params |= {"nodes": 2} if "nodes" in params else {}
    task.render_template_fields({"params": params})
    [asked] = task.bookings()
    words = asked.jobs()[0][0].sbatch_arguments()
    assert {
        "--account=proj3",
        "--partition=prod",
        "--constraint=cpu",
        "--exclusive",
        "--cpus-per-task=8",
        "--mem=4G",
    } <= set(words)
    assert "--time=02:00:00" in words or "--time=2:00:00" in words or "--time=0-02:00:00" in words, words
    assert list(asked.plugins or []) == ["braynsDTI", "braynsCircuitInfo", "mine"]
    assert asked.nodes == (2 if "nodes" in params else 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_key_of_a_runs_configuration_is_refused(bag: DagBag, name: str) -> None:
    dag = bag.dags[name]
    [first] = [task for task in dag.tasks if not task.upstream_task_ids]
    refuse: Any = first._pre_execute_hook
    refuse({"dag": dag, "dag_run": SimpleNamespace(conf={"cluster_conn_id": "x"})})
    refuse({"dag": dag, "dag_run": SimpleNamespace(conf=None)})
    with pytest.raises(AirflowFailException, match="Did you mean cluster_conn_id") as refused:
        refuse({"dag": dag, "dag_run": SimpleNamespace(conf={"cluster_con_id": "x"})})
    assert str(refused.value).startswith("cluster_con_id: Did you mean cluster_conn_id?")


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
    task = copy.copy(bag.dags["brayns_nightly_snapshot"].get_task("snapshot"))
    params = {"cluster_conn_id": typed, "scene": typed, "output": typed, "width": 64, "height": 64}
    context: Any = {"params": params, "ds": "2026-03-04", "ti": SimpleNamespace(xcom_pull=lambda **asked: None)}
    task.render_template_fields(context)
    assert task.cluster_conn_id == typed
    assert task.specification["models"] == [{"path": typed}]
    assert task.frames_dir == f"{typed}/2026-03-04"


NIGHT = datetime(2026, 1, 1, 23, 30, tzinfo=UTC)  # half past midnight in Zurich


@pytest.mark.parametrize("times", [{"logical_date": NIGHT}, {}])
def test_a_nights_picture_has_the_date_of_the_schedules_zone(bag: DagBag, times: dict[str, datetime]) -> None:
    """A run that somebody triggers may have no logical date."""
    task = copy.copy(bag.dags["brayns_nightly_snapshot"].get_task("snapshot"))
    params = bag.dags["brayns_nightly_snapshot"].params.dump()
    context: Any = {"params": params, "dag_run": SimpleNamespace(run_after=NIGHT), "ds": "2026-01-01", **times}
    task.render_template_fields({**context, "ti": SimpleNamespace(xcom_pull=lambda **asked: None)})
    assert task.frames_dir == "out/nightly/2026-01-02"


def test_the_event_of_a_nights_picture_tells_which(bag: DagBag, tmp_path: Path) -> None:
    event = SimpleNamespace(extra={})
    publish: Any = bag.dags["brayns_nightly_snapshot"].get_task("publish")
    [asset] = publish.outlets
    folder = tmp_path / "2026-01-02"
    folder.mkdir()
    (folder / "00000.png").write_bytes(b"picture")
    path = publish.python_callable(str(folder), outlet_events=Events({asset.uri: event}))
    assert Path(path).read_bytes() == b"picture"
    assert event.extra == {"path": str(tmp_path / "2026-01-02.png"), "date": "2026-01-02"}


class Events:
    """As Airflow hands them to a task."""

    def __init__(self, by_uri: dict[str, SimpleNamespace]) -> None:
        self._by_uri = by_uri

    def __getitem__(self, asset: Any) -> SimpleNamespace:
        return self._by_uri[asset.uri]


def test_to_clear_the_extension_of_a_session_clears_nothing_else(bag: DagBag) -> None:
    """Of a task between setup and teardown Airflow clears both too: the session would be asked for anew."""
    dag = bag.dags["brayns_session"]
    extend = dag.get_task("extend")
    assert extend.upstream_task_ids == {"brayns"} and extend.downstream_task_ids == set()
    assert not list(extend.get_upstreams_only_setups_and_teardowns())
    params = {**dag.params.dump(), **ASKED}
    kept, booked = copy.copy(extend), copy.copy(dag.get_task("brayns"))
    for one in (kept, booked):
        one.render_template_fields({"params": params, "ti": SimpleNamespace(xcom_pull=lambda **asked: None)})  # type: ignore[arg-type]
    of_both = {name for name in kept.overrides if name != "allocation"}
    assert {name: getattr(kept, name) for name in of_both} == {name: getattr(booked, name) for name in of_both}
    assert {"account", "partition", "time_limit", "idle_limit", "memory"} <= of_both
