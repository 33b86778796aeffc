"""Frames in a folder of the worker: whole or not there, each with its line in the manifest."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from airflow_brayns.errors import BraynsError, InvalidSetting, RenderingFailed
from airflow_brayns.movie.manifest import NAME, FrameRecord, Header, Manifest, digest
from airflow_brayns.movie.picture import check_picture
from airflow_brayns.movie.plan import Plan

_OURS = re.compile(
    r"\d{5,}\.(png|jpg)|\.\d{5,}\.[A-Za-z0-9_-]+\.part(\.png|\.jpg)?|manifest\.jsonl|\.(driver|clock)-[A-Za-z0-9_-]+"
)
_FRAME = re.compile(r"\d{5,}\.(png|jpg)")
ASIDE = "set-aside"  # a folder beside the frames: what a movie that was changed has no use for any more, each name once
SILENT_SECONDS = 60.0  # a driver that has not been heard of for so long is not there any more
_BEAT_SECONDS = 10.0
_DOOR = ".driver-opening"
_OPENING_SECONDS = 15.0


class StorageFailed(RenderingFailed):
    """Frames cannot be written: no service's fault, so nothing is tried again on another one."""


class Superseded(BraynsError):  # noqa: N818 - named for what it says
    """Another driver has taken the frames or the services over; what this one still gets is thrown away."""


@dataclass
class Survey:
    """What a resume found.

    :param done: frames that are on disk as they should be.
    :param missing: frames that were never rendered, or whose file is gone.
    :param changed: frames of another specification or scene.
    :param damaged: frames whose file is not the one that was written: cut off, swapped, edited.
    """

    done: set[int] = field(default_factory=set)
    missing: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)

    @property
    def left(self) -> list[int]:
        """What is to be rendered, in order."""
        return sorted([*self.missing, *self.changed, *self.damaged])

    def text(self) -> str:
        """One sentence."""
        parts = [f"{len(self.done)} frames are there already"] if self.done else []
        for name, frames in (("missing", self.missing), ("changed", self.changed), ("damaged", self.damaged)):
            if frames:
                parts.append(f"{len(frames)} {name} ({listed(frames)})")
        return "; ".join(parts) or "nothing to render"


def listed(frames: Sequence[int]) -> str:
    """Numbers as people write them: `0-4, 7, 9-11`; at most twenty groups."""
    groups: list[list[int]] = []
    for frame in sorted(frames):
        if groups and frame == groups[-1][1] + 1:
            groups[-1][1] = frame
        else:
            groups.append([frame, frame])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in groups[:20]]
    return ", ".join(shown) + (" …" if len(groups) > 20 else "")


@dataclass(frozen=True)
class Made:
    """Who rendered a frame, how, and how long it took."""

    seconds: float
    node: str
    job: str
    service: str
    version: str
    way: str


class Store(Protocol):
    """Where frames go.

    :param outstanding: how many frames of one service may be on their way at once.
    """

    outstanding: int

    async def open(self) -> Manifest:
        """Take the place over and read what is known of it.

        :raises InvalidSetting: it cannot be written, or another movie uses it.
        """
        ...

    async def survey(self, plan: Plan, manifest: Manifest) -> Survey:
        """Compare what there is with what there should be."""
        ...

    async def put_aside(self, plan: Plan) -> int:
        """Move what looks like a frame and is none of this plan's into the folder `set-aside`; how many there were."""
        ...

    async def begin(self, header: Header) -> None:
        """Write down what all frames that follow have in common."""
        ...

    def file_path(self, plan: Plan, frame: int) -> str:
        """Where a service is to write a frame itself; nothing where the image comes over the connection."""
        ...

    async def keep(self, plan: Plan, frame: int, data: bytes, made: Made) -> None:
        """Check a frame, write it and its line.

        :raises RenderingFailed: it is not whole.
        :raises StorageFailed: it cannot be written.
        :raises Superseded: somebody else writes here now.
        """
        ...

    async def close(self) -> None:
        """Let go of the place."""
        ...


