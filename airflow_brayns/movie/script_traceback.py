"""Tracebacks of a movie's Python, as its author wants to read them: from the first line of theirs on."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

_OURS = Path(__file__).parents[1]
_LONGEST = 300  # characters of an error's text, and of a line
_MOST = 12  # lines of code; of a longer one, as a recursion has, the first and the last


def cut(text: str) -> str:
    """A text that others have written, no longer than a message bears."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def traceback_of(error: BaseException, folder: str) -> str:
    """The error and its traceback, as text of several lines; the error comes first, since a log's line shows the first.
    Of an error of ours only its text is told.
    """
    ours = type(error).__module__.startswith(f"{_OURS.name}.")
    told = cut(str(error) if ours else "".join(traceback.format_exception_only(error)).strip())
    told += _beside(error, folder)
    return f"{told}\n{_lines(_of_user(traceback.extract_tb(error.__traceback__), folder), folder)}".rstrip()


def _beside(error: BaseException, folder: str) -> str:
    """What to say of a file that is not found, and lies beside the movie's own."""
    name = getattr(error, "filename", None)
    if not isinstance(error, FileNotFoundError) or not isinstance(name, str) or not name or Path(name).is_absolute():
        return ""
    there = Path(folder, name).exists()
    return f"; it lies beside the movie's file, so write Path(__file__).parent / {name!r}" if there else ""


def line_of(error: BaseException, folder: str, path: Path) -> int | None:
    """The last line of a file that an error came through; None where it is another file's."""
    lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(path)]
    return lines[-1] if lines else None


def stack_of(thread: int | None, folder: str) -> str:
    """Where a thread is at, as text of several lines; empty where that cannot be said."""
    frame = sys._current_frames().get(thread or 0)
    return "" if frame is None else _lines(_of_user(traceback.extract_stack(frame), folder), folder)


def _of_user(frames: Iterable[traceback.FrameSummary], folder: str) -> list[traceback.FrameSummary]:
    """The part of a stack from the first line of the user's on, without lines of this package."""
    found = list(frames)
    first = next((number for number, one in enumerate(found) if one.filename.startswith(folder)), 0)
    return [
        one for one in found[first:] if one.filename.startswith(folder) or not Path(one.filename).is_relative_to(_OURS)
    ]


def _lines(frames: list[traceback.FrameSummary], folder: str) -> str:
    # deeper than the indent of a message's further lines, which is taken for one
    shown = [
        f"      {Path(one.filename).name} line {one.lineno}, in {one.name}: {cut(one.line or '')}".rstrip()
        for one in frames
    ]
    if len(shown) > _MOST:
        shown = [*shown[: _MOST // 2], f"      … {len(shown) - _MOST} more", *shown[-_MOST // 2 :]]
    return "\n".join(shown)
