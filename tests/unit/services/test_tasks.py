"""Tasks that belong to a block."""

from __future__ import annotations

import asyncio

import pytest

from airflow_brayns.services.tasks import beside, together, within


class OursError(Exception):
    pass


async def for_ever(ended: list[str], *, slowly: bool = False) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        if slowly:
            await asyncio.sleep(0.1)
        ended.append("ended")


async def fail(text: str = "") -> None:
    raise OursError(text)


async def test_tasks_end_with_their_block_and_are_awaited() -> None:
    ended: list[str] = []
    async with beside() as group:
        group.create_task(for_ever(ended, slowly=True))
        await asyncio.sleep(0)
    assert ended == ["ended"]


async def test_an_error_of_the_block_comes_out_as_itself_and_with_its_cause() -> None:
    ended: list[str] = []

    async def block() -> None:
        async with beside() as group:
            group.create_task(for_ever(ended))
            await asyncio.sleep(0)
            raise OursError("block") from KeyError("why")

    with pytest.raises(OursError, match="block") as raised:
        await block()
    assert isinstance(raised.value.__cause__, KeyError)
    assert ended == ["ended"]


async def test_an_error_of_a_task_ends_the_block_and_comes_out_as_itself() -> None:
    ended: list[str] = []

    async def block() -> None:
        async with beside() as group:
            group.create_task(for_ever(ended))
            group.create_task(fail("task"))
            await asyncio.Event().wait()

    with pytest.raises(OursError, match="task"):
        await block()
    assert ended == ["ended"]


async def test_whoever_is_cancelled_while_tasks_are_awaited_is_cancelled() -> None:
    """The group of Python 3.11 takes such a cancellation for its own, and forgets it."""
    went_on = False

    async def block() -> None:
        nonlocal went_on
        async with beside() as group:
            group.create_task(for_ever([], slowly=True))
            await asyncio.sleep(0)
        went_on = True
        await asyncio.sleep(0)

    task = asyncio.create_task(block())
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not went_on


async def test_a_time_limit_around_a_block_holds() -> None:
    ended: list[str] = []

    async def block() -> None:
        async with asyncio.timeout(0.05), beside() as group:
            group.create_task(for_ever(ended))
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await block()
    assert ended == ["ended"]


async def test_all_that_is_done_together_is_done_and_the_first_error_ends_the_rest() -> None:
    async def one(value: int) -> int:
        await asyncio.sleep(0.01 * (3 - value))
        return value

    assert await together(one(value) for value in range(3)) == [0, 1, 2]
    ended: list[str] = []
    with pytest.raises(OursError):
        await together([for_ever(ended), fail()])
    assert ended == ["ended"]


async def test_within_tells_its_own_time_out_from_that_of_the_work() -> None:
    """The work's is an error of its own: the cluster did not answer."""

    async def fails() -> None:
        raise TimeoutError("the work's")

    assert await within(0.01, asyncio.sleep(30, "late")) is None
    assert await within(None, asyncio.sleep(0, "there")) == "there"
    with pytest.raises(TimeoutError, match="the work's"):
        await within(30, fails())
