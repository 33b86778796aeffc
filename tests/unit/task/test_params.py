"""Parameters of DAGs: what a form asks, and that nothing else is taken for one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from jinja2.nativetypes import NativeEnvironment

from airflow_brayns.services.settings import FIELDS
from airflow_brayns.task.params import PLUGINS_OF_PARAMS, cluster_params, from_params, known_params_only, plugin_params


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_left_empty_is_the_connections(name: str) -> None:
    [param] = cluster_params(name, section="Cluster").values()
    assert param.value is None
    assert param.resolve() is None
    assert param.schema["title"] == FIELDS[name].title
    assert param.schema["section"] == "Cluster"
    assert from_params(name) == {name: f"{{{{ params.{name} }}}}"}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"plugins": ["a"], "more_plugins": None}, ["a"]),
        ({"plugins": None, "more_plugins": "b"}, ["b"]),
        ({"plugins": None, "more_plugins": None}, []),
        ({"plugins": ["a", "b"], "more_plugins": " c,d  e "}, ["a", "b", "c", "d", "e"]),
        ({"plugins": ["a"], "more_plugins": ""}, ["a"]),
    ],
)
def test_chosen_and_typed_plugins_are_put_together(given: dict[str, object], found: list[str]) -> None:
    assert NativeEnvironment().from_string(PLUGINS_OF_PARAMS).render(params=given) == found


def test_the_list_to_choose_from_has_what_the_old_page_loaded() -> None:
    assert "braynsCircuitInfo" in plugin_params()["plugins"].schema["examples"]


def test_a_dag_without_parameters_takes_none() -> None:
    context = {"dag": DAG("bare", schedule=None), "dag_run": SimpleNamespace(conf={"x": 1})}
    with pytest.raises(AirflowFailException, match="(?s)x: leave it out.*It is no parameter of this DAG"):
        known_params_only(context)
