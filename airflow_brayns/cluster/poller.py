"""The poller: one question per interval to a cluster, on behalf of all who wait for its allocations."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, JobState
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.slices import in_slices
from airflow_brayns.cluster.waiter import Waiter, news
from airflow_brayns.errors import BraynsError, ConnectionLost, reason_of

_FIRST_PATIENCE = 2.0
_PAUSE = 0.3  # seconds between two questions, in which those who have heard what they waited for go away
_SOME = 5
_CLOSE_SECONDS = 2.5  # a little more than the 2 s that a command of this machine gets to end
_QUICK_TICK, _SLOW_TICK = 0.2, 1.0
_MOST, _LEAST = 20_000, 100  # allocations that one look asks for; 60 bytes each
_WOKEN = 20  # who are told what was seen of theirs before everybody else of the loop has a turn
_CAREFUL_SECONDS = (
    600.0  # in which, after one was lost, looks do not grow: one that is lost again costs its whole time limit
)

# What a look gave: the allocation's state, or why it could not be seen; and the new text of each service's log.
Seen = tuple[AllocationStatus | ConnectionLost, dict[str, str]]


@dataclass(eq=False)
class _Watch:
    waiter: Waiter
    offsets: dict[str, int]
    queue: asyncio.Queue[Seen] = field(default_factory=asyncio.Queue)
    quick: bool = True
    certificate: str = ""  # the cluster tells it with the first look only, so it is kept

    def request(self) -> Waiter:
        return replace(self.waiter, offsets=self.offsets)

    def take(self, status: AllocationStatus) -> Seen:
        logs: dict[str, str] = {}
        for service in status.services:
            self.offsets.setdefault(service.name, 0)
            if service.log:
                try:
                    data = base64.b64decode(service.log, validate=True)
                except (binascii.Error, ValueError):
                    continue
                self.offsets[service.name] += len(data)
                logs[service.name] = data.decode("utf-8", "replace")
        self.waiter = replace(self.waiter, known=news(status, self.waiter.want))
        up = sum(service.port is not None for service in status.services)
        self.quick = status.state is not JobState.PENDING and up < self.waiter.want
        self.certificate = status.certificate or self.certificate
        return replace(status, certificate=self.certificate), logs


class Poller:
    """A poller, which asks a cluster once per interval about every allocation that is watched.

    :param interval: seconds, at least 1, between the beginnings of two looks where nothing is new; what the cluster takes to make an answer
        comes on top. The cluster answers earlier when there is news.
    """

    def __init__(self, cluster: Cluster, interval: float) -> None:
        self.cluster = cluster
        self.interval = max(interval, 1.0)
        self._watches: set[_Watch] = set()
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._most = _MOST  # allocations for which one look asks
        self._careful_until = 0.0
        self._asked = 0  # by the last look
        self._pause = _PAUSE
        self._work = 0.0  # seconds that a look takes beside its patience
        self._early: deque[float] = deque(maxlen=_SOME)  # seconds that those took which have just ended with news

    async def close(self) -> None:
        """Let the last question end, and close the connection. It takes some seconds at most, whatever hangs, since
        what was found must not age meanwhile.
        """
        if self._ending:
            await asyncio.wait(self._ending, timeout=_CLOSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.cluster.shell.close()

    async def watch(self, allocation: Allocation, want: int, services: tuple[str, ...] = ()) -> AsyncGenerator[Seen]:
        """Yield every look at one allocation, for as long as the caller iterates.

        :param want: how many services must listen before their listening makes news.
        :param services: names of the services whose logs are read; empty for all that the first look finds.
        """
        watch = _Watch(Waiter(*allocation.key, want=want), dict.fromkeys(services, 0))
        yield await self._first(watch)
        self._watches.add(watch)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            while True:
                yield await watch.queue.get()
        finally:
            self._watches.discard(watch)
            if not self._watches and self._task is not None:
                task, self._task = self._task, None  # a newcomer must not take the cancelled task for a living one
                task.cancel()
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

    async def _first(self, watch: _Watch) -> Seen:
        """Take a look for a newcomer alone, so that it need not wait for the shared one."""
        try:
            found = await self.cluster.look([watch.request()], patience=min(_FIRST_PATIENCE, self.interval))
        except ConnectionLost as error:
            if not error.retry:
                raise
            return error, {}
        status = found.get((watch.waiter.name, watch.waiter.incarnation))
        if status is None:
            return ConnectionLost(f"The cluster's answer does not tell of {watch.waiter.name}."), {}
        return watch.take(status)

    async def _poll(self) -> None:
        left: list[_Watch] = []  # of whom no look has told since the last one that asked of all
        patience = self._patience(random.uniform(0.5, 1))  # tasks begin in step, and pollers need not
        while self._watches:
            left = [watch for watch in left if watch in self._watches]
            patience = 0 if left else patience
            # In another order each time: what all logs together have too much of for one look, others get.
            left = left or random.sample(list(self._watches), len(self._watches))
            began = time.monotonic()
            try:
                told = await self._look(left[: self._most], patience)
            except Exception as error:  # whatever the error is, those who wait must hear of it
                left = []
                await self._failed(error)
                await asyncio.sleep(self.interval * random.uniform(1, 1.1))
                continue
            # What one look has no time for, or must not ask for, the next one asks for; what that one does not tell of either
            # is none of its business.
            left = [watch for watch in left if watch not in told] if told else []
            await asyncio.sleep(self._rest(patience, time.monotonic() - began))
            patience = self._patience()

    def _patience(self, share: float = 1) -> int:
        """Seconds that a look waits on the cluster for news, so that with the pause behind it looks begin an interval apart, or a share
        of one.
        """
        return max(round(self.interval * share - self._pause), 0)

    def _rest(self, patience: int, took: float) -> float:
        """Seconds until the next look, which is the later the longer the last one took: where there is always some news, looks
        would follow each other without an end.
        """
        # What a look waits for news is no work of the cluster's. One that waited to the end tells what was; of those that did not,
        # the quickest of some does.
        if took >= patience:
            self._work = took - patience
            self._early.clear()
        else:
            self._early.append(took)
            self._work = min(self._early) if len(self._early) == _SOME else min(self._work, took)
        self._pause = min(max(_PAUSE, self._asked / 1000, self._work), self.interval)
        waited = (
            patience and took >= patience - 1
        )  # the cluster counts whole seconds, of which the first may have just gone by
        return max(self._pause, self.interval - took) if waited else self._pause

    async def _look(self, watches: list[_Watch], patience: int) -> set[_Watch]:
        """Look at these, and tell each of them what was seen of it. Those of whom something was."""
        self._asked = len(watches)
        found = await self.cluster.look(
            [watch.request() for watch in watches], patience=patience, tick=self._tick(watches, patience)
        )
        if time.monotonic() > self._careful_until:
            self._most = min(self._most * 2, _MOST)
        told = set()
        async for watch in in_slices(watches, _WOKEN):
            status = found.get((watch.waiter.name, watch.waiter.incarnation))
            if status is not None:
                told.add(watch)
                watch.queue.put_nowait(watch.take(status))
        return told

    def _tick(self, watches: list[_Watch], patience: int) -> float:
        """Seconds between two times that the cluster looks whether anything is new of these, which costs it about 0.1 ms for each."""
        tick = max(_QUICK_TICK if any(watch.quick for watch in watches) else _SLOW_TICK, len(watches) / 100)
        # The cluster sleeps for whole ticks, and no longer than its patience: a look has a time limit.
        return patience / max(round(patience / tick), 1) if patience else tick

    async def _failed(self, error: Exception) -> None:
        """Tell all who wait of an error. A look that was lost on its way may have been too much for a time limit, ours or the login
        node's: the next ones ask for half as many, but for no fewer than such a limit has time for.
        """
        lost = (
            error
            if isinstance(error, ConnectionLost)
            else ConnectionLost(f"{type(error).__name__}: {reason_of(error)}")
        )
        if isinstance(error, BraynsError):
            lost.retry = error.retry
        if lost.sent:
            self._most = max(self._asked // 2, _LEAST)
            self._careful_until = time.monotonic() + _CAREFUL_SECONDS
        async for watch in in_slices(list(self._watches), _WOKEN):
            watch.queue.put_nowait((lost, {}))
