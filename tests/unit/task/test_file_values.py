"""Who may trigger a DAG may name a file: its text gets plain values, and nothing else can be had by it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns import RenderFramesOperator
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.task.file_values import file_values, render_file
from airflow_brayns.task.movie_fields import check_movie, read_specification
from tests.support.task import Ti

pytestmark = pytest.mark.slow

SECRET = "hunter2"


class Reaches:
    """Stands for what Airflow puts into a task's context: whatever is asked of it, it gives a secret."""

    def __getattr__(self, name: str) -> Any:
        return SECRET if name == "password" else Reaches()

    def __getitem__(self, name: Any) -> Any:
        return Reaches()

    def __call__(self, *words: Any, **named: Any) -> Any:
        return SECRET

    def __str__(self) -> str:
        return SECRET


def context(**params: Any) -> dict[str, Any]:
    open_ = {
        name: Reaches() for name in ("conn", "var", "macros", "dag", "task", "inlet_events", "outlets", "task_instance")
    }
    day = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    run = SimpleNamespace(run_id="r", conf={"typed": "in"}, run_after=day, run_type="manual", secret=SECRET)
    return {**open_, "ti": Ti(), "params": params, "ds": "2026-03-04", "ts": day.isoformat(), "run_id": "r", "logical_date": day,
            "dag_run": run}  # fmt: skip


def rendered(text: str, more: dict[str, Any] | None = None, **params: Any) -> str:
    return render_file(text, file_values(context(**params), more), "movie.yaml")


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("{{ params.name }}-{{ ds }}-{{ run_id }}", "cell-2026-03-04-r"),
        ("{{ dag_run.conf.typed }} {{ dag_run.run_after | ds_nodash }}", "in 20260304"),
        ("{{ logical_date | ts_nodash }} {{ logical_date.year }}", "20260304T050607 2026"),
        ("{{ ds if ds is defined else dag_run.run_after | ds }}", "2026-03-04"),
        ("{{ params.none | default('x') }}", "x"),
        ("{% for n in range(3) %}{{ n }}{% endfor %}\n", "012\n"),
        ("{{ task_id }} {{ map_index }} {{ try_number }}", "task -1 1"),
        ("{{ params.wild }}", "{{ conn.x.password }}"),
        ("{{ params.unicode }}", "Zürich €"),
    ],
)
def test_a_file_uses_plain_values(text: str, becomes: str) -> None:
    assert rendered(text, name="cell", wild="{{ conn.x.password }}", unicode="Zürich €") == becomes


@pytest.mark.parametrize(
    "text",
    [
        "{{ conn.finance_db.password }}",
        "{{ conn.get('finance_db') }}",
        "{{ var.value.key }}",
        "{{ var.json.key.inner }}",
        "{{ macros.os.environ }}",
        "{{ ti.xcom_pull(task_ids='x') }}",
        "{{ task_instance.xcom_pull('x') }}",
        "{{ task.dag.default_args }}",
        "{{ dag.task_dict }}",
        "{{ dag_run.secret }}",
        "{{ dag_run.get_task_instances() }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ params.__class__ }}",
        "{{ params['__class__'] }}",
        "{{ params | attr('__class__') }}",
        "{{ [params] | map(attribute='__class__') | first }}",
        "{{ '{0.__class__}'.format(params) }}",
        "{{ logical_date.__reduce__() }}",
        "{{ range.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.environ }}",
        "{{ lipsum.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context.environment }}",
        "{{ params.update({'a': 1}) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.environ }}",
        "{{ undefined_name }}",
        "{{ params.absent }}",
        "{{ unfinished",
    ],
)  # fmt: skip
def test_a_file_reaches_nothing_else_and_is_told_what_it_may_use(text: str) -> None:
    with pytest.raises(
        InvalidSetting, match=r"(?s)movie.yaml line 2: use params, ds, .*dag_run.*`template_values`"
    ) as told:
        rendered(f"# a comment\n{text}", name="cell")
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(90000) %}{% for b in range(90000) %}{% for c in range(90000) %}{% endfor %}{% endfor %}{% endfor %}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ 'a' * 10 ** 11 }}",
        "{{ range(10 ** 9) | list }}",
        "{% set ns = namespace(t='aaaaaaaa') %}{% for a in range(99) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}",
        "{{ 'x' | center(10 ** 11) }}",
        "{{ '%099999999999d' % 1 }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)  # fmt: skip
