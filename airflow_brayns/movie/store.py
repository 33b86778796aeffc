"""Frames in a folder of the worker: whole or not there, each with its line in the manifest."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from airflow_brayns.errors import BraynsError, InvalidSetting, RenderingFailed
from airflow_brayns.movie.manifest import NAME, FrameRecord, Header, Manifest, digest
from airflow_brayns.movie.picture import check_picture
from airflow_brayns.movie.plan import Plan

_OURS = re.compile(
    r"\d{5,}\.(png|jpg)|\.\d{5,}\.[A-Za-z0-9_-]+\.part(\.png|\.jpg)?|manifest\.jsonl|\.driver-[A-Za-z0-9_-]+"
)
_SILENT_SECONDS = 60.0  # a driver that has not written for so long is not there any more


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
        self._claimed_at = 0.0

    async def open(self) -> Manifest:
        """See `Store.open`."""
        return await asyncio.to_thread(self._open)

    def _open(self) -> Manifest:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for other in self.folder.glob(".driver-*"):
                if other == self._claim:
                    continue
                whose, silent = _claim_of(other)
                if whose != self._movie and silent < _SILENT_SECONDS:
                    raise InvalidSetting(
                        "frames_dir", f"{self.folder} is in use by {whose}; give each movie a folder of its own"
                    )
                other.unlink(missing_ok=True)
            self._claim.write_text(json.dumps({"movie": self._movie, "host": os.uname().nodename, "pid": os.getpid()}))
            for left in self.folder.glob(".*.part"):
                left.unlink(missing_ok=True)
            path = self.folder / NAME
            if not path.exists():
                return Manifest(None, {})
            with path.open("r+b") as lines:  # a line that was cut off must not swallow the next one
                if lines.seek(0, os.SEEK_END) and lines.seek(-1, os.SEEK_END) >= 0 and lines.read(1) != b"\n":
                    lines.write(b"\n")
            with path.open(encoding="utf-8", errors="replace") as text:
                return Manifest.read(text)
        except OSError as error:
            raise InvalidSetting(
                "frames_dir", f"{self.folder} cannot be made ready for frames: {error.strerror}", retry=error.errno == errno.ENOSPC
            ) from error  # fmt: skip

    async def survey(self, plan: Plan, manifest: Manifest) -> Survey:
        """See `Store.survey`. A file of the size and time that were written down is not read again."""
        return await asyncio.to_thread(survey_folder, self.folder, plan, manifest)

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
        now = time.monotonic()
        try:
            if now - self._claimed_at > _SILENT_SECONDS / 6:
                os.utime(self._claim)
                self._claimed_at = now
            elif not self._claim.exists():
                raise FileNotFoundError
        except FileNotFoundError:
            raise Superseded(
                f"{self.folder}: another try of this movie has taken over; this one stops.", retry=False
            ) from None

    async def close(self) -> None:
        """See `Store.close`."""
        with contextlib.suppress(OSError):
            self._claim.unlink(missing_ok=True)
            for left in self.folder.glob(f".*.{self._token}.part"):
                left.unlink(missing_ok=True)


def _claim_of(claim: Path) -> tuple[str, float]:
    """Whose claim it is, and how long nothing was heard of it."""
    try:
        return str(json.loads(claim.read_text())["movie"]), time.time() - claim.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "", _SILENT_SECONDS


def _unwritable(folder: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"frames_dir: {folder} cannot be written: {error.strerror}. The frames that are there are kept; mend it, and a retry "
        "goes on from there."
    )


def survey_folder(folder: Path, plan: Plan, manifest: Manifest) -> Survey:
    """Compare a folder and its manifest with a plan."""
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
        elif not _is_same(entry, known.size, known.mtime, known.sha256):
            found.damaged.append(frame)
        else:
            found.done.add(frame)
    return found


def _is_same(entry: os.DirEntry[str], size: int, mtime: int, sha256: str) -> bool:
    status = entry.stat()
    if status.st_size != size:
        return False
    return status.st_mtime_ns == mtime or digest(Path(entry.path).read_bytes()) == sha256


def remove_frames(folder: Path) -> None:
    """Take away what a movie's rendering put into a folder, and the folder if nothing else is in it."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
