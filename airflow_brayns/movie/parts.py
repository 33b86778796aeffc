"""Part files, by which a movie and the pictures beside it appear whole and together, whoever else writes to the same
name.

Each writer has part files of its own. Two writers to one output disturb each other in nothing: the files of each appear
by rename, all in one go, and those of the one that is finished last stay, as if the writers had run one after the
other.
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
SILENT_SECONDS = 120.0  # a part file that nobody has touched for so long was left by a killed writer
_SILENT_BEFORE = 3600.0  # the same for part files of versions whose writers did not touch them to say that they live
_LONGEST_STEM = 180  # bytes; the file system's limit for a whole name is 255
_MARK = re.compile(r"[0-9a-f]{8}-[0-9a-f]{6}")


def mark_of(owner: str) -> str:
    """Make a writer's mark; the marks of two tries of one owner have the same beginning.

    :param owner: the task that writes (DAG, run, task, map index): nothing that an earlier try of it left is needed any
        more. Empty for nobody's.
    """
    whose = hashlib.sha256(owner.encode("utf-8", "replace")).hexdigest()[:8] if owner else secrets.token_hex(4)
    return f"{whose}-{secrets.token_hex(3)}"


def stem_of(final: PurePath) -> str:
    """The text that the names of a file's part files begin with, behind the dot."""
    stem = final.name.removesuffix(final.suffix)
    encoded = os.fsencode(stem)
    return stem if len(encoded) <= _LONGEST_STEM else hashlib.sha256(encoded).hexdigest()[:16]


def part_of(final: PurePath, mark: str) -> PurePath:
    """The path of a file's part file, for a writer's mark."""
    return final.with_name(f".{stem_of(final)}.{mark}.part{final.suffix}")


def file_clock(probe: Path) -> float:
    """The time by the clock of a file system, since another machine's clock may be wrong by minutes.

    :param probe: a file that is written there to see; it is removed again, unless it was there before.
    """
    existed = True
    try:
        existed = probe.exists()
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)


def beside(output: PurePath) -> tuple[PurePath, PurePath]:
    """The paths of a movie's poster and sheet."""
    stem = output.name.removesuffix(output.suffix)
    return output.with_name(f"{stem}.poster.jpg"), output.with_name(f"{stem}.sheet.jpg")


class Parts:
    """The part files of one writer of an output.

    :param output: the movie.
    :param mark: the writer's mark, see `mark_of`.
    """

    def __init__(self, output: Path, mark: str) -> None:
        self.output, self.mark = output, mark
        self._finals = [output, *map(Path, beside(output))]

    def part(self, final: Path) -> Path:
        """The path at which one of the files is written."""
        return Path(part_of(final, self.mark))

    def clean(self) -> list[Path]:
        """Remove the part files that killed writers of the same output have left, and return their paths."""
        gone = []
        now = file_clock(self.part(self.output))
        for path in self._others():
            match = _MARK.search(path.name)
            mine = match is not None and match[0].partition("-")[0] == self.mark.partition("-")[0]
            silent = SILENT_SECONDS if match else _SILENT_BEFORE
            with contextlib.suppress(OSError):
                if mine or now - path.stat().st_mtime > silent:
                    path.unlink()
                    gone.append(path)
        return gone

    def _others(self) -> Iterator[Path]:
        stems = "|".join(re.escape(stem_of(final)) for final in self._finals)
        ours = re.compile(rf"\.({stems})(\.{_MARK.pattern})?\.part\.[A-Za-z0-9]{{1,8}}")
        with contextlib.suppress(OSError):
            for path in self.output.parent.iterdir():
                if ours.fullmatch(path.name) and f".{self.mark}." not in path.name:
                    yield path

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Keep the part files those of a living writer for as long as the block runs; none is left when it ends."""
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
        """Give every part file that is there its final name; of two writers that finish at the same moment, one goes
        after the other.
        """
        with _alone(self.output.parent):
            for final in self._finals:
                with contextlib.suppress(FileNotFoundError):
                    self.part(final).replace(final)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        # some file systems lock no folder; two writers then meet only within microseconds
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
