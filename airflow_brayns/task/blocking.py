"""Running a coroutine from a task: `asyncio.run`, with an end that is bounded.

`asyncio.run` waits at its end for every task that takes its time to be cancelled and for every thread, such as one that
looks a name up. What a coroutine has proved would age meanwhile: 21 s were seen between a service's proof and its
hand-over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")
CLOSE_SECONDS = 3.0  # the longest wait at the end for tasks, and again for threads

_log = logging.getLogger(__name__)


class _Threads(ThreadPoolExecutor):
    """The threads of a loop; whoever ends them waits for their work a bounded time only."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="brayns")
        self._at_work: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self._at_work.add(future)
        future.add_done_callback(self._at_work.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if wait:
            self._await_work()
        super().shutdown(wait=False, cancel_futures=True)

    def _await_work(self) -> None:
        if wait(set(self._at_work), CLOSE_SECONDS).not_done:
            _log.warning(
                "A thread is still at work %.0f s after its task's loop ended; the task goes on.", CLOSE_SECONDS
            )


class _Alarm:
    """A task's time-out, kept out of a loop's callbacks until the loop has ended.

    Airflow's `execution_timeout` is a SIGALRM whose handler raises wherever the main thread is (3.3.2), once. Raised in a
    callback of a loop it ends nothing: asyncio, or asyncssh, logs it and goes on. A movie went on past its time-out, with its nodes,
    until they ended (`make faults`, execution_timeout/movie). Here the signal cancels the coroutine, which gives back; Airflow's own
    handler raises its error when the loop has ended.

    :param cancels: False for what must come to its end all the same, such as giving back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, cancels: bool) -> None:
        self._loop, self._cancels, self._rang = loop, cancels, False
        self._task: asyncio.Task[Any] | None = None
        self._before: Any = None

    async def heard_by(self, main: Coroutine[Any, Any, Result]) -> Result:
        """Run the coroutine that the signal cancels."""
        self._task = asyncio.current_task()
        return await main

    def __enter__(self) -> _Alarm:
        handler = signal.getsignal(signal.SIGALRM)
        if callable(handler) and threading.current_thread() is threading.main_thread():
            self._before = handler
            signal.signal(signal.SIGALRM, self._ring)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is None:
            return
        signal.signal(signal.SIGALRM, self._before)
        if self._rang:
            try:
                self._before(signal.SIGALRM, None)
            except BaseException as told:  # of Airflow's
                raise told from None

    def _ring(self, number: int, frame: FrameType | None) -> None:
        self._rang = True
        if self._cancels:
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def run(main: Coroutine[Any, Any, Result], *, cancellable: bool = True) -> Result:
    """Run a coroutine in a loop of its own; Ctrl-C cancels it, as with `asyncio.run`, and so does Airflow's time-out of the task,
    whose error is raised when the coroutine has ended.

    Tasks that it leaves running are cancelled, and waited for at most some seconds.

    :param cancellable: False where a time-out waits until the coroutine has ended by itself.
    """
    runner = asyncio.Runner()
    loop = runner.get_loop()
    loop.set_default_executor(_Threads())
    with _Alarm(loop, cancels=cancellable) as alarm:
        try:
            return runner.run(alarm.heard_by(main))
        finally:
            if _end(loop):
                runner.close()
            else:
                _log.warning("Something goes on %.0f s after it was cancelled; it is left behind.", CLOSE_SECONDS)
                asyncio.set_event_loop(None)
                loop.close()


def _end(loop: asyncio.AbstractEventLoop) -> bool:
    """Cancel the tasks that still run in a loop, and tell whether all of them have ended."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    pending: set[asyncio.Task[Any]] = set()
    if tasks:
        _, pending = loop.run_until_complete(asyncio.wait(tasks, timeout=CLOSE_SECONDS))
    if not pending:
        with contextlib.suppress(TimeoutError):
            loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), CLOSE_SECONDS))
    return not pending
