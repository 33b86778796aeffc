from __future__ import annotations

import json

import pytest

from airflow_brayns.cluster.owner import About, RunOf, comment
from airflow_brayns.services.settings import is_name

ABOUT = About("airflow", RunOf("dag", "run", "task"), "host-1")


def test_a_name_is_the_same_for_every_try_and_for_nothing_else() -> None:
    assert is_name(ABOUT.name)
    assert About("airflow", RunOf("dag", "run", "task"), "moved").name == ABOUT.name == "ab-d44007bb5c44"
    others = {
        About("other", RunOf("dag", "run", "task")).name,
        About("airflow", RunOf("dag", "run", "task"), map_index=0).name,
        About("airflow", RunOf("dagr", "un", "task")).name,
    }
    assert ABOUT.name not in others
    assert len(others) == 3


def test_what_an_allocation_is_for_is_written_as_ever() -> None:
    """0.2.0 and every later version find what the other one has submitted by these bytes."""
    assert str(ABOUT) == (
        '{"installation": "airflow", "dag_id": "dag", "run_id": "run", "task_id": "task", "deployment": "host-1", "map_index": -1}'
    )
    assert ABOUT.movie == "dag/run/task/-1"


def test_what_was_written_is_read() -> None:
    assert About.read(str(ABOUT)) == ABOUT


def test_of_0_2_0_no_deployment_is_known() -> None:
    told = json.dumps({"installation": "airflow", "dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1})
    assert About.read(told) == About("airflow", RunOf("d", "r", "t"))


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '{"dag_id": 3}', "[" * 100_000])
def test_of_what_is_not_of_that_form_nothing_is_known(text: str) -> None:
    assert About.read(text).run is None
    assert About.read(text).installation == ""


def test_a_comment_tells_an_admin_whose_it_is_and_of_what() -> None:
    assert comment("ab-1", str(ABOUT)) == "airflow-brayns:airflow:dag/run/task#host-1"
    assert comment("ab-1", "a test") == "airflow-brayns::a_test"
    assert comment("ab-1", "") == "airflow-brayns::ab-1"
