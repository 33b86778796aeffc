"""Threads for a movie's Python: one for each service, whose work can be given up."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")
_LEAVE_SECONDS = 2.0  # for a thread to leave the user's code


class GivenUp(BaseException):
    """Raised inside the user's code when nobody wants its result any more; no `except Exception` of theirs takes it."""


def apart(work: Callable[[], Result]) -> Result:
    """Run a function in a thread of its own, and return what it returns, or raise what it raises.

    What cannot be done there, such as a handler of signals, is found out where nothing is rendered yet, and the main
    thread keeps the handlers by which a task is told to end.
    """
    done = SimpleQueue[tuple[Result | None, BaseException | None]]()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name="movie's Python", daemon=True).start()
    found, error = done.get()
    if error is not None:
        raise error
    return found  # type: ignore[return-value]


class ScriptThread:
    """A thread in which one service's Python runs, one call after the other.

    The thread is a daemon: code that cannot be interrupted, as inside a library that waits, must not keep the task's
    process from ending.

    :param name: the thread's name.
    :param wake: a function that ends whatever wait for the service the code is in.
    """

    def __init__(self, name: str, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """The thread's number."""
        return self._thread.ident

    def _run(self) -> None:
        with contextlib.suppress(GivenUp):  # it may come when the work is just done
            while (work := self._work.get()) is not None:
                work()

    async def call(self, work: Callable[[], Result], seconds: float) -> Result:
        """Run a function in the thread, and return what it returns, or raise what it raises.

        :param seconds: how long it may take.
        :raises TimeoutError: it has not returned; it is still at it, so `give_up`.
        :raises RuntimeError: it raised what would end the loop, such as `SystemExit`.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()

        def give(settle: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(lambda: None if result.done() else settle())

        def run() -> None:
            try:
                found = work()
                give(lambda: result.set_result(found))
            except GivenUp:
                raise
            except BaseException as error:
                told = _for_the_loop(error)
                give(lambda: result.set_exception(told))
            finally:
                self._idle.set()

        self._idle.clear()
        self._work.put(run)
        done, _ = await asyncio.wait({result}, timeout=seconds)
        if not done:
            raise TimeoutError
        return result.result()

    async def give_up(self) -> None:
        """End the thread, whatever it is at. Code that does not leave within some seconds is left behind."""
        if not self._idle.is_set():
            ident = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(GivenUp))
            self._wake()
            await asyncio.to_thread(self._idle.wait, _LEAVE_SECONDS)
        self._work.put(None)


def _for_the_loop(error: BaseException) -> Exception:
    """An error as a future may hold it: some that end a thread would end the loop of whoever waits, too."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    told = RuntimeError(f"{type(error).__name__}: {error}")
    told.__cause__ = error
    return told
