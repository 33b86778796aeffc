"""The house: which room may import which. What is imported where is read from the code, nothing is run."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import airflow_brayns

PACKAGE = Path(airflow_brayns.__file__).parent
OURS = PACKAGE.name
# From the ground up: a room imports only from those of the lines before its own, and from itself.
PLAN = (
    ("errors", "version", "links", "examples"),
    ("brayns", "cluster"),
    ("movie", "services"),
    ("rendering", "hooks"),
    ("task",),
    ("triggers", "decorators"),
    ("operators", "sensors"),
    ("cli", "page", "provider", "__init__"),
)
FLOOR = {room: floor for floor, rooms in enumerate(PLAN) for room in rooms}
# Those that may import Airflow; of `links`, those that show them.
AIRFLOW = {"task", "hooks", "operators", "sensors", "triggers", "decorators", "cli", "links", "page"}
# What lies on a lower line, and is none of a room's business all the same.
STRANGERS = {("movie", "cluster"), ("movie", "services")}
_BY_NAME = re.compile(r"\b(import_module|__import__)\b")
LOOSE = {"__init__", "provider", "version"}


def module_of(path: Path) -> str:
    """The dotted name under the package: `cluster.shell`; of a folder's `__init__.py` the folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and parts[:-1] else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imported(source: str, path: Path) -> set[str]:
    """All that a file imports, absolute: also inside functions, and for type checkers alone; what it means, it must know.

    Of `from package import name` both `package` and `package.name`: only who looks knows whether the name is a module.
    """
    found = set()
    package = [OURS, *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and _BY_NAME.search(ast.unparse(node)):
            found |= {one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found


def resolved(names: set[str]) -> set[str]:
    """Modules of ours, and `airflow` for whatever is Airflow's."""
    result = {"airflow"} if any(room_of(name) == "airflow" for name in names) else set()
    inside = {name.removeprefix(f"{OURS}.") for name in names if name.startswith(f"{OURS}.")}
    modules = {name for name in inside if name in MODULES}
    attributes = {name.rpartition(".")[0] for name in inside - modules}
    # `from package import name`, where the name is none of its modules: what is meant is the package's own `__init__`.
    if OURS in names and any(name in airflow_brayns.__all__ for name in inside - modules):
        modules.add("__init__")
    return result | modules | (attributes & MODULES.keys())


@cache
def imports() -> dict[str, set[str]]:
    return {name: resolved(imported(path.read_text(), path)) - {name} for name, path in MODULES.items()}


def wrong(module: str, other: str) -> bool:
    """Whether an import runs up the plan, or to a stranger."""
    here, there = room_of(module), room_of(other)
    if other == "airflow":
        return here not in AIRFLOW
    if here == there:
        return False
    return "emulator" in (here, there) or FLOOR[there] >= FLOOR[here] or (here, there) in STRANGERS


def test_every_module_is_in_a_room() -> None:
    assert {name for name in MODULES if "." not in name and MODULES[name].name != "__init__.py"} | {"__init__"} == LOOSE
    assert {room_of(name) for name in MODULES} == {*FLOOR, "emulator"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_down_the_plan(module: str) -> None:
    assert not {f"{module} imports {other}" for other in imports()[module] if wrong(module, other)}


def floors_of(above: dict[str, set[str]]) -> int:
    """How many floors there are, each of what imports only from those below; the rest is a circle."""
    floors = 0
    while ground := {name for name, others in above.items() if not others}:
        floors += 1
        above = {name: others - ground for name, others in above.items() if name not in ground}
    assert not above, "each of these imports another of them"
    return floors


def test_nothing_imports_in_a_circle_and_there_are_few_floors() -> None:
    rooms: dict[str, set[str]] = {room_of(name): set() for name in MODULES}
    for name, others in imports().items():
        rooms[room_of(name)] |= {room_of(other) for other in others} - {room_of(name), "airflow"}
    assert floors_of(rooms) <= 8, "the DAGs are the ninth"
    assert floors_of({name: others - {"airflow"} for name, others in imports().items()})


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import airflow.sdk", "airflow"),
        ("from airflow import sdk", "airflow"),
        ("from airflow.sdk import Context", "airflow"),
        ("def f():\n    import airflow_brayns.task.operator", "task.operator"),
        ("if TYPE_CHECKING:\n    from airflow_brayns.task import operator", "task.operator"),
        ("from airflow_brayns.task.operator import BraynsOperator as B", "task.operator"),
        ("from airflow_brayns import hooks", "hooks"),
        ("from airflow_brayns import open_endpoint", "__init__"),
        ("from ..task import operator", "task.operator"),
        ("from ..task.operator import failed", "task.operator"),
        ("from .. import task", "task"),
        ("importlib.import_module('airflow.sdk')", "airflow"),
        ("asyncio.to_thread(import_module, 'airflow_brayns.task.operator')", "task.operator"),
        ("__import__('airflow')", "airflow"),
    ],
)
def test_no_spelling_of_an_import_is_overlooked(line: str, found: str) -> None:
    assert found in resolved(imported(line, PACKAGE / "services" / "booking.py"))
    assert wrong("services.booking", found)


# ---- the map of docs/how-it-works.rst --------------------------------------------------------------------------------
PAGE = (PACKAGE.parent / "docs" / "how-it-works.rst").read_text()
WALKS = PAGE.partition("Four things, followed through the code\n")[2]


def test_the_map_draws_the_plan() -> None:
    drawn = PAGE.partition("::\n\n   dags/ ")[2].partition("\n\n")[0].splitlines()[1:]
    floors = [{word.rstrip("/") for word in line.split()[: len(rooms)]} for line, rooms in zip(drawn, PLAN[::-1], strict=True)]  # fmt: skip
    assert floors == [set(rooms) for rooms in PLAN[::-1]]


def named_places() -> list[str]:
    """What the page names of the package: `room/module`, `room/module.Name`, `scripts/file.sh`."""
    return sorted(set(re.findall(r"``((?:[a-z]+/)+[a-z_]+(?:\.[\w.]+)?)``", PAGE)) - {"tests/unit/test_house.py"})


@pytest.mark.parametrize("place", named_places())
def test_what_the_page_names_is_there(place: str) -> None:
    if place.endswith(".sh") or (PACKAGE / place).is_dir():
        assert (PACKAGE / place).exists() or (PACKAGE / "cluster" / place).exists()
        return
    path, _, names = place.partition(".")
    found = import_module(f"{OURS}.{path.replace('/', '.')}")
    for name in filter(None, names.split(".")):
        found = getattr(found, name)


def test_each_walk_is_short_and_there_are_four() -> None:
    walks = re.findall(r"^\*([^*]+)\.\*((?:.+\n)+)", WALKS, re.MULTILINE)
    assert [title for title, _ in walks] == ["A request to sbatch", "host:port to XCom", "A frame to the movie", "A release"]  # fmt: skip
    assert all(text.count("\n") <= 8 for _, text in walks)
