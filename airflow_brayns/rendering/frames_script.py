"""Scripts for a folder of frames on the cluster: the settings that they read, and what each of their answers may tell."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from airflow_brayns.cluster import protocol
from airflow_brayns.cluster.answers import decode
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.scripts import script_of
from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors import InvalidSetting, StorageFailed
from airflow_brayns.movie.fields import path_problem
from airflow_brayns.movie.frame_store import superseded
from airflow_brayns.movie.plan import Plan

_FOLDER = re.compile(r"/[^\0\n]*")
_LONGEST_PATH = 4095

ANSWERS = protocol.lines(
    "opened", "busy MOVIE*", "line RECORD...", "read", "superseded MOVIE*...", "unwritable FOLDER*...", "begun", "moved",
    "file NAME SIZE TIME", "odd NAME", "hash NAME SHA256", "kept FRAME", "refused FRAME WHY*",
    "proved INODE TIME SIZE", "unproved", "failed WHY*", "flat FRAME",
)  # fmt: skip


# The lines of an answer that are of the table, each as its word and its fields.
Told = Sequence[tuple[str, list[str]]]


async def read_answer(answer: str) -> Told:
    """Read what scripts of this room have printed; a line that is not of the table is passed over. A manifest may have
    100,000 lines, so a thread reads.
    """
    return await asyncio.to_thread(lambda: list(protocol.read(ANSWERS, answer)))


@cache
def frames_script(*files: str) -> str:
    """The text of frames.sh and of further files of this room, named without their `.sh`."""
    return script_of("others") + "".join(file_text(name) for name in ("frames", *files))


@cache
def file_text(name: str) -> str:
    """The text of one of this room's scripts, named without its `.sh`."""
    return (Path(__file__).parent / f"{name}.sh").read_text()


def check_folder(path: str, field: str = "frames_dir") -> str:
    """Check an absolute path on the cluster, and return it without slashes at its end.

    :raises InvalidSetting: the path is not absolute, or cannot be one; the error names `field`.
    """
    if len(path) > _LONGEST_PATH or not _FOLDER.fullmatch(path) or "/../" in f"{path}/":
        raise InvalidSetting(
            field, f"{path[:200]!r} is not one.", remedy="write an absolute path on the cluster's file system."
        )
    if problem := path_problem(path):
        raise InvalidSetting(field, f"{problem}.", remedy="write an absolute path on the cluster's file system.")
    quote(path, field)  # half a character is no path
    return path.rstrip("/") or "/"


@dataclass(frozen=True)
class FramesFolder:
    """A folder of frames on the cluster, in the hands of one holder.

    :param path: the folder's absolute path, as login machine and nodes see it.
    :param movie: the movie whose frames these are.
    :param token: the token of this holder.
    """

    cluster: Cluster
    path: str
    movie: str
    token: str

    def script(self, body: str, *files: str, **settings: str) -> str:
        """A script of calls: the settings, the functions of frames.sh and of further files of this room, and the calls.

        :param body: the calls, one a line.
        :param settings: the settings that those files read beyond the folder and its holder.
        """
        known = {"dir": self.path, "token": self.token, **settings}
        head = "".join(f"{name}={quote(value)}\n" for name, value in known.items())
        return f"{head}{frames_script(*files)}{body}"

    async def run(self, body: str, timeout: float) -> str:
        """Run calls of frames.sh on the login machine, and return what they print."""
        return await self.cluster.shell.run(self.script(body), timeout)

    def part(self, plan: Plan, frame: int) -> str:
        """The name under which a service writes a frame into this folder, before it is checked."""
        stem, _, suffix = plan.file(frame).rpartition(".")
        return f".{stem}.{self.token}.part.{suffix}"

    def check_taken(self, told: Told) -> None:
        """Raise an error where an answer tells that the folder was taken over; frames that were kept before stay kept.

        :raises Superseded: another holder writes to the folder now.
        """
        for word, fields in told:
            if word == "superseded":
                raise superseded(self.path, self.movie, decode(fields[0]))

    def unwritable(self) -> StorageFailed:
        """The error for a folder that cannot be written."""
        return StorageFailed(
            f"{self.path} cannot be written on the cluster.",
            remedy="make it writable, or make room; a retry goes on from the frames that are there.",
            field="frames_dir",
        )
