"""One guard makes Airflow's errors of ours: with the message, the retry, and the facts."""

from __future__ import annotations

import ast
import traceback
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

import airflow_brayns
from airflow_brayns.errors import AllocationLost, BraynsError, InvalidSetting, ServiceFailed
from airflow_brayns.task import guard
from airflow_brayns.task.guard import guarded

PACKAGE = Path(airflow_brayns.__file__).parent
ENTRIES = {"execute", "resume", "check_movie", "find_movies"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ServiceFailed("it ended", node="r1i1n0", exit_code=139), AirflowException),
        (ServiceFailed("no such plugin", field="plugins", retry=False), AirflowFailException),
        (InvalidSetting("nodes", "must be a whole number"), AirflowFailException),
        (InvalidSetting("cluster_conn_id", "no such connection", retry=True), AirflowException),
    ],
)
def test_the_error_decides_whether_the_task_is_tried_again(error: BraynsError, kind: type[Exception]) -> None:
    with pytest.raises(kind) as raised, guarded:
        raise error
    assert isinstance(raised.value, AirflowFailException) == (kind is AirflowFailException)
    assert str(raised.value).endswith(str(error))
    assert raised.value.error is error, "its facts are there for on_failure_callback"  # type: ignore[attr-defined]


@pytest.mark.in_lines
def test_a_message_is_printed_once_in_lines_that_a_page_shows() -> None:
    """Airflow prints an error's cause too: the same message twice, with 22 frames of traceback between."""
    said = "Look at its log, mend what it says, and clear the task. " * 5

    @guarded
    def run() -> None:
        try:
            raise OSError("deeper")
        except OSError as error:
            raise ServiceFailed(f"{said}\nLast lines of brayns1:\n{'word ' * 40}") from error

    with pytest.raises(AirflowException) as raised:
        run()
    printed = "".join(traceback.format_exception(raised.value))
    assert "deeper" not in printed
    assert " ".join(printed.split()).count(said.strip()) == 1
    told = str(raised.value).splitlines()
    assert all(len(line) < 118 for line in [f"BraynsTaskError: {told[0]}", *told]), "as Airflow's page shows the first"
    assert all(line.startswith("    ") for line in told[1:])


def test_the_way_through_our_own_code_is_not_printed_below_the_message() -> None:
    """Airflow's page opens at the end of a log: with a traceback of many lines, what to do was above its window."""

    @guarded
    def inner() -> None:
        raise ServiceFailed("it ended", remedy="Look at setup.")

    @guarded
    def outer() -> None:
        inner()

    with pytest.raises(AirflowException) as raised:
        outer()
    names = [one.name for one in traceback.extract_tb(raised.value.__traceback__)][1:]
    assert "outer" not in names and len(names) == 2, names
    assert raised.value.error.remedy == "Look at setup."  # type: ignore[attr-defined]


def test_what_is_none_of_ours_passes() -> None:
    with pytest.raises(KeyError), guarded:
        raise KeyError("x")
    with guarded:
        pass


def test_an_end_since_nobody_used_the_nodes_is_counted_by_its_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    monkeypatch.setattr(guard, "count", counted.append)
    for idle in (True, False):
        with pytest.raises(AirflowException), guarded:
            raise AllocationLost("Job 7 ended. The keeper says: not used for 3 s (idle_limit).", idle=idle)
    assert counted == ["brayns.released_idle"]


def functions() -> list[tuple[str, ast.FunctionDef]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                found.append((path.relative_to(PACKAGE).as_posix(), node))
    return found


def test_each_way_into_a_task_is_guarded() -> None:
    ways = [(path, way) for path, way in functions() if way.name in ENTRIES and not path.startswith("movie/")]
    assert len(ways) > 12
    bare = [f"{path}:{way.lineno}" for path, way in ways if "guarded" not in map(ast.unparse, way.decorator_list)]
    assert not bare


def test_nobody_else_makes_errors_of_airflows() -> None:
    others = []
    for path in sorted(PACKAGE.rglob("*.py")):
        short = path.relative_to(PACKAGE).as_posix()
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        if names & {"AirflowException", "AirflowFailException"} and short != "task/guard.py":
            others.append(short)
    assert not others