class FolderStore:
    """A folder of the worker.

    :param folder: made if need be; files in it that are not frames stay.
    :param movie: whose frames these are (DAG, run, task): another movie that writes here is refused.
    :param token: of this driver: a later one of the same movie takes the folder over.
    """

    outstanding = 2

    def __init__(self, folder: Path, movie: str, token: str) -> None:
        self.folder, self._movie, self._token = folder, movie, token
        self._claim = folder / f".driver-{token}"
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._beating: threading.Thread | None = None

    async def open(self) -> Manifest:
        """See `Store.open`. Until `close` the claim is renewed by time, whether frames come or not."""
        found = await asyncio.to_thread(self._open)
        if self._beating is None:
            self._over.clear()
            self._beating = threading.Thread(target=self._beat, name=f"frames claim {self._token}", daemon=True)
            self._beating.start()
        return found

    def _beat(self) -> None:
        """In a thread of its own: what holds the loop (a question to Airflow's API server) does not give the folder away."""
        while not self._over.wait(_BEAT_SECONDS):
            with contextlib.suppress(OSError):  # whoever has taken it over is found out where something is to be kept
                os.utime(self._claim)

    def _open(self) -> Manifest:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._opening():
                self._take_over()
            path = self.folder / NAME
            if not path.exists():
                return Manifest(None, {})
            with path.open("r+b") as lines:  # a line that was cut off must not swallow the next one
                if lines.seek(0, os.SEEK_END) and lines.seek(-1, os.SEEK_END) >= 0 and lines.read(1) != b"\n":
                    lines.write(b"\n")
            with path.open(encoding="utf-8", errors="replace") as text:
                return Manifest.read(text).usable()
        except OSError as error:
            raise InvalidSetting(
                "frames_dir", f"{self.folder} cannot be made ready for frames: {error.strerror}", retry=error.errno == errno.ENOSPC
            ) from error  # fmt: skip

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        """One at a time: of two that come at the same moment the second sees the first."""
        door = self.folder / _DOOR
        until = time.monotonic() + _OPENING_SECONDS
        while True:
            try:
                door.mkdir()
                break
            except FileExistsError:
                if time.monotonic() > until:  # of one that was killed in between: it takes milliseconds
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
            whose, heard = _claim_of(other)
            if whose != self._movie and now - heard < SILENT_SECONDS:
                raise InvalidSetting(
                    "frames_dir",
                    f"{self.folder} is in use by {whose}, which was heard of {max(0.0, now - heard):.0f} s ago; give each movie a "
                    "folder of its own, or wait until that one has ended",
                    retry=True,
                )  # fmt: skip
        # Ours is there, and whole, before theirs goes: who misses his own reads in it by whom he was taken over.
        partial = self.folder / f".claim-{self._token}"
        partial.write_text(json.dumps({"movie": self._movie, "host": os.uname().nodename, "pid": os.getpid()}))
        partial.replace(self._claim)
        for other in others:
            other.unlink(missing_ok=True)
        for left in (*self.folder.glob(".*.part"), *self.folder.glob(".*.part.png"), *self.folder.glob(".*.part.jpg")):
            if _OURS.fullmatch(left.name):
                left.unlink(missing_ok=True)

    async def survey(self, plan: Plan, manifest: Manifest) -> Survey:
        """See `Store.survey`. A file of the size and time that were written down is not read again."""
        return await asyncio.to_thread(survey_folder, self.folder, plan, manifest)

    async def put_aside(self, plan: Plan) -> int:
        """See `Store.put_aside`."""
        self._check_ours()
        return await asyncio.to_thread(put_aside, self.folder, plan)

    async def begin(self, header: Header) -> None:
        """See `Store.begin`."""
        self._check_ours()
        await asyncio.to_thread(self._append, header.line())

    def file_path(self, plan: Plan, frame: int) -> str:
        """See `Store.file_path`."""
        return ""

    async def keep(self, plan: Plan, frame: int, data: bytes, made: Made) -> None:
        """See `Store.keep`."""
        await asyncio.to_thread(self._write, plan, frame, data, made)

    def _write(self, plan: Plan, frame: int, data: bytes, made: Made) -> None:
        check_picture(data, plan.specification.resolution, plan.specification.format)
        path = self.folder / plan.file(frame)
        partial = self.folder / f".{path.stem}.{self._token}.part"
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fdatasync(file.fileno())  # a line in the manifest must not outlive its frame's bytes
            self._check_ours()
            partial.replace(path)
            status = path.stat()
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _unwritable(self.folder, error) from error
        record = FrameRecord(
            frame, plan.key(frame), path.name, digest(data), status.st_size, status.st_mtime_ns, made.seconds, made.node,
            made.job, made.service, made.version, made.way, plan.scene,
        )  # fmt: skip
        self._append(record.line())

    def _append(self, line: str) -> None:
        try:
            with self._lock, (self.folder / NAME).open("ab") as file:
                before = file.tell()
                try:
                    file.write(line.encode())
                    file.flush()
                except OSError:  # half a line would spoil the next one
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
        """See `Store.close`."""
        if self._beating is not None:
            self._over.set()
            await asyncio.to_thread(self._beating.join, 5)
            self._beating = None
        with contextlib.suppress(OSError):
            self._claim.unlink(missing_ok=True)
            for left in self.folder.glob(f".*.{self._token}.part"):
                left.unlink(missing_ok=True)


