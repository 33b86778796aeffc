"""A little of what `make fuzz` does with every field that reaches a shell, a path, an sbatch option, a message or a template."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import cases
from tests.fuzz.bench import Bench, Tally
from tests.fuzz.senders import ALL

# sender, and how many values it takes here
NUMBERS = {"submissions": 2, "cuts": 3, "stores": 1, "encodings": 2, "local services": 1, "names": 3, "templates": 5}


def sent(name: str, seed: int, values: list[str] | None = None) -> Tally:
    """What the bench noticed."""
    with Bench() as bench:
        rng = Random(seed)
        sender, _ = ALL[name]
        sender(bench, rng, values or cases.texts(rng, NUMBERS.get(name, 30), bench.canary))
        bench.count_executed()
        return bench.tally


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_executed_and_all_arrives_or_is_refused_by_name(name: str) -> None:
    told = sent(name, 1)
    assert (told.executed, told.findings) == (0, [])


@pytest.mark.parametrize("name", ["words", "requests", "services", "steps", "messages"])
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(cases.hostile_texts(), min_size=1, max_size=20), st.integers(0, 99))
def test_any_texts_are_data(name: str, values: list[str], seed: int) -> None:
    told = sent(name, seed, values)
    assert (told.executed, told.findings) == (0, [])


@pytest.mark.parametrize("name", ["words", "requests", "services", "submissions", "messages", "names", "steps"])
def test_a_megabyte_is_data_too(name: str) -> None:
    told = sent(name, 1, [cases.long_text(Random(name))])
    assert (told.executed, told.findings) == (0, [])
