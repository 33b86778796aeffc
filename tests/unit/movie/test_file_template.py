"""A text that is a template, as its own process renders it: what it may use, and what is told of a mistake."""

from __future__ import annotations

import io
import json
import resource
import sys
from datetime import UTC, datetime

import pytest

from airflow_brayns.movie import file_template
from airflow_brayns.movie.file_template import TIME, answer, limit, read_time, render

WHEN = datetime(2026, 11, 26, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("frames: {{ params.n + 1 }}\n", "frames: 8\n"), ("{{ at | ds }} {{ at | ds_nodash }}", "2026-11-26 20261126"), ("{{ at | ts }}", "2026-11-26T03:04:05+00:00"),
        ("{{ at | ts_nodash }} {{ at | ts_nodash_with_tz }}", "20261126T030405 20261126T030405+0000"), ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
    ],
)  # fmt: skip
def test_values_times_and_airflows_filters(text: str, becomes: str) -> None:
    assert render(text, {"params": {"n": 7}, "at": WHEN}) == becomes


@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("a\nb {{ missing }}", "'missing' is undefined", 2), ("a\n\n{% if %}", "Expected an expression", 3), ("{{ lipsum(5) }}", "'lipsum' is undefined", 1),
        ("{{ cycler('a') }}", "'cycler' is undefined", 1), ("{{ joiner() }}", "'joiner' is undefined", 1), ("{{ ''.__class__ }}", "", 1), ("{{ [].append(1) }}", "", 1),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_what_is_unsafe_is_refused(text: str, error: str, line: int) -> None:
    told = answer({"text": text, "values": {}})
    assert error in told["error"]
    assert told["line"] == line
    assert len(told["error"]) <= 300


def test_a_text_that_grows_too_long_or_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_template, "_LONGEST", 5)
    assert answer({"text": "{{ 'x' * 5 }}", "values": {}}) == {"text": "xxxxx"}
    assert answer({"text": "{{ 'x' * 6 }}", "values": {}}) == {
        "error": "becomes longer than 5 characters",
        "line": None,
    }

    def exhausted(*_: object) -> str:
        raise MemoryError

    monkeypatch.setattr(file_template, "render", exhausted)
    assert answer({"text": "", "values": {}}) == {"error": "needs too much memory", "line": None}


def test_times_travel_as_text_and_nothing_else_does() -> None:
    assert read_time({TIME: WHEN.isoformat()}) == WHEN
    for other in ({}, {"a": 1}, {TIME: WHEN.isoformat(), "a": 1}):
        assert read_time(other) == other


def test_one_question_gets_one_answer_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time, memory, and no file of a process that ends by them."""
    limited, out = {}, io.StringIO()
    monkeypatch.setattr(resource, "setrlimit", lambda what, most: limited.update({what: most}))
    monkeypatch.setattr(
        sys, "stdin", io.StringIO(json.dumps({"text": "{{ at | ds }}", "values": {"at": {TIME: WHEN.isoformat()}}}))
    )
    monkeypatch.setattr(sys, "stdout", out)
    file_template.main()
    assert json.loads(out.getvalue()) == {"text": "2026-11-26"}
    assert limited == {
        resource.RLIMIT_CPU: (5, 5),
        resource.RLIMIT_AS: (1 << 30, 1 << 30),
        resource.RLIMIT_CORE: (0, 0),
    }


def test_a_system_that_knows_no_such_limit_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(resource, "setrlimit", unknown)
    limit()
