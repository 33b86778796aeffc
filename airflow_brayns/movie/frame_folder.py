"""Frames in a folder of the worker: each is whole or not there, and has its line in the manifest."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from airflow_brayns.errors import InvalidSetting, StorageFailed
from airflow_brayns.movie.frame_store import ASIDE, Made, Survey, claim_text, read_claim, superseded
from airflow_brayns.movie.glimpse import GLIMPSE, NEWEST, SHEET, Glimpse, remove_glimpse
from airflow_brayns.movie.images import check_picture, check_tile
from airflow_brayns.movie.manifest import NAME, FrameRecord, Header, Manifest, digest
from airflow_brayns.movie.parts import file_clock
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.used import UsedRecord

_OURS = re.compile(
    r"\d{5,}(-\d+-\d+)?\.(png|jpg)|\.\d{5,}(-\d+-\d+)?\.[A-Za-z0-9_-]+\.part(\.png|\.jpg)?|manifest\.jsonl|\.(driver|clock)-[A-Za-z0-9_-]+"
)
_FRAME = re.compile(r"\d{5,}(-\d+-\d+)?\.(png|jpg)")  # of a tile with row and column
_BEAT_SECONDS = 10.0
_DOOR = ".driver-opening"
_OPENING_SECONDS = 15.0


class FolderStore:
    """A frame store that is a folder of the worker.

    :param folder: the folder, which is made if need be; files in it that are not frames stay.
    :param movie: the movie whose frames these are (DAG, run, task): while it writes here, another movie is refused.
    :param token: the token of this holder of the folder: a later holder for the same movie takes the folder over.
    """

    outstanding = 2

    def __init__(self, folder: Path, movie: str, token: str) -> None:
        self.folder, self._movie, self._token = folder, movie, token
        self._claim = folder / f".driver-{token}"
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._beating: threading.Thread | None = None
        self._glimpse: Glimpse | None = None

    async def open(self) -> Manifest:
        """See `FrameStore.open`. Until `close` the claim is renewed again and again, whether frames come or not."""
        found = await asyncio.to_thread(self._open)
        if self._beating is None:
            self._over.clear()
            self._beating = threading.Thread(target=self._beat, name=f"frames claim {self._token}", daemon=True)
            self._beating.start()
        return found

    def _beat(self) -> None:
        """Renew the claim, in a thread of its own: whatever holds the event loop, such as a question to Airflow, does
        not give the folder away.
        """
        while not self._over.wait(_BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a claim that was taken over is noticed when a frame is to be kept
                os.utime(self._claim)

    def _open(self) -> Manifest:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._opening():
                self._take_over()
            path = self.folder / NAME
            if not path.exists():
                return Manifest(None, {})
            with path.open("r+b") as lines:  # a last line that was cut off must not swallow the next one
                if lines.seek(0, os.SEEK_END) and lines.seek(-1, os.SEEK_END) >= 0 and lines.read(1) != b"\n":
                    lines.write(b"\n")
            with path.open(encoding="utf-8", errors="replace") as text:
                return Manifest.read(text).usable()
        except OSError as error:
            raise InvalidSetting(
                "frames_dir", f"{self.folder} cannot be made ready for frames: {error.strerror}", remedy="choose a folder that the worker may write.", retry=error.errno == errno.ENOSPC
            ) from error  # fmt: skip

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        """Let holders in one at a time: of two that come at the same moment, the second sees the first one's claim."""
        door = self.folder / _DOOR
        until = time.monotonic() + _OPENING_SECONDS
        while True:
            try:
                door.mkdir()
                break
            except FileExistsError:
                if time.monotonic() > until:  # opening takes milliseconds, so the holder inside was killed
                    break
                time.sleep(0.05)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                door.rmdir()

    def _take_over(self) -> None:
        now = _clock(self.folder)
        others = [one for one in self.folder.glob(".driver-*") if one != self._claim and not one.is_dir()]
        for other in others:
            whose, heard, silent = _claim_of(other)
            if whose != self._movie and now - heard < silent:
                raise InvalidSetting(
                    "frames_dir",
                    f"{self.folder} is in use by {whose}, which was heard of {max(0.0, now - heard):.0f} s ago.", remedy="give each movie a folder of its own, or wait until that one has ended.",
                    retry=True,
                )  # fmt: skip
        # Our claim is there, and whole, before theirs goes: a holder that misses its own reads there who has taken
        # over.
        partial = self.folder / f".claim-{self._token}"
        partial.write_text(claim_text(self._movie, os.uname().nodename, os.getpid()))
        partial.replace(self._claim)
        for other in others:
            other.unlink(missing_ok=True)
        for left in (*self.folder.glob(".*.part"), *self.folder.glob(".*.part.png"), *self.folder.glob(".*.part.jpg")):
            if _OURS.fullmatch(left.name):
                left.unlink(missing_ok=True)

    async def survey(self, plan: Plan, manifest: Manifest) -> Survey:
        """See `FrameStore.survey`. A file that has the size and time which the manifest tells is not read again."""
        return await asyncio.to_thread(survey_folder, self.folder, plan, manifest)

    async def put_aside(self, plan: Plan) -> int:
        """See `FrameStore.put_aside`."""
        self._check_ours()
        return await asyncio.to_thread(put_aside, self.folder, plan)

    async def begin(self, header: Header) -> None:
        """See `FrameStore.begin`."""
        self._check_ours()
        await asyncio.to_thread(self._append, header.line())

    async def note(self, record: UsedRecord) -> None:
        """See `FrameStore.note`."""
        self._check_ours()
        await asyncio.to_thread(self._append, record.line())

    def shows(self, plan: Plan, done: Collection[int]) -> str:
        """See `FrameStore.shows`."""
        if plan.tiling is not None:
            return ""
        self._glimpse = Glimpse(self.folder, plan, done)
        newest = f"{NEWEST}.{plan.specification.format}"
        return f"While it is rendered, {self.folder / GLIMPSE / SHEET} shows what is there of it, and {newest} beside that its newest frame."

    def file_path(self, plan: Plan, frame: int) -> str:
        """See `FrameStore.file_path`."""
        return ""

    async def keep(self, plan: Plan, frame: int, data: bytes, made: Made) -> bool:
        """See `FrameStore.keep`."""
        await asyncio.to_thread(self._write, plan, frame, data, made)
        return False

    def _write(self, plan: Plan, frame: int, data: bytes, made: Made) -> None:
        check = check_picture if plan.tiling is None else check_tile
        check(data, plan.size, plan.specification.format)
        path = self.folder / plan.file(frame)
        partial = self.folder / f".{path.stem}.{self._token}.part"
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fdatasync(file.fileno())  # a line of the manifest must not outlive its frame's bytes
            self._check_ours()
            partial.replace(path)
            status = path.stat()
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _unwritable(self.folder, error) from error
        record = FrameRecord(
            frame, plan.key(frame), path.name, digest(data), status.st_size, status.st_mtime_ns, made.seconds, made.node,
            made.job, made.service, made.version, made.way, plan.scene, made.holder,
        )  # fmt: skip
        self._append(record.line())
        if self._glimpse is not None:
            self._glimpse.keep(frame, data)

    def _append(self, line: str) -> None:
        try:
            # Without a buffer: what is left in one is written again as the file is closed, behind the next line.
            with self._lock, (self.folder / NAME).open("ab", buffering=0) as file:
                before, left = file.tell(), memoryview(line.encode())
                try:
                    while left:
                        left = left[file.write(left) :]
                except OSError:  # half a line would spoil the next line
                    os.ftruncate(file.fileno(), before)
                    raise
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def _check_ours(self) -> None:
        if not self._claim.exists():
            raise superseded(str(self.folder), self._movie, self._taken_by())

    def _taken_by(self) -> str:
        with contextlib.suppress(OSError):
            for other in self.folder.glob(".driver-*"):
                if not other.is_dir() and (whose := _claim_of(other)[0]):
                    return whose
        return ""

    async def close(self) -> None:
        """See `FrameStore.close`."""
        if self._beating is not None:
            self._over.set()
            await asyncio.to_thread(self._beating.join, 5)
            self._beating = None
        with contextlib.suppress(OSError):
            self._claim.unlink(missing_ok=True)
            for left in self.folder.glob(f".*.{self._token}.part"):
                left.unlink(missing_ok=True)


