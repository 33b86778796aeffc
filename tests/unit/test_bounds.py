"""The bound of all tests, which are bounded by it themselves."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.bounds import bounded, until


async def test_what_never_comes_fails_the_test() -> None:
    async def hangs(answer: asyncio.Event) -> None:
        await answer.wait()

    with pytest.raises(TimeoutError):
        await bounded(hangs, 0.05)(answer=asyncio.Event())


async def test_every_test_that_awaits_is_bounded(request: pytest.FixtureRequest) -> None:
    """`bound_all` has been at it."""
    assert asyncio.current_task() is not None
    assert request.node.obj.__wrapped__ is not None


def test_what_never_holds_is_told() -> None:
    until(lambda: True, 0.01)
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: .*lambda: False"):
        until(lambda: False, 0.01)
