"""How every command of `airflow brayns` speaks: results on stdout, words on stderr, an exit code, never a traceback."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from types import FrameType
from typing import Any

import structlog
from airflow.cli.simple_table import AirflowConsole
from airflow.cli.utils import redirect_stdout_log_handlers_to_stderr
from airflow.sdk import conf
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from airflow_brayns.errors import BraynsError, reason_of

_WIDE = 10_000
_STOPPED = 128  # and the signal's number, as a shell says it


@dataclass(frozen=True)
class Answer:
    """What a command has found.

    :param rows: a table, in the form that `--output` names; None where there is none.
    :param text: what is printed as it is; beside rows, instead of their table.
    :param none: words for a person where there are no rows.
    :param failed: whether something else went wrong, which has been said.
    """

    rows: Sequence[Mapping[str, Any]] | None = None
    text: str = ""
    none: str = ""
    failed: bool = False


def say(words: str) -> None:
    """Write words for a person to stderr."""
    print(words, file=sys.stderr, flush=True)


def clear() -> None:
    """Clear the terminal that results go to; where they go elsewhere, nothing is written."""
    if sys.stdout.isatty():
        print("\x1b[H\x1b[2J", end="", flush=True)


def pause(seconds: float) -> None:
    """Wait; Ctrl-C ends the command without a traceback."""
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        raise SystemExit(_STOPPED + signal.SIGINT) from None


class _Told(BaseException):
    """A signal that ends the command."""

    def __init__(self, number: int) -> None:
        self.number = number


def command(work: Callable[[argparse.Namespace], Answer | None]) -> Callable[[argparse.Namespace], None]:
    """Make a command of what finds its answer.

    It sees the connections that tasks see. What anybody logs or prints meanwhile goes to stderr. An error is one message and exit
    code 1; SIGINT, SIGTERM and SIGHUP give back what was allocated, and then end it with the exit code that shells know.
    """

    @functools.wraps(work)
    def run(args: argparse.Namespace) -> None:
        _see_connections()
        try:
            with _words_to_stderr(), _signals():
                answer = work(args) or Answer()
        except BrokenPipeError:
            raise SystemExit(_STOPPED + signal.SIGPIPE) from None
        except _Told as told:
            raise SystemExit(_STOPPED + told.number) from None
        except KeyboardInterrupt:
            raise SystemExit(_STOPPED + signal.SIGINT) from None
        except Exception as error:
            if _debugging():
                raise
            raise SystemExit(words_of(error)) from None
        _print(answer, getattr(args, "output", None) or "table")
        if answer.failed:
            raise SystemExit(1)

    return run


def _see_connections() -> None:
    """Outside of tasks Airflow reads connections from the environment and its secrets backend only, unless a process says that it
    is the server's; the backend that is only the workers' is asked instead of the server's, as tasks do.
    """
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    for option in ("backend", "backend_kwargs"):
        if value := conf.get("workers", f"secrets_{option}", fallback=""):
            os.environ[f"AIRFLOW__SECRETS__{option.upper()}"] = value


@contextmanager
def _words_to_stderr() -> Iterator[None]:
    """Handlers that write to stdout, and whatever is made or printed meanwhile. Only warnings are logged: a command says itself
    what a person needs.
    """
    redirect_stdout_log_handlers_to_stderr()
    with redirect_stdout(sys.stderr), quiet(logging.INFO):
        yield


@contextmanager
def quiet(level: int = logging.CRITICAL) -> Iterator[None]:
    """Nothing up to a level is logged, unless somebody debugs."""

    def drop(logger: Any, method: str, event: Any) -> Any:
        if logging.getLevelNamesMapping().get(method.upper(), logging.ERROR) <= level:  # `exception` is an error
            raise structlog.DropEvent
        return event

    if _debugging():
        yield
        return
    before, processors = logging.root.manager.disable, structlog.get_config()["processors"]
    logging.disable(max(before, level))
    processors.insert(0, drop)  # in place: loggers keep the list
    try:
        yield
    finally:
        logging.disable(before)
        processors.remove(drop)


def _debugging() -> bool:
    return bool(conf.get("logging", "logging_level").upper() == "DEBUG")


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end a loop as SIGINT does: its task is cancelled, and gives back."""
    told: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        told.append(number)
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        if told:
            raise _Told(told[0]) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def words_of(error: Exception) -> str:
    """An error as one message, what to do included."""
    if isinstance(error, BraynsError) or type(error).__module__.startswith("airflow."):
        return reason_of(error)
    if isinstance(error, SQLAlchemyError):
        why = reason_of(getattr(error, "orig", None) or error)
        return f"Airflow's database does not answer: {why}\n`airflow db check` tells more; `airflow db migrate` sets it up."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return (
        f"{type(error).__name__}: {reason_of(error)}\nThis is a mistake in airflow-brayns; with "
        "AIRFLOW__LOGGING__LOGGING_LEVEL=DEBUG the same command says where."
    )


def _print(answer: Answer, output: str) -> None:
    """Write to stdout, which `| head` may close."""
    try:
        if answer.none and not answer.rows:
            say(answer.none)
        if answer.text and (answer.rows is None or output == "table"):
            print(answer.text)
        elif answer.rows or (answer.rows is not None and output in ("json", "yaml")):
            console = AirflowConsole()
            if not sys.stdout.isatty():
                console.width = _WIDE  # whoever reads lines wants each row on one
            console.print_as([_shown(row, output) for row in answer.rows], output)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(_STOPPED + signal.SIGPIPE) from None


def _shown(row: Mapping[str, Any], output: str) -> dict[str, Any]:
    """A row as Airflow's console takes it, whose tables read `[old]` as a mark of style."""
    return {
        name: escape(value) if output == "table" and isinstance(value, str) else value for name, value in row.items()
    }
