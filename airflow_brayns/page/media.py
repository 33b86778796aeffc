"""Movies and pictures that tasks have recorded, as far as the API server's machine has them.

A file is found by the task that made it, never by a path of the request: what a task has recorded names it. Since
whoever writes XCom may have recorded any path, only a file that is a movie or a picture by its name and by its first
bytes is sent.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from airflow_brayns.links import keys
from airflow_brayns.movie.glimpse import GLIMPSE, NEWEST, SHEET


class Shown(StrEnum):
    """What is shown of a movie: before it costs, its preview; while it is rendered, its glimpse; then its files."""

    MOVIE = "movie"
    POSTER = "poster"
    CONTACT_SHEET = "contact_sheet"
    GLIMPSE = "glimpse"
    NEWEST = "newest"
    PREVIEW = "preview"


_ISO = (4, b"ftyp")  # MP4 and QuickTime: a box of this type comes first
_MATROSKA = (0, b"\x1a\x45\xdf\xa3")
_JPEG = ("image/jpeg", (0, b"\xff\xd8\xff"))
_PNG = ("image/png", (0, b"\x89PNG\r\n\x1a\n"))
# By its name's ending: what a file is sent as, and how such a file begins.
_KINDS = {
    ".mp4": ("video/mp4", _ISO),
    ".mov": ("video/quicktime", _ISO),
    ".webm": ("video/webm", _MATROSKA),
    ".mkv": ("video/x-matroska", _MATROSKA),
    ".gif": ("image/gif", (0, b"GIF8")),
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
}
_HEAD = 16  # bytes
_AT_ONCE, _PATIENCE = 4, 10.0  # seconds: a file system that hangs takes so many threads of the API server, and no more
_places = threading.BoundedSemaphore(_AT_ONCE)


def recorded(facts: Mapping[str, Any], shown: Shown) -> list[Path]:
    """The paths at which a file may be, by what its task has recorded; none where that tells of no such file.

    :param facts: what the task has stored, by key.
    """
    if shown in (Shown.GLIMPSE, Shown.NEWEST):
        if (folder := _path_in(facts.get(keys.PROGRESS), "frames_dir")) is None:
            return []
        place = folder / GLIMPSE
        return [place / SHEET] if shown is Shown.GLIMPSE else [place / f"{NEWEST}.png", place / f"{NEWEST}.jpg"]
    if shown is Shown.PREVIEW:
        path = _path_in(facts.get(keys.PREVIEW), "contact_sheet")
    else:
        path = _path_in(facts.get(keys.MOVIE), shown.value)
    return [] if path is None else [path]


@dataclass(frozen=True)
class Found:
    """A file that may be sent.

    :param descriptor: it is open, so that what was looked at is what is sent; whoever takes it closes it.
    :param kind: its media type.
    """

    name: str
    descriptor: int
    kind: str


class BusyError(Exception):
    """So many files are being opened that this one has to wait: their file system may hang."""


def found(paths: list[Path]) -> Found | None:
    """Open the first of some files that is here and may be sent; None where there is none.

    :raises BusyError: others are being opened, and do not come to an end.
    """
    with _place():
        for path in paths:
            kind, (at, begins) = _KINDS.get(path.suffix.lower(), ("", (0, b"")))
            if not kind or (descriptor := _opened(path)) is None:
                continue
            try:
                head = os.pread(descriptor, _HEAD, 0)
            except OSError:
                head = b""
            if head[at : at + len(begins)] == begins:
                return Found(path.name, descriptor, kind)
            os.close(descriptor)
    return None


@contextmanager
def _place() -> Iterator[None]:
    if not _places.acquire(timeout=_PATIENCE):
        raise BusyError
    try:
        yield
    finally:
        _places.release()


def _path_in(told: Any, name: str) -> Path | None:
    path = told.get(name) if isinstance(told, dict) else None
    return Path(path) if isinstance(path, str) and path.startswith("/") and "\0" not in path else None


def _opened(path: Path) -> int | None:
    """A descriptor of a regular file; None for anything else, which is not waited for either."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):  # a text that no file can be called by is a ValueError
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None
