"""The log of a service in the log of a task, which shows its start in brief, and each line that is a warning or worse.

A braynsService 3.10.1 writes 120 lines as it starts and five for each request (run): shown whole, a movie's own lines
drown.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_brayns.brayns.words import LEVELLED, NO_LIBRARY, TELLING, VERSION

_KEPT = 8192  # characters of a log's end that are kept, for errors
_LONGEST = 2000  # characters of one line that are shown
_SETUP_LINES = 3  # lines that are shown of what the connection's setup prints, before braynsService's own
_TELLING_LINES = 5  # a service says once which version it is, and where it listens
MOST_WARNINGS = 30  # warnings of one service that are shown
_LEVELS = {"warn": logging.WARNING, "warning": logging.WARNING, "error": logging.ERROR, "critical": logging.ERROR, "fatal": logging.ERROR}  # fmt: skip
_WORDS = re.compile(r"\b(?:(error|fatal|exception|segmentation fault)|(warn(?:ing)?))\b", re.IGNORECASE)


def level_of(line: str) -> int:
    """The level of a line, as `logging` counts: the one that it says (generation 3), else by its words."""
    if found := LEVELLED.match(line):
        return _LEVELS.get(found[1], logging.INFO)
    if words := _WORDS.search(line[:_LONGEST]):
        return logging.ERROR if words[1] else logging.WARNING
    return logging.INFO


@dataclass
class ServiceLog:
    """The log of one service, as far as it has come.

    :param end: the last characters of it.
    :param missing: the line that tells of a plugin that could not be loaded, however long ago; empty where none does.
    :param generation: the service's generation, by the version that it tells; None until it does.
    :param known: how many of its lines the task's log has had before, which are not shown again.
    :param lines: how many whole lines were taken so far.
    """

    end: str = ""
    missing: str = ""
    generation: int | None = None
    known: int = 0
    lines: int = 0
    _unfinished: str = ""
    _telling: int = 0
    _before: int = 0
    _warnings: int = 0

    def add(self, text: str) -> Iterator[tuple[int, str]]:
        """Take new text of the log, and yield level and text of each line that is to be shown."""
        whole = self.end + text
        self.end = whole[-_KEPT:]
        # No pattern that begins with `.*`: on a long line each of its characters would be a new beginning.
        if found := NO_LIBRARY.search(whole):
            self.missing = whole[found.start() : found.start() + 1000].splitlines()[0]
        finished, _, self._unfinished = (self._unfinished + text).rpartition("\n")
        self._unfinished = self._unfinished[-_KEPT:]
        for line in finished.splitlines():  # split at all that a reader of the task's log would take for a line's end
            self.lines += 1
            shown = list(self._shown(line[:_LONGEST])) if line.strip() else []
            if self.lines > self.known:
                yield from shown

    def _shown(self, line: str) -> Iterator[tuple[int, str]]:
        if self.generation is None and (found := VERSION.search(line)):
            self.generation = int(found[1])
        level = level_of(line)
        if level > logging.INFO:
            self._warnings += 1
            if self._warnings <= MOST_WARNINGS:
                yield level, line
            if self._warnings == MOST_WARNINGS:
                yield logging.WARNING, "(what else it warns of is only in its own log)"
        elif self._telling < _TELLING_LINES and TELLING.search(line):
            self._telling += 1
            yield level, line
        elif not self._telling and not LEVELLED.match(line) and self._before < _SETUP_LINES:
            self._before += 1
            yield level, line

    def told(self) -> str:
        """The end of the log, with the line about a missing plugin in front where that has scrolled away."""
        return self.end if not self.missing or self.missing in self.end else f"{self.missing}\n{self.end}"
