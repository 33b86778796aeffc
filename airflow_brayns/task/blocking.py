"""Running a coroutine from a task: `asyncio.run`, with an end that is bounded.

`asyncio.run` waits at its end for every task that takes its time to be cancelled and for every thread, such as one that
looks a name up. What a coroutine has proved would age meanwhile: 21 s were seen between a service's proof and its
hand-over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
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


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in a loop of its own; Ctrl-C cancels it, as with `asyncio.run`.

    Tasks that it leaves running are cancelled, and waited for at most some seconds.
    """
    runner = asyncio.Runner()
    loop = runner.get_loop()
    loop.set_default_executor(_Threads())
    try:
        return runner.run(main)
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
