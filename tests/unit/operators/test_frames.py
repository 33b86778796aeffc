"""Movies of Python by operators on the local cluster."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_brayns import BraynsServiceOperator, RenderFramesOperator
from airflow_brayns.errors import ScriptFailed
from airflow_brayns.task.movie_fields import check_movie, find_movies
from tests.support.bounds import until
from tests.support.local import FAST, movie
from tests.support.movie import check_whole, records
from tests.support.script import FRAME, NEEDS_CLIENT, script

pytestmark = [pytest.mark.slow, NEEDS_CLIENT]


def test_a_whole_movie_of_python_in_one_task(context: Any, cluster: Any, data: Path, tmp_path: Path) -> None:
    file = script(tmp_path / "py", FRAME.replace("number):", "number, far):").replace("4 + number", "far + number"))
    made = movie(
        data, tmp_path / "out", specification=str(file), template_values={"far": 5}, keep_frames=True,
        frames_dir=str(tmp_path / "f"),
    ).execute({**context, "params": {"far": 4}})  # fmt: skip
    assert Path(made).stat().st_size > 1000
    check_whole(tmp_path / "f", 4)
    assert {one["way"] for one in records(tmp_path / "f")} == {"one-pass"}


def test_what_fails_in_a_task_is_not_tried_again_and_gives_back(
    context: Any, cluster: Any, data: Path, tmp_path: Path
) -> None:
    file = script(tmp_path, FRAME.replace("\n    return", "\n    if number == 3: {}[number]\n    return"))
    with pytest.raises(AirflowFailException, match=r"(?s)growth\.py, frame 3 on brayns\S* on slot\d+: KeyError: 3\n.*in frame: if number == 3") as error:  # fmt: skip
        movie(data, tmp_path, specification=str(file)).execute(context)
    assert isinstance(error.value.error, ScriptFailed)
    assert error.value.error.frame == 3
    until(lambda: not cluster.running(), 30)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def frame(service): ...\nframes = 3\n", r"(?s)growth\.py line 1: .*frame takes"),
        ("frames = 3\n", r"(?s)growth\.py: write `def frame.*has no function `frame`"),
        ("frames = 3\ndef frame(service, number:\n", r"(?s)growth\.py line 2: correct it.*is no Python"),
        ("import no_such_module_here\n", r"(?s)growth\.py line 1: .*imports no_such_module_here"),
        (
            "frames = 3\ndef frame(service, number): ...\ninputs = ['none.csv']\n",
            r"(?s)inputs: .*\S+/none\.csv does not exist",
        ),
    ],
)
def test_bad_python_asks_for_no_node(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path, text: str, told: str
) -> None:
    file = tmp_path / "growth.py"
    file.write_text(text)
    with pytest.raises(AirflowFailException, match=told):
        movie(data, tmp_path, specification=str(file)).execute(context)
    assert not state.exists()


def test_python_that_a_run_names_comes_from_the_bundle_only(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path
) -> None:
    """By a parameter, by plain values, and by another task."""
    file = script(tmp_path / "theirs")
    context["ti"].bundle_instance = SimpleNamespace(path=tmp_path / "dags")
    params = {"specification": str(file), "nodes": 1, "output": str(tmp_path / "m.mp4"), "cluster_conn_id": "here"}
    plain = {"frames": 3, "script": {"file": str(file)}}
    for value in (str(file), plain):
        with pytest.raises(AirflowFailException, match=r"is Python, which\s+would\s+run\s+as\s+the\s+worker"):
            check_movie({**params, "specification": value}, "run", context)
    templated = movie(data, tmp_path, specification="{{ params.specification }}")
    templated.specification = plain  # as rendered
    with pytest.raises(AirflowFailException, match=r"is Python, which\s+would\s+run\s+as\s+the\s+worker"):
        templated.execute(context)
    marked = movie(data, tmp_path, specification="[[ params.specification ]]")  # as a DAG's own marks may be
    marked.specification = str(file)
    with pytest.raises(AirflowFailException, match=r"is Python, which\s+would\s+run\s+as\s+the\s+worker"):
        marked.execute(context)
    mapped = movie(data, tmp_path, specification=str(file))
    context["ti"].map_index = 0
    with pytest.raises(AirflowFailException, match=r"is Python, which\s+would\s+run\s+as\s+the\s+worker"):
        mapped.execute(context)
    assert not state.exists()
    context["ti"].bundle_instance.path = tmp_path
    found = check_movie(params, "run", context)
    assert found["specification"]["script"]["file"] == str(file)
    assert found["specification"]["output"] == str(tmp_path / "m.mp4")


def test_python_that_has_changed_since_its_check_is_not_mixed_with_the_settings_of_then(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path
) -> None:
    file = script(tmp_path)
    context["ti"].bundle_instance = SimpleNamespace(path=tmp_path)
    params = {"specification": str(file), "nodes": 1, "output": str(tmp_path / "m.mp4"), "cluster_conn_id": "here"}
    checked = check_movie(params, "run", context)["specification"]
    check_movie({**params, "specification": checked}, "run", context)
    file.write_text(file.read_text().replace("4 + number", "5 + number"))
    told = r"(?s)clear the task that checked it.*growth\.py\s+has\s+changed\s+since\s+it\s+was\s+checked"
    with pytest.raises(AirflowFailException, match=told):
        movie(data, tmp_path, specification=checked).execute(context)
    assert not state.exists()


def test_a_batch_takes_python_and_leaves_its_modules(context: Any, cluster: Any, tmp_path: Path) -> None:
    script(tmp_path)
    (tmp_path / "cells.py").write_text("def load(service): ...\n")
    context["ti"].bundle_instance = SimpleNamespace(path=tmp_path)
    params = {"folder": str(tmp_path), "output": "out", "cluster_conn_id": "here"}
    found = find_movies(params, context)
    assert found == [{"specification": str(tmp_path / "growth.py"), "output_file": "out/growth.mp4"}]


def test_python_is_rendered_in_the_worker_and_its_frames_on_the_cluster(
    context: Any, cluster: Any, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = BraynsServiceOperator(task_id="task", cluster_conn_id="here", nodes=1, **FAST)
    service.execute(context)
    try:
        common = {
            "task_id": "task", "cluster_conn_id": "here", "allocation": context["ti"].xcom["allocation"],
            "specification": str(script(tmp_path)),
        }  # fmt: skip
        RenderFramesOperator(**common, frames_dir=str(tmp_path / "f"), frames_on="cluster", deferrable=True).execute(
            context
        )
        assert len(list((tmp_path / "f").glob("0*.png"))) == 4
        assert "Python never runs in the triggerer: this task renders here" in " ".join(capsys.readouterr().out.split())
        endpoints = RenderFramesOperator(
            **{**common, "allocation": None}, endpoints=context["ti"].xcom["endpoint"], frames_dir=str(tmp_path / "e")
        )
        endpoints.execute(context)
        check_whole(tmp_path / "e", 4)
        assert {one["way"] for one in records(tmp_path / "e")} == {"snapshot"}
    finally:
        service.give_back_now(context)


def test_a_function_that_dies_by_python_313_says_so(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "brayns", None)
    with pytest.raises(AirflowException, match=r"(?s)Install the extra `client`.*on\s+Python 3\.11 or 3\.12"):
        movie(data, tmp_path, specification=str(script(tmp_path))).execute(context)
    assert not state.exists()
