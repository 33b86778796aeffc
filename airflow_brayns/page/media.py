"""Movies and pictures that tasks have recorded, as far as the API server's machine has them.

A file is found by the task that made it, never by a path of the request: what a task has recorded names it. Since
whoever writes XCom may have recorded any path, only a file that is a movie or a picture by its name and by its first
bytes is sent.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
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


def found(paths: list[Path]) -> tuple[Path, str] | None:
    """The first of some files that is here and may be sent, and its media type; None where there is none."""
    for path in paths:
        kind, (at, begins) = _KINDS.get(path.suffix.lower(), ("", (0, b"")))
        if kind and _head(path)[at : at + len(begins)] == begins:
            return path, kind
    return None


def _path_in(told: Any, name: str) -> Path | None:
    path = told.get(name) if isinstance(told, dict) else None
    return Path(path) if isinstance(path, str) and path.startswith("/") and "\0" not in path else None


def _head(path: Path) -> bytes:
    """The first bytes of a regular file; none of anything else, which is not waited for either."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):  # a text that no file can be called by is a ValueError
        return b""
    try:
        return os.read(descriptor, _HEAD) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)
