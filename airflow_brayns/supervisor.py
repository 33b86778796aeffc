"""What a worker asks of Airflow while a loop runs: one thread asks, one question after the other, each to its end.

Airflow's own way to ask from a loop (`CommsDecoder.asend`) must not be cancelled: in 3.3.2 the next question then hangs for
good, or gets the former one's answer. A time-out, `task.cancel()` and the end of `asyncio.run` all cancel. A question that
another thread asks (`CommsDecoder.send`) cannot be cancelled, and does not hold the loop; who no longer waits for its answer
just goes on, and the next question waits until it is answered. So: ask before the loop where that is possible, else by `ask`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

Answer = TypeVar("Answer")


class _Asker:
    """The thread, and what is still to be asked."""

    def __init__(self) -> None:
        self._questions: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._at_end: list[Callable[[], None]] = []
        # A daemon: a question that is never answered must not keep a process from ending.
        threading.Thread(target=self._work, name="brayns-asks-airflow", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._questions.get()()

    def put(self, question: Callable[[], None]) -> None:
        context = contextvars.copy_context()
        self._questions.put(lambda: context.run(question))

    def at_end(self, last: Callable[[], None]) -> None:
        self._at_end.append(last)

    def settle(self, seconds: float) -> bool:
        last, self._at_end = self._at_end, []
        for one in last:
            one()
        settled = threading.Event()
        self.put(settled.set)
        return settled.wait(seconds)


_asker: _Asker | None = None


def _forget() -> None:
    """A thread does not come along into a forked process."""
    global _asker
    _asker = None


os.register_at_fork(after_in_child=_forget)


def _the_asker() -> _Asker:
    global _asker
    if _asker is None:
        _asker = _Asker()
    return _asker


async def ask(question: Callable[[], Answer]) -> Answer:
    """Ask Airflow from inside a loop, without holding it.

    :param question: what calls the task SDK; it is run in the thread, to its end, also when whoever waits is cancelled.
    :raises Exception: whatever it raises.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()

    def give(how: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if answer.done() else how())

    def work() -> None:
        try:
            found = question()
        except Exception as error:
            failure = error
            give(lambda: answer.set_exception(failure))
        else:
            give(lambda: answer.set_result(found))

    _the_asker().put(work)
    return await answer


def tell(message: Callable[[], None]) -> None:
    """Tell Airflow something, from wherever; nobody waits for it.

    :param message: what calls the task SDK; must not raise.
    """
    _the_asker().put(message)


def at_end(last: Callable[[], None]) -> None:
    """What is called once when `settle` is: for what is told at intervals, so that the last of it is told too."""
    _the_asker().at_end(last)


def settle(seconds: float) -> bool:
    """Wait until all that was asked and told is done; whether it was within `seconds`."""
    return True if _asker is None else _asker.settle(seconds)
