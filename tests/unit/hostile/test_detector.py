"""Whether the trap works: without it every other test here would pass."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from airflow_brayns.brayns import command
from tests.fuzz import senders
from tests.fuzz.bench import SHELLS, Bench
from tests.fuzz.cases import CANARY, PAYLOADS


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as one:
        yield one


def test_what_is_executed_is_noticed(bench: Bench) -> None:
    bench.run(f"echo; {CANARY}; {bench.canary}")
    assert bench.tally.executed == 2


def test_most_payloads_do_execute_where_nobody_quotes(bench: Bench) -> None:
    executed = set()
    for payload in PAYLOADS:
        for context in (f"printf %s {payload}", f'printf %s "{payload}"', f"printf %s '{payload}'"):
            bench.run(context, SHELLS[1])
            if bench.tally.executed:
                executed.add(payload)
            bench.tally.executed = 0
    assert len(executed) > 0.6 * len(PAYLOADS), set(PAYLOADS) - executed


@pytest.mark.parametrize("quote", [lambda value: value, lambda value: f'"{value}"', lambda value: f"'{value}'"])
def test_quotes_that_do_not_hold_are_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch, quote: object) -> None:
    monkeypatch.setattr(senders.Quoting, "quote", staticmethod(quote))
    for value in ("$(ab_canary)", "';ab_canary;'", "x;ab_canary", "`ab_canary`"):
        senders.words(bench, Random(1), [value.replace(CANARY, bench.canary)])
    assert bench.tally.executed
    assert bench.tally.findings


def test_a_service_that_is_not_quoted_for_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.shlex, "quote", lambda value: value)
    senders.services(bench, Random(4), [f"a;{bench.canary}"] * 12)
    assert bench.tally.executed
    assert bench.tally.findings


def test_a_value_that_arrives_changed_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders.Quoting, "quote", staticmethod(lambda value: "'changed'"))
    senders.words(bench, Random(1), ["value"])
    assert not bench.tally.executed
    assert any("arrived as" in finding for finding in bench.tally.findings)
