"""What of a service's log the task's log shows: its start in brief, and what is a warning or worse; and what it tells of itself.

A braynsService 3.10.1 writes 120 lines as it starts and five for each request (run): shown whole, a movie's own lines drown.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass

_KEPT = 8192  # characters: what an error shows the end of
_LONGEST = 2000  # characters of a line that are shown
_SETUP_LINES = 3  # of what comes before braynsService's own: what the connection's setup prints
_TELLING_LINES = 5  # a service says once which version it is, and where it listens
MOST_WARNINGS = 30  # of one service
# `[info][21:11:45] …`: 3.0 to 3.10.1 (run). Generations 1 and 2 write no level.
_LEVELLED = re.compile(r"\[(trace|debug|info|warn|warning|error|critical|fatal)\]\[[0-9:.]+\] ?")
_LEVELS = {"warn": logging.WARNING, "warning": logging.WARNING, "error": logging.ERROR, "critical": logging.ERROR, "fatal": logging.ERROR}  # fmt: skip
_WORDS = re.compile(r"\b(?:(error|fatal|exception|segmentation fault)|(warn(?:ing)?))\b", re.IGNORECASE)
_TELLING = re.compile(r"Brayns version |Server started on '|[Rr]ockets server running on ")
_VERSION = re.compile(r"Brayns version ([0-9]{1,4})\.")
_MISSING = "Error opening dynamic library"


def level_of(line: str) -> int:
    """How bad a line is, as `logging` counts: by its level where it has one (generation 3), else by its words."""
    if found := _LEVELLED.match(line):
        return _LEVELS.get(found[1], logging.INFO)
    if words := _WORDS.search(line[:_LONGEST]):
        return logging.ERROR if words[1] else logging.WARNING
    return logging.INFO


@dataclass
class ServiceLog:
    """The log of one service, as far as it has come.

    :param end: its last characters.
    :param missing: the line that tells of a plugin that could not be loaded, however long ago.
    :param generation: what it says of its version; None while it has not.
    """

    end: str = ""
    missing: str = ""
    generation: int | None = None
    _unfinished: str = ""
    _telling: int = 0
    _before: int = 0
    _warnings: int = 0

    def add(self, text: str) -> Iterator[tuple[int, str]]:
        """Take what is new; level and text of each line that is to be shown."""
        whole = self.end + text
        self.end = whole[-_KEPT:]
        # No pattern that begins with `.*`: on a long line each of its characters would be a new beginning.
        if (at := whole.find(_MISSING)) >= 0:
            self.missing = whole[at : at + 1000].splitlines()[0]
        finished, _, self._unfinished = (self._unfinished + text).rpartition("\n")
        self._unfinished = self._unfinished[-_KEPT:]
        for line in finished.splitlines():  # at whatever a reader of the task's log would take for a line's end
            if line.strip():
                yield from self._shown(line[:_LONGEST])

    def _shown(self, line: str) -> Iterator[tuple[int, str]]:
        if self.generation is None and (found := _VERSION.search(line)):
            self.generation = int(found[1])
        level = level_of(line)
        if level > logging.INFO:
            self._warnings += 1
            if self._warnings <= MOST_WARNINGS:
                yield level, line
            if self._warnings == MOST_WARNINGS:
                yield logging.WARNING, "(what else it warns of is only in its own log)"
        elif self._telling < _TELLING_LINES and _TELLING.search(line):
            self._telling += 1
            yield level, line
        elif not self._telling and not _LEVELLED.match(line) and self._before < _SETUP_LINES:
            self._before += 1
            yield level, line

    def told(self) -> str:
        """The end of it, with the line about a missing plugin where that has scrolled away."""
        return self.end if not self.missing or self.missing in self.end else f"{self.missing}\n{self.end}"
