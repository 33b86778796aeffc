"""The connection's fields as named arguments of every operator."""

from __future__ import annotations

import inspect
import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import airflow
import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from airflow.sdk.exceptions import AirflowException

import airflow_brayns
from airflow_brayns.services.settings import FIELDS, ClusterSettings
from airflow_brayns.task.operator import BraynsOperator

OPERATORS = [getattr(airflow_brayns, name) for name in airflow_brayns.__all__ if name.endswith(("Operator", "Sensor"))]
VALUES: dict[str, Any] = {name: f"{{{{ params.{name} }}}}" for name in FIELDS} | {"idle_limit": timedelta(minutes=3)}
# What some operators need.
OTHERS = dict.fromkeys(("specification", "frames_dir", "output_file", "allocation", "started", "minutes"), "x")


def test_every_field_is_a_named_argument_of_its_own() -> None:
    """Airflow gives `default_args` to named arguments only, and an editor shows no others."""
    parameters = inspect.signature(BraynsOperator.__init__).parameters
    assert [name for name in parameters if name not in ("self", "cluster_conn_id", "kwargs")] == list(FIELDS)
    assert all(parameters[name].default is None for name in FIELDS)
    assert all(f":param {name}: " in (BraynsOperator.__doc__ or "") for name in FIELDS)


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_keeps_what_it_was_given(operator: Any) -> None:
    with DAG("dag", schedule=None, default_args=VALUES | OTHERS):
        task = operator(task_id="task")
    assert {name: getattr(task, name) for name in FIELDS} == VALUES == task.overrides
    assert task.plain_overrides["idle_limit"] == 180


@pytest.mark.parametrize(("given", "seconds"), [(90.0, 5400), (90, 5400), (timedelta(hours=1), 3600)])
def test_a_bare_number_of_time_limit_is_minutes_in_worker_and_trigger(given: Any, seconds: int) -> None:
    """A float was taken for seconds, which is how a Duration travels to the trigger."""
    task = BraynsOperator(task_id="task", time_limit=given)
    for overrides in (task.overrides, json.loads(json.dumps(task.plain_overrides))):
        assert ClusterSettings.read({}, overrides).request(1).seconds == seconds
    with pytest.raises(AirflowException, match="^time_limit: write minutes"):
        BraynsOperator(task_id="task", time_limit=2.7).read_settings()


def test_a_field_may_come_from_a_task_before() -> None:
    """Airflow makes the dependency where the attribute is set."""
    with DAG("dag", schedule=None):
        before = BraynsOperator(task_id="before")
        task = BraynsOperator(task_id="task", account=before.output)
    assert task.upstream_task_ids == {"before"}


TYPED = {"specification": "/movies/{{ conn.db.password }}.yaml", "output_file": "{{ conn.db.password }}.mp4"}


@pytest.mark.parametrize("form", ["list", "in a list", "by field"])
def test_what_a_task_tells_a_mapped_one_is_no_template(form: str) -> None:
    """Whoever triggers `brayns_movie_batch` types its output and names the folder, and Airflow renders what `expand_kwargs` gets."""
    with DAG("dag", schedule=None) as dag:
        find = BraynsOperator(task_id="find")
        partial = airflow_brayns.BraynsMovieOperator.partial(
            task_id="movie", plugins="{{ [1] }}", partition="{{ conn.db.password }}"
        )
        if form == "list":
            mapped = partial.expand_kwargs(find.output)
        elif form == "in a list":
            mapped = partial.expand_kwargs([find.output])
        else:
            mapped = partial.expand(specification=find.output)
    told = {"list": [TYPED], "in a list": TYPED, "by field": [TYPED["specification"]]}[form]
    task = rendered(mapped, dag, told)
    assert task.specification == TYPED["specification"]
    assert form == "by field" or task.output_file == TYPED["output_file"]
    assert (str(task.plugins), task.partition) == ("[1]", "secret"), "what the author wrote is"


def test_what_the_author_expands_is_a_template() -> None:
    with DAG("dag", schedule=None) as dag:
        mapped = airflow_brayns.BraynsMovieOperator.partial(task_id="movie").expand_kwargs([TYPED])
    assert rendered(mapped, dag, None).output_file == "secret.mp4"


def rendered(mapped: Any, dag: Any, told: Any) -> Any:
    """The first instance of a mapped task with its fields rendered, where the task before it has told something."""
    ti = SimpleNamespace(
        map_index=0, task=mapped, run_id="run", dag_id="dag", task_id="movie", _upstream_map_indexes={"find": 1}
    )
    conn = SimpleNamespace(db=SimpleNamespace(password="secret"))
    context: Any = {"ti": ti, "task": mapped, "task_instance": ti, "params": {}, "dag": dag, "run_id": "run", "expanded_ti_count": 1,
                    "dag_run": SimpleNamespace(conf={}), "conn": conn}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainXComArg, "resolve", lambda *_, **__: told)
        mapped.render_template_fields(context)
    return context["task"]


def test_airflow_can_serialise_them() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("dag", schedule=None, default_args=VALUES) as dag:
        BraynsOperator(task_id="task")
    [task] = DagSerialization.to_dict(dag)["dag"]["tasks"]
    assert task["__var"]["account"] == VALUES["account"], airflow.__version__
