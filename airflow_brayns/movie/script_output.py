"""What a movie's Python prints and logs: each line goes to the task's log with the frame and the node it is from."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

_MOST_LINE = 10_000  # characters that may stand before a line's end
_current = threading.local()


class _Source:
    """The source of a thread's lines.

    :param place: words for frame and node.
    :param note: a function that writes a line to the log.
    """

    def __init__(self, place: str, note: Callable[[str], None]) -> None:
        self.place, self._note, self._begun = place, note, ""

    def write(self, text: str) -> int:
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._tell(line)
        if len(self._begun) > _MOST_LINE:
            self.end()
        return len(text)

    def end(self) -> None:
        rest, self._begun = self._begun, ""
        self._tell(rest)

    def _tell(self, line: str) -> None:
        if not line.strip():
            return
        told = line.rstrip() if line.startswith(self.place) else f"{self.place}: {line.rstrip()}"
        _current.source = None  # the log may itself be printed
        try:
            self._note(told)
        finally:
            _current.source = self


class _Stream:
    """A standard stream that lines of the threads with a source do not reach.

    :param stream: the stream of everybody else.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        source: _Source | None = getattr(_current, "source", None)
        return self._stream.write(text) if source is None else source.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def close(self) -> None:
        """Close nothing: the stream is everybody's, and the task's log."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Capture:
    """The standard streams and the log, as long as any movie of this process needs them captured: two may overlap, and the
    one that began first may end first.
    """

    def __init__(self) -> None:
        self._lock, self._needed, self._undo = threading.Lock(), 0, contextlib.ExitStack()

    def begin(self) -> None:
        with self._lock:
            if not self._needed:
                self._undo.enter_context(_exchanged())
            self._needed += 1

    def end(self) -> None:
        with self._lock:
            self._needed -= 1
            if not self._needed:
                self._undo.close()


_capture = _Capture()


@contextlib.contextmanager
def captured() -> Iterator[None]:
    """For as long as the block runs, what threads print and log inside `said_by` is told by their sources."""
    _capture.begin()
    try:
        yield
    finally:
        _capture.end()


@contextlib.contextmanager
def _exchanged() -> Iterator[None]:
    before_out, before_err, factory = sys.stdout, sys.stderr, logging.getLogRecordFactory()

    def record(*words: Any, **more: Any) -> logging.LogRecord:
        made = factory(*words, **more)
        source: _Source | None = getattr(_current, "source", None)
        if source is not None:
            # Words that do not go together fail where they are shown, as anywhere: logging tells it, and goes on.
            with contextlib.suppress(Exception):
                made.msg, made.args = f"{source.place}: {made.getMessage()}", ()
        return made

    sys.stdout, sys.stderr = _Stream(before_out), _Stream(before_err)
    logging.setLogRecordFactory(record)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before_out, before_err
        logging.setLogRecordFactory(factory)


@contextlib.contextmanager
def said_by(place: str, note: Callable[[str], None]) -> Iterator[None]:
    """For as long as the block runs, what the present thread prints and logs is from a place.

    :param place: words for frame and node.
    :param note: a function that writes a line to the log.
    """
    source = _current.source = _Source(place, note)
    try:
        yield
    finally:
        _current.source = None
        source.end()
