"""Whoever looks for a module's tests finds them by its name: `tests/unit/` mirrors the package."""

from __future__ import annotations

import re
from pathlib import Path

import airflow_brayns

PACKAGE, UNIT = Path(airflow_brayns.__file__).parent, Path(__file__).parent
# Modules without a file of tests of their own, each with the reason.
ELSEWHERE = {
    "brayns/websocket.py": "every conversation of `test_client.py` goes through it",
    "brayns/words.py": "what braynsService says is read where it matters: `test_readiness.py`, `test_scene.py`",
    "cli/definition.py": "a table of commands, which `test_commands.py` runs",
    "links/keys.py": "names",
    "cli/order.py": "`movie check` of a Python file, in `test_movie.py`",
    "movie/ffmpeg.py": "what a movie is made with and read by: `test_encode.py`",
    "movie/interfaces.py": "protocols and values",
    "movie/loaders.py": "a specification's properties are refused by it: `test_specification.py`",
    "movie/model.py": "a part of the specification: `test_specification.py`",
    "movie/renderer.py": "a part of the specification: `test_specification.py`",
    "operators/cluster.py": "a task is run by `test_service.py`, `test_release.py` and `task/test_handover.py`",
    "operators/encode.py": "a movie's tasks are run by `test_movie.py`, `test_changed_movies.py` and `system/test_movies.py`",
    "provider.py": "Airflow's list of what there is: `test_package.py`",
    "sensors/service.py": "`task/test_handover.py` and `system/test_slurm.py` wait by it",
    "page/access.py": "who is told what, `test_app.py` asks Airflow's own app as every role",
    "page/stored.py": "it reads Airflow's database, as `test_app.py` does through the routes",
    "version.py": "a number",
}
# The emulator is tested as a service is, by what it answers: files by subject, not by module.
BY_SUBJECT = ("emulator/", "examples/")


def modules() -> list[str]:
    found = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    return [name for path in found if not (name := path.relative_to(PACKAGE).as_posix()).startswith(BY_SUBJECT)]


def test_of(module: str) -> Path:
    return UNIT / Path(module).with_name(f"test_{Path(module).name}")


test_of.__test__ = False  # type: ignore[attr-defined]


def test_every_module_has_tests_of_its_name_or_a_reason() -> None:
    missing = [module for module in modules() if not test_of(module).exists() and module not in ELSEWHERE]
    assert not missing, f"write {', '.join(str(test_of(one).relative_to(UNIT)) for one in missing)}"


def test_no_reason_outlives_its_module_or_what_it_excuses() -> None:
    assert [module for module in ELSEWHERE if module not in modules() or test_of(module).exists()] == []


def test_each_reason_names_tests_that_are_there() -> None:
    named = {test for reason in ELSEWHERE.values() for test in re.findall(r"`((?:\w+/)?test_\w+\.py)`", reason)}
    there = {path.relative_to(UNIT.parent).as_posix() for path in UNIT.parent.rglob("test_*.py")}
    assert [test for test in named if not any(f"/{one}".endswith(f"/{test}") for one in there)] == []