def superseded(folder: str, movie: str, by: str) -> Superseded:
    """Who has taken a folder over, as far as it is known.

    :param movie: whose it was.
    :param by: whose it is; empty where its claim is gone, too.
    """
    if by == movie:
        why = "another try of this movie has taken over"
    elif by:
        why = f"{by} has taken it over: nothing was heard of this task for {SILENT_SECONDS:.0f} s. Give each movie a folder of its own"
    else:
        # A next try looks first whether anything is left to do, and lets go again before it renders.
        why = "this task's claim on it is gone: another try of this movie has taken it over, or somebody has emptied the folder"
    return Superseded(f"frames_dir: {folder}: {why}; this one stops.", retry=False)


def _claim_of(claim: Path) -> tuple[str, float]:
    """Whose claim it is, and when it was last heard of."""
    try:
        return str(json.loads(claim.read_text())["movie"]), claim.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "", 0.0


def _clock(folder: Path) -> float:
    """The time as the folder's file system has it: another machine's clock may be wrong by minutes."""
    probe = folder / f".clock-{secrets.token_hex(6)}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def is_claimed(folder: Path) -> bool:
    """Whether somebody who lives renders into a folder."""
    now = _clock(folder)
    return any(now - _claim_of(one)[1] < SILENT_SECONDS for one in folder.glob(".driver-*") if one.is_file())


def _unwritable(folder: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"frames_dir: {folder} cannot be written: {error.strerror}. The frames that are there are kept; mend it, and a retry "
        "goes on from there."
    )


def survey_folder(folder: Path, plan: Plan, manifest: Manifest, *, thorough: bool = False) -> Survey:
    """Compare a folder and its manifest with a plan.

    :param thorough: read every file; else one of the size and time that were written down counts as read.
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
    except OSError:  # gone, or cannot be read: not the frame that was written
        return False


def put_aside(folder: Path, plan: Plan) -> int:
    """Move what looks like a frame and is none of a plan's, or stands where one belongs and is no file, into `set-aside`.

    :return: how many there were.
    :raises StorageFailed: it cannot be moved.
    """
    wanted = {plan.file(frame) for frame in plan.frames}
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
    """Take away what a movie's rendering put into a folder, and the folder if nothing else is in it; nothing where somebody
    renders into it by now.
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
    for one in (aside, folder / _DOOR, folder):
        with contextlib.suppress(OSError):
            one.rmdir()
