from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_brayns

PACKAGE = Path(airflow_brayns.__file__).parent


def test_import_takes_no_airflow() -> None:
    code = "import sys, airflow_brayns; assert not [name for name in sys.modules if name.split('.')[0] == 'airflow']"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", airflow_brayns.__all__)
def test_public_names_exist(name: str) -> None:
    assert getattr(airflow_brayns, name).__name__ == name


def imports(folder: str) -> set[tuple[str, str]]:
    found = set()
    for path in (PACKAGE / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            found |= {(path.name, name) for name in names}
    return found


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("cluster", ("airflow", "airflow_brayns.brayns", "airflow_brayns.movie")),
        ("brayns", ("airflow", "airflow_brayns.cluster", "airflow_brayns.movie")),
        ("movie", ("airflow", "airflow_brayns.cluster", "airflow_brayns.operators")),
        ("emulator", ("airflow", "airflow_brayns.cluster", "airflow_brayns.brayns")),
    ],
)  # fmt: skip
def test_imports_go_one_way(room: str, forbidden: tuple[str, ...]) -> None:
    wrong = [
        (file, name)
        for file, name in imports(room)
        if any(name == one or name.startswith(f"{one}.") for one in forbidden)
    ]
    assert not wrong


def test_the_example_is_the_scene_of_the_dags() -> None:
    from airflow_brayns.examples import NEURON

    assert Path(NEURON).read_bytes() == (PACKAGE.parent / "dags" / "scenes" / "neuron.swc").read_bytes()
