"""A movie and the pictures beside it appear whole and together, whoever else writes to the same name.

Each writer has part files of its own. Two that write to one output disturb each other in nothing: each set appears by rename,
all its files in one go, and the one that is finished last stays, as when they had run one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path, PurePath

BEAT_SECONDS = 10.0
SILENT_SECONDS = 120.0  # a part file that nobody has touched for so long is a killed writer's
_SILENT_BEFORE = 3600.0  # of versions whose writers did not say that they live
_LONGEST_STEM = 180  # of bytes: the file system's limit for a name is 255
_MARK = re.compile(r"[0-9a-f]{8}-[0-9a-f]{6}")


def mark_of(owner: str) -> str:
    """A writer's mark: two tries of one owner have the same beginning.

    :param owner: who writes (DAG, run, task, map index): of an earlier try of the same one nothing is needed any more.
    """
    whose = hashlib.sha256(owner.encode("utf-8", "replace")).hexdigest()[:8] if owner else secrets.token_hex(4)
    return f"{whose}-{secrets.token_hex(3)}"


def stem_of(final: PurePath) -> str:
    """What part files of a file begin with, behind the dot."""
    stem = final.name.removesuffix(final.suffix)
    encoded = os.fsencode(stem)
    return stem if len(encoded) <= _LONGEST_STEM else hashlib.sha256(encoded).hexdigest()[:16]


def part_of(final: PurePath, mark: str) -> PurePath:
    """The part file of a file."""
    return final.with_name(f".{stem_of(final)}.{mark}.part{final.suffix}")


def beside(output: PurePath) -> tuple[PurePath, PurePath]:
    """The poster and the sheet of a movie."""
    stem = output.name.removesuffix(output.suffix)
    return output.with_name(f"{stem}.poster.jpg"), output.with_name(f"{stem}.sheet.jpg")


class Parts:
    """The part files of one writer of an output.

    :param output: the movie.
    :param mark: see `mark_of`.
    """

    def __init__(self, output: Path, mark: str) -> None:
        self.output, self.mark = output, mark
        self._finals = [output, *map(Path, beside(output))]

    def part(self, final: Path) -> Path:
        """Where one of the files is written."""
        return Path(part_of(final, self.mark))

    def clean(self) -> list[Path]:
        """Take away what killed writers of the same output have left."""
        gone = []
        now = self._clock()
        for path in self._others():
            match = _MARK.search(path.name)
            mine = match is not None and match[0].partition("-")[0] == self.mark.partition("-")[0]
            silent = SILENT_SECONDS if match else _SILENT_BEFORE
            with contextlib.suppress(OSError):
                if mine or now - path.stat().st_mtime > silent:
                    path.unlink()
                    gone.append(path)
        return gone

    def others_at_work(self) -> bool:
        """Whether somebody else writes to the same output now."""
        now = self._clock()
        for path in self._others():
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime < SILENT_SECONDS:
                    return True
        return False

    def _others(self) -> Iterator[Path]:
        stems = "|".join(re.escape(stem_of(final)) for final in self._finals)
        ours = re.compile(rf"\.({stems})(\.{_MARK.pattern})?\.part\.[A-Za-z0-9]{{1,8}}")
        with contextlib.suppress(OSError):
            for path in self.output.parent.iterdir():
                if ours.fullmatch(path.name) and f".{self.mark}." not in path.name:
                    yield path

    def _clock(self) -> float:
        """The time as the folder's file system has it: another machine's clock may be wrong by minutes."""
        probe = self.part(self.output)
        try:
            existed = probe.exists()
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            if not existed:
                probe.unlink(missing_ok=True)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Part files within the block are of a living writer; none is left when it ends."""
        await asyncio.to_thread(self.clean)
        beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            for final in self._finals:
                with contextlib.suppress(OSError):
                    self.part(final).unlink(missing_ok=True)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            for final in self._finals:
                with contextlib.suppress(OSError):
                    os.utime(self.part(final))

    def publish(self) -> None:
        """Give every part that is there its name; one set after the other where two are finished at the same moment."""
        with _alone(self.output.parent):
            for final in self._finals:
                with contextlib.suppress(FileNotFoundError):
                    self.part(final).replace(final)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems lock no folder; then it is a matter of microseconds
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
