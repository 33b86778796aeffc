"""Glimpses of a movie that is being rendered: a contact sheet of what is there, and its newest frame."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_brayns.movie.images import CELL, SHEET_FRAMES, lay_out, spread, thumbnail
from airflow_brayns.movie.plan import Plan

if TYPE_CHECKING:
    from PIL.Image import Image

# A folder of its own in that of the frames, so that whoever takes all pictures there takes frames only.
GLIMPSE = "glimpse"
SHEET, NEWEST = "contact-sheet.jpg", "newest"
_MOST_PIXELS = 40_000_000  # a larger picture takes too much memory to be made small beside the rendering


class Glimpse:
    """The glimpse of one movie in a folder. Whatever goes wrong with it costs the movie nothing.

    :param folder: the folder of its frames.
    :param done: frames that are there already.
    """

    def __init__(self, folder: Path, plan: Plan, done: Collection[int]) -> None:
        self._frames, self._folder, self._plan = folder, folder / GLIMPSE, plan
        width, height = plan.specification.resolution
        self._shown = spread(plan.frames, SHEET_FRAMES) if width * height <= _MOST_PIXELS else []
        self._before = [frame for frame in self._shown if frame in done]
        self._small: dict[int, Image] = {}
        self._lock = threading.Lock()

    def keep(self, frame: int, data: bytes) -> None:
        """Show a frame that is whole in the folder; called in any thread.

        :param data: its image.
        """
        with contextlib.suppress(Exception):
            self._folder.mkdir(exist_ok=True)
            self._link(frame)
            if frame in self._shown:
                with self._lock:
                    self._draw(frame, data)

    def _link(self, frame: int) -> None:
        name = self._plan.file(frame)
        newest = self._folder / f"{NEWEST}{Path(name).suffix}"
        partial = self._folder / f".{NEWEST}.{threading.get_ident()}"
        partial.unlink(missing_ok=True)
        partial.symlink_to(Path("..", name))
        partial.replace(newest)

    def _draw(self, frame: int, data: bytes) -> None:
        while self._before:
            earlier = self._before.pop()
            with contextlib.suppress(OSError):
                self._add(earlier, (self._frames / self._plan.file(earlier)).read_bytes())
        self._add(frame, data)
        width, height = self._plan.specification.resolution
        scale = min(1.0, (CELL - 8) / width, 4 * CELL / height)  # as `thumbnail` makes it
        cell = (max(1, round(width * scale)), max(1, round(height * scale)))
        partial = self._folder / f".{SHEET}.part.jpg"
        lay_out([self._small.get(one) for one in self._shown], cell=cell).save(partial)
        partial.replace(self._folder / SHEET)

    def _add(self, frame: int, data: bytes) -> None:
        from PIL import Image

        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (2 * CELL, 2 * CELL))  # a JPEG is read small
            self._small[frame] = thumbnail(image.convert("RGB"), str(frame))


def remove_glimpse(folder: Path) -> None:
    """Remove the glimpse of a movie, and its folder if nothing else is in it.

    :param folder: the folder of its frames.
    """
    found = folder / GLIMPSE
    for path in found.iterdir() if found.is_dir() else ():
        if path.name.startswith((NEWEST, f".{NEWEST}", SHEET, f".{SHEET}")) and not (
            path.is_dir() and not path.is_symlink()
        ):
            path.unlink()
    with contextlib.suppress(OSError):
        found.rmdir()
