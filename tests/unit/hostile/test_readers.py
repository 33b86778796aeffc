"""A little of what `make fuzz` does with what comes back."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.readers import READERS
from tests.fuzz.servers import SERVERS


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**64))
def test_what_comes_back_damaged_is_read_with_care(name: str, seed: int) -> None:
    for part in range(1 if name in ("ports", "logs", "templated") else 10):
        READERS[name](Random(f"{seed} {part}"))


@pytest.mark.parametrize("name", SERVERS)
def test_strangers_are_not_believed_and_hold_nobody_up(name: str) -> None:
    _, findings = SERVERS[name](Random(1))
    assert findings == []
