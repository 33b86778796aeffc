from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import airflow
import jsonschema
import pytest

import airflow_brayns
from airflow_brayns.provider import get_provider_info

PACKAGE = Path(airflow_brayns.__file__).parent
DATA = Path(__file__).parents[1] / "data"


def test_import_takes_no_airflow() -> None:
    code = "import sys, airflow_brayns; assert not [name for name in sys.modules if name.split('.')[0] == 'airflow']"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", airflow_brayns.__all__)
def test_public_names_exist(name: str) -> None:
    assert getattr(airflow_brayns, name).__name__ == name


@pytest.mark.parametrize("path", (DATA / "public-0.2.0.txt").read_text().split())
def test_what_a_dag_of_0_2_0_may_name_is_still_there(path: str) -> None:
    module, _, name = path.partition(":")
    found = getattr(import_module(module), name)
    assert getattr(found, "__name__", name) == name


def test_a_class_is_one_under_its_former_name_too() -> None:
    from airflow_brayns.task.operator import BraynsOperator

    assert import_module("airflow_brayns.operators.base").BraynsOperator is BraynsOperator


def test_the_example_is_the_scene_of_the_dags() -> None:
    from airflow_brayns.examples import NEURON

    assert Path(NEURON).read_bytes() == (PACKAGE.parent / "dags" / "scenes" / "neuron.swc").read_bytes()


def test_the_provider_tells_all_that_it_has() -> None:
    """`airflow providers` lists what these modules hold."""
    info = get_provider_info()
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(info, schema)
    names = {one["integration-name"] for one in info["integrations"]}
    found = set()
    for kind in ("operators", "sensors", "hooks", "triggers"):
        for one in info[kind]:
            assert one["integration-name"] in names
            for module in one["python-modules"]:
                found |= set(vars(import_module(module)))
    assert set(airflow_brayns.__all__) <= found
    for link in info["extra-links"]:
        module, _, name = link.rpartition(".")
        assert getattr(import_module(module), name).name


def test_the_wheel_says_where_to_read_more() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert project["urls"]
