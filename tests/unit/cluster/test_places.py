"""What may take long leaves room for what does not."""

from __future__ import annotations

import asyncio

from airflow_brayns.cluster.places import Places


class Work:
    """Pieces of work that each keep their place until they are let go.

    :ivar begun: the names of those that have one.
    """

    def __init__(self) -> None:
        self.places, self.begun, self.go = Places(3, 2), list[str](), asyncio.Event()

    async def piece(self, name: str, *, slow: bool) -> None:
        async with self.places.take(slow=slow):
            self.begun.append(name)
            await self.go.wait()

    async def start(self, *names: str, slow: bool) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.piece(name, slow=slow)) for name in names]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return tasks


async def test_slow_work_leaves_a_place_for_quick_work() -> None:
    work = Work()
    tasks = await work.start("a", "b", "c", slow=True)
    assert work.begun == ["a", "b"], "the third waits, though there is a place"
    tasks += await work.start("quick", "late", slow=False)
    assert work.begun == ["a", "b", "quick"]
    work.go.set()
    await asyncio.gather(*tasks)
    assert sorted(work.begun) == ["a", "b", "c", "late", "quick"], "each has its turn"


async def test_whoever_is_cancelled_gives_the_place_back_or_never_had_it() -> None:
    work = Work()
    with_place = await work.start("a", "b", slow=True)
    waiting = await work.start("c", slow=True)
    for task in [*waiting, *with_place]:
        task.cancel()
    await asyncio.gather(*waiting, *with_place, return_exceptions=True)
    tasks = await work.start("d", "e", slow=True)
    assert work.begun == ["a", "b", "d", "e"]
    work.go.set()
    await asyncio.gather(*tasks)