def _claim_of(claim: Path) -> tuple[str, float, float]:
    """Read a claim: the movie that it is for, when it was last renewed, and after how many seconds of silence it is void;
    empty and 0 where it cannot be read.
    """
    try:
        whose, silent = read_claim(claim.read_text(errors="replace"))
        return whose, claim.stat().st_mtime if whose else 0.0, silent
    except OSError:
        return "", 0.0, 0.0


def _clock(folder: Path) -> float:
    return file_clock(folder / f".clock-{secrets.token_hex(6)}")


def is_claimed(folder: Path) -> bool:
    """Tell whether somebody renders into a folder: a claim on it was renewed lately."""
    now = _clock(folder)
    claims = [_claim_of(one) for one in folder.glob(".driver-*") if one.is_file()]
    return any(now - heard < silent for _, heard, silent in claims)


def _unwritable(folder: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"{folder} cannot be written: {error.strerror}.",
        remedy="make it writable, or make room; a retry goes on from the frames that are there.",
        field="frames_dir",
    )


def survey_folder(folder: Path, plan: Plan, manifest: Manifest, *, thorough: bool = False) -> Survey:
    """Compare a folder and its manifest with a plan.

    :param thorough: whether every file is read; else a file that has the size and time which the manifest tells counts
        as read.
    """
    with os.scandir(folder) as entries:
        there = {entry.name: entry for entry in entries}
    found = Survey()
    for frame, key in plan.keyed_frames():
        known = manifest.frames.get(frame)
        entry = there.get(plan.file(frame))
        if known is None or entry is None:
            found.missing.append(frame)
        elif known.key != key or known.file != entry.name:
            found.changed.append(frame)
        elif not _is_same(entry, known.size, -1 if thorough else known.mtime, known.sha256):
            found.damaged.append(frame)
        else:
            found.done.add(frame)
    return found


