"""Questions of a worker to Airflow while a loop runs: one thread asks them, one after the other, each to its end.

Airflow's own way to ask from a loop (`CommsDecoder.asend`) must not be cancelled: in 3.3.2 the next question then hangs
for good, or gets the former one's answer. A time-out, `task.cancel()` and the end of `asyncio.run` all cancel. A
question that another thread asks (`CommsDecoder.send`) cannot be cancelled, and does not hold the loop; whoever no
longer waits for its answer just goes on, and the next question waits until it is answered. So Airflow is asked before
the loop where that is possible, else by `ask`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import select
import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from airflow.sdk import conf
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import CommsDecoder, ErrorResponse, GetConnection, GetVariable

Answer = TypeVar("Answer")
_SECRETS_BACKENDS = (("secrets", "backend"), ("workers", "secrets_backend"))


class _Asker:
    """The thread that asks, and the questions that are still to be asked."""

    def __init__(self) -> None:
        self._questions: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._at_end: list[Callable[[], None]] = []
        # The thread is a daemon, since a question that is never answered must not keep a process from ending.
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
    """Forget the thread in a forked process, into which it does not come along."""
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

    :param question: a function that calls the task SDK; the thread runs it to its end, also when whoever waits is
        cancelled.
    :raises Exception: whatever the question raises.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()

    def give(how: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
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
    """Tell Airflow something, from a loop or from outside of one; nobody waits for it.

    :param message: a function that calls the task SDK, and must raise no error.
    """
    _the_asker().put(message)


def at_end(last: Callable[[], None]) -> None:
    """Take a function that `settle` calls once, for what is told at intervals, so that the last of it is told too."""
    _the_asker().at_end(last)


def settle(seconds: float) -> bool:
    """Wait until all that was asked and told is done, and tell whether it was within so many seconds."""
    return True if _asker is None else _asker.settle(seconds)


def lacks_connection(conn_id: str) -> bool:
    """Whether Airflow's API server itself says that there is no such connection: no retry mends that. False where it
    did not answer, and where a secrets backend, whose failure looks the same, could have it. Not for a loop.
    """
    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if comms is None or any(conf.get(*where, fallback="") for where in _SECRETS_BACKENDS):
        return False
    try:
        answer = comms.send(GetConnection(conn_id=conn_id))
    except Exception:  # whatever it is, nothing is known
        return False
    return isinstance(answer, ErrorResponse) and answer.error is ErrorType.CONNECTION_NOT_FOUND


def is_silent_about(conn_id: str) -> bool:
    """Whether Airflow's API server, which has told of no such connection, does not say that there is none: it does not
    answer, or only now. False where there is nobody to ask. Not for a loop.
    """
    return _is_silent(GetConnection(conn_id=conn_id), ErrorType.CONNECTION_NOT_FOUND)


def is_silent_about_variable(key: str) -> bool:
    """The same of a Variable."""
    return _is_silent(GetVariable(key=key), ErrorType.VARIABLE_NOT_FOUND)


def _is_silent(question: GetConnection | GetVariable, none: ErrorType) -> bool:
    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if comms is None:
        return False
    try:
        answer = comms.send(question)
    except Exception:  # whatever it is, nothing is known
        return True
    return not (isinstance(answer, ErrorResponse) and answer.error is none)


def asks_in_process() -> bool:
    """Tell whether Airflow is asked in this very process, as by `airflow dags test`: then it takes no question from a loop."""
    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return comms is not None and not hasattr(comms, "asend")


def asks_in_worker() -> bool:
    """Tell whether Airflow is asked over a task's own socket, from which a question that is cancelled in a loop takes the next
    answer; a triggerer's tells answers by their ids.
    """
    return type(getattr(task_runner, "SUPERVISOR_COMMS", None)) is CommsDecoder


def supervisor_has_gone() -> bool:
    """Tell whether the process that looks after this task has died, which closes its end of the socket between them.
    Without such a socket (`airflow dags test`) nobody can have gone.
    """
    one = getattr(getattr(task_runner, "SUPERVISOR_COMMS", None), "socket", None)
    if not isinstance(one, socket.socket):
        return False
    try:
        # Another thread may have read the answer between the two calls: then there is nothing to read here.
        return bool(select.select([one], [], [], 0)[0]) and not one.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except (OSError, ValueError):  # the socket was reset, or is closed
        return True