def test_a_file_that_never_ends_or_grows_for_ever_is_refused(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidSetting, match=r"movie.yaml"):
        rendered(text)
    assert time.monotonic() - began < 50


def test_the_process_that_renders_has_no_environment_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the sandbox have a hole, there is nothing behind it."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", SECRET)
    seen: dict[str, Any] = {}
    import subprocess

    real = subprocess.run

    def run(*words: Any, **named: Any) -> Any:
        seen.update(named["env"])
        return real(*words, **named)

    monkeypatch.setattr(subprocess, "run", run)
    assert rendered("{{ 1 + 1 }}") == "2"
    assert set(seen) == {"PYTHONPATH", "PYTHONUTF8"}


def test_an_author_gives_more_on_purpose() -> None:
    assert rendered("{{ lab }}/{{ sides[1] }}", {"lab": "bbp", "sides": [1, 2]}) == "bbp/2"
    with pytest.raises(InvalidSetting, match=r"use .*try_number, lab;"):
        rendered("{{ conn }}", {"lab": "bbp"})
    with pytest.raises(InvalidSetting, match="(?s)template_values: .*plain values only, not Reaches"):
        rendered("{{ lab }}", {"lab": Reaches()})


def test_every_way_to_a_file_renders_it_so(data: Path, tmp_path: Path, cluster: Any) -> None:
    file = tmp_path / "movie.yaml"
    file.write_text(
        f"models: [{{path: {data}/cube.obj}}]\nframes: 2\noutput: '{{{{ conn.finance_db.password }}}}.mp4'\n"
    )
    around = {**context(), "conn": Reaches()}
    common = {"cluster_conn_id": "here", "nodes": 1, "plugins": [], "specification": str(file)}
    with pytest.raises(AirflowFailException, match=r"(?s)movie.yaml line 3: use .*'conn' is undefined"):
        check_movie(common, "run", around)  # type: ignore[arg-type]
    operator = RenderFramesOperator(
        task_id="render",
        cluster_conn_id="here",
        specification=str(file),
        frames_dir=str(tmp_path / "f"),
        endpoints=["h:1"],
    )
    with pytest.raises(AirflowFailException, match=r"(?s)movie.yaml line 3: use .*'conn' is undefined"):
        operator.execute(around)
    operator.template_values = {"conn": {"finance_db": {"password": "not_one"}}}
    assert read_specification(operator, str(file), around).output == "not_one.mp4"
    operator.template_values = "no dict"  # type: ignore[assignment]
    with pytest.raises(InvalidSetting, match="template_values: must be a dict"):
        read_specification(operator, str(file), around)


def test_the_main_dag_gives_a_file_the_parameters(data: Path, tmp_path: Path, cluster: Any) -> None:
    """Airflow hands `params` and `run_id` to the function, and so not in the rest of the context."""
    file = tmp_path / "movie.json"
    file.write_text(
        json.dumps(
            {"models": [{"path": f"{data}/cube.obj"}], "frames": 2, "output": "{{ params.nodes }}-{{ run_id }}.mp4"}
        )
    )
    common = {"cluster_conn_id": "here", "nodes": 1, "plugins": [], "specification": str(file)}
    rest = {name: value for name, value in context().items() if name not in ("params", "run_id")}
    found = check_movie(common, "monday", rest)  # type: ignore[arg-type]
    assert Path(found["movie"]).name == "1-monday.mp4"
