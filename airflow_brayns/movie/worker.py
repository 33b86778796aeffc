"""Workers: each has one service, asks it for frames, keeps it busy, and tells what fails."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import (
    BraynsError,
    ConnectionLost,
    NothingSeen,
    RenderingFailed,
    ScriptFailed,
    StorageFailed,
    Superseded,
)
from airflow_brayns.movie.interfaces import RenderService
from airflow_brayns.movie.reconnect import Restore, regain
from airflow_brayns.movie.render_call import RenderCall
from airflow_brayns.movie.shared_state import SharedState

_STRIKES = 2
# within this time it is known, as a rule, whether a service has ended; its frames are kept for so long
_AT_ONCE_SECONDS = 6.0
_MOST_LOSSES = 5  # connections that a frame may lose on a living service before the frame is at fault


@dataclass(frozen=True)
class Aside:
    """The reason why a service takes no more frames.

    :param why: the reason in words, for people.
    :param frame: the frame that ended the service as it did others, so that the frame is at fault; None where the
        service is.
    :param hung: whether the service did not answer in time, rather than end or refuse.
    """

    why: str
    frame: int | None = None
    hung: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Aside:
        """The reason for a service that did not come as far as a frame."""
        return cls(str(error), hung=isinstance(error, ConnectionLost) and error.timed_out)


@dataclass
class _Asked:
    """A frame that a service was asked for, and is at."""

    frame: int
    task: asyncio.Task[bytes]
    at: float


class RenderWorker:
    """The worker of one service.

    :param shared: the state that it shares with the other workers.
    :param client: a client that is connected, with the scene loaded and `call` begun.
    :param call: the way to ask for a frame.
    :param stack: closes the clients of later connections.
    :param restore: a function that sees to it that the service has the scene after a lost connection.
    """

    def __init__(
        self,
        shared: SharedState,
        service: RenderService,
        client: BraynsClient,
        call: RenderCall,
        stack: contextlib.AsyncExitStack,
        restore: Restore,
    ) -> None:
        self._shared, self._service, self._client, self._call = shared, service, client, call
        self._stack, self._restore = stack, restore
        self._losses: Counter[int] = Counter()
        self._asked: deque[_Asked] = deque()
        self._keeping: deque[tuple[int, asyncio.Task[None]]] = deque()
        self._strikes = 0
        self._last_reply = 0.0

    async def work(self) -> Aside | None:
        """Take frames until there are none: None; or the reason why the service is of no use any more."""
        shared = self._shared
        try:
            while not shared.over:
                if shared.would_not_finish(self._service) and not self._asked:
                    shared.note(f"{self._service} takes no more frames: its allocation ends.")
                    await self._settle(0)
                    return None
                if not self._service.holds():
                    await shared.change()  # the lease is being confirmed, or is lost; whoever keeps it tells
                    if not self._asked:
                        continue
                self._ask()
                if not self._asked:
                    await self._settle(0)
                    if not shared.over:
                        await shared.change()
                    continue
                if (aside := await self._take_reply()) is not None:
                    return aside
                shared.ledger.ready(self._service.place)
                await self._settle(self._shared.outstanding)
            await self._settle(0)
            return None
        finally:
            await self._drop_all()

    def _ask(self) -> None:
        shared, ahead = self._shared, self._shared.ahead(self._service)
        while (
            len(self._asked) < ahead
            and not shared.would_not_finish(self._service)
            and self._service.holds()
            and (frame := shared.take(self._service, len(self._asked))) is not None
        ):
            path = shared.file_path(frame)
            task = asyncio.create_task(self._call.render(self._client, shared.plan, frame, path))
            self._asked.append(_Asked(frame, task, time.monotonic()))

    async def _take_reply(self) -> Aside | None:
        """Wait for the reply to the oldest request; return the reason where this service is of no use any more, else
        None.
        """
        asked = self._asked[0]
        began = self._since()
        limit = self._shared.limit()
        while not asked.task.done() and (rest := self._call.since(began) + limit - time.monotonic()) > 0:
            await asyncio.wait({asked.task}, timeout=rest)
        now = time.monotonic()
        if not asked.task.done():
            return await self._struck(
                ConnectionLost(f"no answer within {limit:.0f} s, {self._shared.limit_told()}", timed_out=True),
                lost=True,
            )
        error = asked.task.exception()
        if error is None:
            self._asked.popleft()
            self._last_reply = now
            self._shared.ledger.rendered(self._service.place, began, now)
            seconds = now - began
            keeping = asyncio.create_task(
                self._shared.keep(self._service, asked.frame, asked.task.result(), seconds, self._call.name)
            )
            keeping.add_done_callback(lambda task: self._kept(task, seconds))
            self._keeping.append((asked.frame, keeping))
            return None
        if isinstance(error, ScriptFailed):
            await self._settle(0)  # the frames before it are whole
            raise error
        if not isinstance(error, BraynsError):
            raise error
        return await self._struck(error, lost=isinstance(error, ConnectionLost))

    def _kept(self, task: asyncio.Task[None], seconds: float) -> None:
        """Note that a frame was rendered in vain, where it could not be kept."""
        if task.cancelled() or task.exception() is not None:
            self._shared.ledger.vain(seconds)

    def _since(self) -> float:
        """The time since when the service is at the oldest frame that it was asked for."""
        return max(self._asked[0].at, self._last_reply)

    async def _struck(self, error: BraynsError, *, lost: bool) -> Aside | None:
        """Deal with the failure of the oldest frame; the frames behind it were only waiting."""
        frame = self._asked[0].frame
        self._shared.ledger.breaks(self._service.place, self._since())
        behind = [one.frame for one in self._asked][1:]
        hung = not self._asked[0].task.done()
        self._asked[0].task.cancel()
        dropped = [self._asked.popleft().task]
        if lost or behind:
            dropped += self._drop_asked()
        await asyncio.gather(*dropped, return_exceptions=True)
        try:
            # frames that came before this failure count first, or they would end the row that begins with it
            await self._settle(0)
        finally:
            again = self._strike(frame, error) if hung or not lost else False
        if lost:
            await self._client.close()
            held = [] if hung else [frame]
            try:
                await self._regain(held, hung)
            except BraynsError as gone:
                again = again if hung else self._shared.failed(frame, self._service, gone, held=bool(held))
                told = f"{error}. {gone}" if hung else str(gone)
                told = f"{self._shared.plan.named(frame)} ended it as it did others: {told}" if again else told
                return Aside(told, frame if again else None, hung)
            if not hung:
                self._losses[frame] += 1
                if self._losses[frame] <= _MOST_LOSSES:
                    if held:
                        self._shared.give_back(frame)
                    self._shared.note(f"The connection to {self._service} broke, and was made anew: {error}")
                    return None
                again = self._strike(frame, error, held=bool(held))
        if self._strikes >= _STRIKES:
            told = (
                f"{self._shared.plan.named(frame)} failed here as on others"
                if again
                else f"{_STRIKES} frames in a row failed"
            )
            return Aside(f"{told}: {error}", frame if again else None, hung)
        return None

    def _strike(self, frame: int, error: BraynsError, *, held: bool = True) -> bool:
        """Count a frame that failed on the living service, and tell whether it has failed before on another one."""
        self._strikes += 1
        return self._shared.failed(frame, self._service, error, held=held)

    async def _regain(self, held: list[int], hung: bool) -> None:
        """Connect to the service anew, if it is still there and ours.

        :param held: the frames that it was at; where this takes long, other services get them.
        :param hung: whether it did not answer in time.
        :raises BraynsError: the service is not there or not ours, or there is no way to it.
        """
        regaining = asyncio.create_task(regain(self._service, self._restore, timed_out=hung))
        try:
            await asyncio.wait({regaining}, timeout=_AT_ONCE_SECONDS)
            while held and not regaining.done():
                self._shared.give_back(held.pop())
            self._client = await regaining
        finally:
            regaining.cancel()
            await asyncio.gather(regaining, return_exceptions=True)
        self._stack.push_async_callback(self._client.close)

    async def _settle(self, most: int) -> None:
        """Wait until at most so many images are still being written."""
        while len(self._keeping) > most:
            frame, task = self._keeping.popleft()
            try:
                await task
                self._strikes = 0
            except (NothingSeen, StorageFailed, Superseded):
                raise
            except RenderingFailed as error:
                self._strikes += 1
                self._shared.failed(frame, self._service, error)
                if self._strikes >= _STRIKES:
                    raise

    def _drop_asked(self) -> list[asyncio.Task[bytes]]:
        """Cancel what was asked for, and give its frames back; return the tasks, which are to be awaited."""
        dropped = []
        while self._asked:
            asked = self._asked.pop()
            asked.task.cancel()
            dropped.append(asked.task)
            self._shared.give_back(asked.frame)
        return dropped

    async def _drop_all(self) -> None:
        if self._asked:
            self._shared.ledger.breaks(self._service.place, self._since())
        dropped: list[asyncio.Task[Any]] = [*self._drop_asked(), *(task for _, task in self._keeping)]
        for frame, task in self._keeping:
            task.cancel()
            self._shared.give_back(frame)
        self._keeping.clear()
        await asyncio.gather(*dropped, return_exceptions=True)
