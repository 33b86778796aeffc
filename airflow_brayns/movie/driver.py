"""One service's share of a movie: asks for frames, keeps the service busy, tells what fails."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from dataclasses import dataclass

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import BraynsError, ConnectionLost, RenderingFailed
from airflow_brayns.movie.board import Board
from airflow_brayns.movie.reconnect import Restore, regain
from airflow_brayns.movie.store import StorageFailed, Superseded
from airflow_brayns.movie.supply import Station
from airflow_brayns.movie.way import Way

_STRIKES = 2
_AT_ONCE_SECONDS = 6.0  # in which it is known, as a rule, whether a service has ended; its frame is kept for so long
_MOST_LOSSES = 5  # connections that a frame may lose on a service that lives, before it counts as the frame's fault


@dataclass(frozen=True)
class Aside:
    """Why a service takes no more frames.

    :param why: for people.
    :param frame: the frame that ended it as it did others, so that it is the frame's fault; None where it is the service's.
    :param hung: whether it did not answer in time, rather than end or refuse.
    """

    why: str
    frame: int | None = None
    hung: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Aside:
        """Of a service that did not come as far as a frame."""
        return cls(str(error), hung=isinstance(error, ConnectionLost) and error.timed_out)


@dataclass
class _Asked:
    """A frame that a service is at."""

    frame: int
    task: asyncio.Task[bytes]
    at: float


class Driver:
    """One service's share of a movie.

    :param board: what it shares with the others.
    :param client: connected, with the scene loaded and `way` begun.
    :param stack: closes further clients.
    :param restore: sees to it that a service to which the connection was lost has the scene.
    """

    def __init__(
        self,
        board: Board,
        station: Station,
        client: BraynsClient,
        way: Way,
        stack: contextlib.AsyncExitStack,
        restore: Restore,
    ) -> None:
        self._board, self._station, self._client, self._way = board, station, client, way
        self._stack, self._restore = stack, restore
        self._losses: Counter[int] = Counter()
        self._asked: deque[_Asked] = deque()
        self._keeping: deque[tuple[int, asyncio.Task[None]]] = deque()
        self._strikes = 0
        self._last_reply = 0.0

    async def work(self) -> Aside | None:
        """Take frames until there are none; why not any more, where the service is of no use any more."""
        board = self._board
        try:
            while not board.over:
                if board.would_not_finish(self._station) and not self._asked:
                    board.note(f"{self._station} takes no more frames: its allocation ends.")
                    await self._settle(0)
                    return None
                if not self._station.holds():
                    await board.change()  # its lease is being confirmed, or is lost; whoever keeps it tells
                    if not self._asked:
                        continue
                self._ask()
                if not self._asked:
                    await self._settle(0)
                    if not board.over:
                        await board.change()
                    continue
                if (aside := await self._take_reply()) is not None:
                    return aside
                await self._settle(self._board.outstanding)
            await self._settle(0)
            return None
        finally:
            self._drop_all()

    def _ask(self) -> None:
        board, ahead = self._board, self._board.ahead(self._station)
        while (
            len(self._asked) < ahead
            and not board.would_not_finish(self._station)
            and self._station.holds()
            and (frame := board.take(self._station, len(self._asked))) is not None
        ):
            path = board.file_path(frame)
            task = asyncio.create_task(self._way.render(self._client, board.plan, frame, path))
            self._asked.append(_Asked(frame, task, time.monotonic()))

    async def _take_reply(self) -> Aside | None:
        """Await the oldest request. What comes back: why this service is of no use any more."""
        asked = self._asked[0]
        began = max(asked.at, self._last_reply)
        limit = self._board.limit()
        await asyncio.wait({asked.task}, timeout=max(0.01, began + limit - time.monotonic()))
        now = time.monotonic()
        if not asked.task.done():
            return await self._struck(
                ConnectionLost(f"no answer within {limit:.0f} s, {self._board.limit_told()}", timed_out=True), lost=True
            )
        error = asked.task.exception()
        if error is None:
            self._asked.popleft()
            self._last_reply = now
            keeping = asyncio.create_task(
                self._board.keep(self._station, asked.frame, asked.task.result(), now - began, self._way.name)
            )
            self._keeping.append((asked.frame, keeping))
            return None
        if not isinstance(error, BraynsError):
            raise error
        return await self._struck(error, lost=isinstance(error, ConnectionLost))

    async def _struck(self, error: BraynsError, *, lost: bool) -> Aside | None:
        """The oldest frame failed; those behind it were only waiting."""
        frame = self._asked[0].frame
        behind = [one.frame for one in self._asked][1:]
        hung = not self._asked[0].task.done()
        self._asked[0].task.cancel()
        first = self._asked.popleft()
        if lost or behind:
            self._drop_asked()
        await asyncio.gather(first.task, return_exceptions=True)
        again = self._strike(frame, error) if hung or not lost else False
        await self._settle(0)
        if lost:
            await self._client.close()
            held = [] if hung else [frame]
            try:
                await self._regain(held, hung)
            except BraynsError as gone:
                again = again if hung else self._board.failed(frame, self._station, gone, held=bool(held))
                told = f"{error}. {gone}" if hung else str(gone)
                told = f"frame {frame} ended it as it did others: {told}" if again else told
                return Aside(told, frame if again else None, hung)
            if not hung:
                self._losses[frame] += 1
                if self._losses[frame] <= _MOST_LOSSES:
                    if held:
                        self._board.give_back(frame)
                    self._board.note(f"The connection to {self._station} broke, and was made anew: {error}")
                    return None
                again = self._strike(frame, error, held=bool(held))
        if self._strikes >= _STRIKES:
            told = f"frame {frame} failed here as on others" if again else f"{_STRIKES} frames in a row failed"
            return Aside(f"{told}: {error}", frame if again else None, hung)
        return None

    def _strike(self, frame: int, error: BraynsError, *, held: bool = True) -> bool:
        """A frame that failed on a service that is there. Whether it did on another before."""
        self._strikes += 1
        return self._board.failed(frame, self._station, error, held=held)

    async def _regain(self, held: list[int], hung: bool) -> None:
        """Connect anew to the service, if it is still there and ours.

        :param held: frames that it was at; where this takes long, the others get them.
        :param hung: whether it did not answer in time.
        :raises BraynsError: it is not, or there is no way to it.
        """
        regaining = asyncio.create_task(regain(self._station, self._restore, timed_out=hung))
        try:
            await asyncio.wait({regaining}, timeout=_AT_ONCE_SECONDS)
            while held and not regaining.done():
                self._board.give_back(held.pop())
            self._client = await regaining
        finally:
            regaining.cancel()
            await asyncio.gather(regaining, return_exceptions=True)
        self._stack.push_async_callback(self._client.close)

    async def _settle(self, most: int) -> None:
        """Await that at most so many images are still being written."""
        while len(self._keeping) > most:
            frame, task = self._keeping.popleft()
            try:
                await task
                self._strikes = 0
            except (StorageFailed, Superseded):
                raise
            except RenderingFailed as error:
                self._strikes += 1
                self._board.failed(frame, self._station, error)
                if self._strikes >= _STRIKES:
                    raise

    def _drop_asked(self) -> None:
        while self._asked:
            asked = self._asked.pop()
            asked.task.cancel()
            asked.task.add_done_callback(_forget)
            self._board.give_back(asked.frame)

    def _drop_all(self) -> None:
        self._drop_asked()
        for frame, task in self._keeping:
            if not task.done():
                task.cancel()
            task.add_done_callback(_forget)
            self._board.give_back(frame)
        self._keeping.clear()


def _forget(task: asyncio.Task[object]) -> None:
    """An error that nobody asks for any more is no news."""
    if not task.cancelled():
        task.exception()
