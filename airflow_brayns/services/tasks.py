"""Tasks that belong to a block of code: none outlives it, and an error is raised as itself, not as a group of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


class _BlockIsOver(Exception):  # noqa: N818
    """The exception that ends a task group when its block has come to its end; asyncio has no other way (3.11 to 3.14)."""


@asynccontextmanager
async def beside() -> AsyncIterator[asyncio.TaskGroup]:
    """Yield a task group whose tasks run beside a block, and are cancelled and awaited at the block's end.

    :raises Exception: the block's own error; else the first error of a task, which ends the block too.
    """
    block = asyncio.current_task()
    assert block is not None
    asked_to_end = block.cancelling()
    over: Exception = _BlockIsOver()
    try:
        async with asyncio.TaskGroup() as group:
            try:
                yield group
            except Exception as own:
                over = own
            raise over
    except BaseExceptionGroup as errors:
        first = over if over in errors.exceptions else errors.exceptions[0]
        if not isinstance(first, _BlockIsOver):
            raise first from first.__cause__
    # the block was cancelled while tasks were awaited, which the group of 3.11 forgets
    if block.cancelling() > asked_to_end:
        raise asyncio.CancelledError


async def together(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Do several works at once, and wait for the last one.

    :return: the result of each, in the order of the works.
    :raises Exception: the first error, which ends the other works.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors.exceptions[0].__cause__
    return [task.result() for task in tasks]


async def within(seconds: float | None, work: Coroutine[Any, Any, Result]) -> Result | None:
    """Do some work, and return its result; None where it takes too long.

    :param seconds: how long it may take; None for as long as it likes.
    :raises TimeoutError: the work itself raised it.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        return None