def _is_same(entry: os.DirEntry[str], size: int, mtime: int, sha256: str) -> bool:
    try:
        status = entry.stat(follow_symlinks=False)
        if status.st_size != size or not entry.is_file(follow_symlinks=False):
            return False
        return status.st_mtime_ns == mtime or digest(Path(entry.path).read_bytes()) == sha256
    except OSError:  # a file that is gone, or cannot be read, is not the frame that was written
        return False


def put_aside(folder: Path, plan: Plan) -> int:
    """Move entries of a folder into its folder `set-aside`: those that look like frames and are none of a plan's, and
    those that stand where a frame belongs and are no files.

    :return: how many were moved.
    :raises StorageFailed: an entry cannot be moved.
    """
    wanted = {plan.file(one) for one in plan.pictures}
    with os.scandir(folder) as entries:
        useless = [
            entry.name
            for entry in entries
            if _FRAME.fullmatch(entry.name) and (entry.name not in wanted or not entry.is_file(follow_symlinks=False))
        ]
    if not useless:
        return 0
    aside = folder / ASIDE
    try:
        aside.mkdir(exist_ok=True)
        for name in useless:
            target = aside / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            elif (folder / name).is_dir():
                target.unlink(missing_ok=True)
            (folder / name).replace(target)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return len(useless)


def remove_frames(folder: Path) -> None:
    """Remove what a movie's rendering put into a folder, and the folder if nothing else is in it. Nothing is removed
    where somebody renders into it by now.
    """
    if is_claimed(folder):
        return
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and (path.is_symlink() or not path.is_dir()):
            path.unlink()
    aside = folder / ASIDE
    for path in aside.iterdir() if aside.is_dir() else ():
        if _FRAME.fullmatch(path.name) and (path.is_symlink() or not path.is_dir()):
            path.unlink()
    remove_glimpse(folder)
    for one in (aside, folder / _DOOR, folder):
        with contextlib.suppress(OSError):
            one.rmdir()
