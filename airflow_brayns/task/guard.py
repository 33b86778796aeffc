"""The guard that makes Airflow's errors of ours: the only place that decides whether a task is tried again."""

from __future__ import annotations

from contextlib import ContextDecorator
from types import TracebackType
from typing import NoReturn

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_brayns.errors import BraynsError, Stopped
from airflow_brayns.errors.plain import in_lines
from airflow_brayns.task.metrics import count

# Of what passes by itself, such as a scheduler that does not answer: nobody has to mend it.
_NOTHING = "Nothing is to be done where the task has retries; else clear it."


class BraynsTaskError(AirflowException):
    """A task's error, in lines that a screen can show; the task keeps its retries.

    :param error: ours, with its facts: `field`, `node`, `exit_code`, ….
    """

    def __init__(self, error: BraynsError) -> None:
        nothing = "" if error.remedy or isinstance(error, Stopped) else f"{_NOTHING}\n"
        super().__init__(in_lines(f"{nothing}{error}", before=f"{type(self).__name__}: "))
        self.error = error


class BraynsTaskFailed(AirflowFailException):
    """The same where no retry can help."""

    def __init__(self, error: BraynsError) -> None:
        super().__init__(in_lines(str(error), before=f"{type(self).__name__}: "))
        self.error = error


class _Guard(ContextDecorator):
    """The guard around all that a task does in a worker. An error of ours ends the task with its message, for good where no retry can
    help; with its facts it is `error` of Airflow's, for a DAG's `on_failure_callback`.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, BraynsError):
            if error.idle:
                count("brayns.released_idle")
            # From nothing: Airflow prints the cause too, and so the same message twice with a traceback between.
            raise (BraynsTaskError if error.retry else BraynsTaskFailed)(error) from None
        if isinstance(error, BraynsTaskError | BraynsTaskFailed):
            # Of an `execute` that calls another one: the way through ours says nothing, and pushes the message off the page.
            raise error.with_traceback(None)


guarded = _Guard()


def failed(message: str, *, retry: bool) -> NoReturn:
    """End a task with a message, without retries where a retry cannot help: for operators of a DAG's own, as in 0.2.0."""
    with guarded:
        raise BraynsError(message, retry=retry)
    raise AssertionError
