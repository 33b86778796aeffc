"""Errors carry facts; what they say is for people only."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import airflow_brayns
from airflow_brayns import errors
from airflow_brayns.errors import (
    AllocationLost,
    BraynsError,
    ConnectionLost,
    InvalidSetting,
    RpcFailed,
    ServiceFailed,
    StateFolderFull,
    StateFolderNotOurs,
    SubmissionRefused,
    Unexpected,
    known,
    together,
)


@pytest.mark.parametrize(
    "error",
    [
        InvalidSetting("nodes", "must be a whole number"),
        InvalidSetting("cluster_conn_id", "no such connection", remedy="make one", retry=True),
        ServiceFailed("it ended", node="r1i1n0", exit_code=139),
        ServiceFailed("no such plugin\nLast lines:\n…", field="plugins", exit_code=0, retry=False),
        AllocationLost("nobody used it", idle=True),
        SubmissionRefused("you are at a limit", field="qos", retry=True),
        BraynsError("frame 0 is no image", frame=0),
        StateFolderFull("/scratch/me"),
        StateFolderNotOurs("owner", "/scratch/me", "bob"),
        RpcFailed("add-model", -32602, "no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_facts_come_through_an_event_as_they_were(error: BraynsError) -> None:
    back = BraynsError.from_json({"status": "error", "booking": {}, **error.to_json()})
    assert type(back) is type(error)
    assert str(back) == str(error), "the field is not written before it twice"
    names = ("remedy", "retry", "field", "node", "exit_code", "frame", "idle", "ours")
    assert [getattr(back, name) for name in names] == [getattr(error, name) for name in names]


@pytest.mark.parametrize(
    ("event", "retry"),
    [
        ({"message": "Job 7 ended", "retry": False}, False),
        ({"message": "Job 7 ended", "retry": True, "booking": {}}, True),
        ({"message": "Job 7 ended", "retry": False, "kind": "OfAVersionToCome", "fact": 1}, False),
    ],
)
def test_an_event_of_another_version_is_still_an_error(event: dict[str, object], retry: bool) -> None:
    """0.2.0 told the message and `retry` only."""
    error = BraynsError.from_json(event)
    assert (type(error), str(error), error.retry, error.field) == (BraynsError, "Job 7 ended", retry, "")


def test_a_field_is_the_first_word_of_its_message() -> None:
    assert str(ConnectionLost("the node refused the login", field="route")) == "route: the node refused the login"


def test_what_is_none_of_our_errors_is_our_fault() -> None:
    mistake, ours = KeyError("x"), ServiceFailed("it ended")
    assert known(ours) is ours
    assert not ours.ours
    found = known(mistake)
    assert (type(found), found.ours, found.__cause__) == (Unexpected, True, mistake)


def test_several_errors_are_told_line_by_line_and_tried_again_where_that_helps_one() -> None:
    for_good, passing = InvalidSetting("nodes", "is none"), ConnectionLost("no answer\nfrom anywhere")
    assert str(together([for_good, passing])) == "nodes: is none\nno answer\n    from anywhere"
    assert [together(some).retry for some in ([for_good, for_good], [for_good, passing])] == [False, True]


def test_what_to_do_stands_before_why() -> None:
    error = ConnectionLost("the login node is silent", remedy="see that it is up.", field="ssh_conn_id")
    assert str(error) == "ssh_conn_id: see that it is up.\n    the login node is silent"
    assert error.remedy == "see that it is up."


PACKAGE = Path(airflow_brayns.__file__).parent
# Rooms whose errors are of one frame or one try: whoever meets them there tells the task's own, with what to do.
INSIDE = (
    "movie/images.py",
    "movie/reconnect.py",
    "movie/render_call.py",
    "movie/production.py",
    "movie/worker.py",
    "emulator/",
)
# Kinds that pass by themselves (`task.guard` says so before them), are of nobody, or say what to do by themselves.
OF_NOBODY = {"ConnectionLost", "Stopped", "Superseded", "Occupied", "Unexpected", "RpcFailed", "SubmissionUnsure", "StateFolderNotOurs", "StateFolderFull", "AskedForElsewhere"}  # fmt: skip
SAYS_IT = re.compile(r"f?['\"]+(must |give |say |.*first.*msg|.path.name.: .error.)")


@cache
def raised() -> list[tuple[str, str, ast.Call]]:
    """Each error that the package makes with words of its own: where, the words, and the call."""
    kinds = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, BraynsError)}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        short = path.relative_to(PACKAGE).as_posix()
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in kinds - {"Occupied"}:
                words = call.args[call.func.id == "InvalidSetting" :][:1]
                if words and isinstance(words[0], ast.Constant | ast.JoinedStr) and not short.startswith("errors/"):
                    found.append((f"{short}:{call.lineno}", ast.unparse(words[0]), call))
    return found


def test_each_message_that_a_user_meets_begins_with_what_to_do() -> None:
    assert len(raised()) > 150
    without = []
    for where, words, call in raised():
        assert isinstance(call.func, ast.Name)
        given = {keyword.arg for keyword in call.keywords}
        spared = call.func.id in OF_NOBODY and not ("field" in given and call.func.id == "ConnectionLost")
        if "remedy" not in given and not spared and not where.startswith(INSIDE) and not SAYS_IT.match(words):
            without.append(f"{where} {words[:80]}")
    assert without == []


def test_what_to_do_is_a_sentence_that_begins_as_its_place_asks() -> None:
    """Behind the field's name it goes on; without one it begins the message."""
    wrong = []
    for where, _, call in raised():
        given = next((one.value for one in call.keywords if one.arg == "remedy"), None)
        remedy = ast.unparse(given) if isinstance(given, ast.Constant | ast.JoinedStr) else ""
        if first := re.match(r"f?['\"]+([A-Za-z])", remedy):
            assert isinstance(call.func, ast.Name)
            has_field = call.func.id == "InvalidSetting" or any(one.arg == "field" for one in call.keywords)
            if first[1].islower() != has_field or not re.search(r"[.?]['\"]+$", remedy):
                wrong.append(f"{where} {remedy[:80]}")
    assert wrong == []
