"""Frames on the cluster's own file system, for when no worker mounts it: the services write them, and a node checks
them.

Only small messages cross the connection. There is no Python on the nodes: a static ffmpeg is copied over once and
decodes each frame in a step of the allocation; a frame gets its name when it has proved whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Collection, Sequence

from airflow_brayns.cluster.answers import coded, decode, whole
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors import BraynsError, ConnectionLost, InvalidSetting
from airflow_brayns.movie.frame_store import ASIDE, SILENT_ON_CLUSTER_SECONDS, Made, Survey
from airflow_brayns.movie.manifest import Header, Manifest
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.used import UsedRecord
from airflow_brayns.rendering.frame_checks import FrameChecks, Place
from airflow_brayns.rendering.frames_script import FramesFolder, Told, check_folder, read_answer

_BEAT_SECONDS = 45.0
_FRAME = re.compile(r"[0-9]{5,}\.(png|jpg)")
_SEVERAL = 500  # files that one command hashes

# The size and time of each entry of a folder that may be a frame, by its name; both are -1 for one that is no file.
_Listing = dict[str, tuple[int, int]]


class ClusterFrames:
    """A frame store that is a folder on the cluster.

    :param cluster: the cluster that the folder is on.
    :param folder: the folder's absolute path, as login machine and nodes see it.
    :param ffmpeg: path of an ffmpeg that runs on the nodes.
    :param movie: the movie whose frames these are; while it writes there, another movie is refused.
    :param token: the token of this holder of the folder.
    :param where: a function that tells the nodes that may check frames, each with its allocation, the newest first.
    """

    outstanding = 64  # a check takes seconds, and comes for many frames at once

    def __init__(
        self,
        cluster: Cluster,
        folder: str,
        ffmpeg: str,
        movie: str,
        token: str,
        where: Callable[[], Sequence[Place]],
    ) -> None:
        self.folder = check_folder(folder)
        self._place = FramesFolder(cluster, self.folder, movie, token)
        self._checks = FrameChecks(self._place, ffmpeg, where)
        self._beating: asyncio.Task[None] | None = None
        self._there: _Listing = {}

    # ---- the store ---------------------------------------------------------------------------------------------
    async def open(self) -> Manifest:
        """See `FrameStore.open`."""
        answer = await self._place.run(
            f"open_frames {quote(coded(self._place.movie))} {SILENT_ON_CLUSTER_SECONDS:.0f}", 300
        )
        told = await read_answer(answer)
        words = await asyncio.to_thread(_without_records, told)
        if "unwritable" in words:
            raise InvalidSetting(
                "frames_dir", f"{self.folder} cannot be written on the cluster.", remedy="choose another folder."
            )
        if busy := words.get("busy"):
            raise InvalidSetting(
                "frames_dir",
                f"{self.folder} is in use by {decode(busy[0]) or 'another movie'}.",
                remedy="give each movie a folder of its own, or wait until that one has ended.",
                retry=True,
            )
        if "opened" not in words:
            raise ConnectionLost(f"{self.folder} could not be opened on the cluster: {answer[-300:]}")
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())
        return await self._manifest(told)

    async def read(self) -> Manifest:
        """Read the manifest without taking the folder over, for those who only read.

        :raises ConnectionLost: the answer was cut off.
        """
        return await self._manifest(await self._ask("read_frames", 300))

    async def _ask(self, body: str, timeout: float) -> Told:
        return await read_answer(await self._place.run(body, timeout))

    async def _manifest(self, told: Told) -> Manifest:
        found = await asyncio.to_thread(_manifest_in, told)
        if found is None:
            raise ConnectionLost(f"{self.folder}: its manifest could not be read to its end.")
        return found

    async def _beat(self) -> None:
        """Renew the claim on the folder again and again, whether frames come or not."""
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            with contextlib.suppress(BraynsError):  # a lost connection comes back, or the claim grows old
                await self._place.run("renew_frames", 30)

    async def survey(self, plan: Plan, manifest: Manifest) -> Survey:
        """See `FrameStore.survey`. A file that has the size and time which the manifest tells is not read again."""
        answer = await self._ask("list_frames", 300)
        there = self._there = await asyncio.to_thread(_listing_in, answer)
        found, unsure = await asyncio.to_thread(_compare, plan, manifest, there)
        await self._hash(unsure, manifest, found)
        return found

    async def put_aside(self, plan: Plan) -> int:
        """See `FrameStore.put_aside`."""
        useless = await asyncio.to_thread(_useless, plan, self._there)
        moved = 0
        for begin in range(0, len(useless), _SEVERAL):
            some = useless[begin : begin + _SEVERAL]
            told = await self._ask(f"put_aside {ASIDE} {' '.join(some)}", 300)
            self._place.check_taken(told)
            moved += sum(word == "moved" for word, _ in told)
            if "unwritable" in dict(told):
                raise self._place.unwritable()
        return moved

    async def _hash(self, unsure: dict[str, int], manifest: Manifest, found: Survey) -> None:
        names = list(unsure)
        for begin in range(0, len(names), _SEVERAL):
            some = names[begin : begin + _SEVERAL]
            told = await self._ask(f"hash_frames {' '.join(quote(name) for name in some)}", 600)
            hashes = {fields[0]: fields[1] for word, fields in told if word == "hash"}
            for name in some:
                frame = unsure[name]
                if hashes.get(name) == manifest.frames[frame].sha256:
                    found.done.add(frame)
                else:
                    found.damaged.append(frame)

    async def begin(self, header: Header) -> None:
        """See `FrameStore.begin`."""
        await self._append(header.line())

    async def note(self, record: UsedRecord) -> None:
        """See `FrameStore.note`."""
        await self._append(record.line())

    async def _append(self, line: str) -> None:
        told = await self._ask(f"begin_frames {quote(line.rstrip())}", 60)
        self._place.check_taken(told)
        if "begun" not in dict(told):
            raise self._place.unwritable()

    def shows(self, plan: Plan, done: Collection[int]) -> str:
        """See `FrameStore.shows`; no picture comes here."""
        return ""

    def file_path(self, plan: Plan, frame: int) -> str:
        """See `FrameStore.file_path`."""
        return f"{self.folder}/{self._place.part(plan, frame)}"

    async def keep(self, plan: Plan, frame: int, data: bytes, made: Made) -> bool:
        """See `FrameStore.keep`. Whether a frame is of one colour is looked at until one is not."""
        return await self._checks.check(plan, frame, made)

    async def close(self) -> None:
        """See `FrameStore.close`."""
        await self._checks.close()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None
        try:
            async with asyncio.timeout(4):
                await self._place.run("close_frames", 10)
        except (BraynsError, TimeoutError):
            pass  # the claim grows old by itself


# What follows goes through a folder of a hundred thousand frames, and is called in threads: a triggerer's loop is many waits'.
def _without_records(told: Told) -> dict[str, list[str]]:
    """The lines of an answer by their words, without a manifest's."""
    return {word: fields for word, fields in told if word != "line"}


def _manifest_in(told: Told) -> Manifest | None:
    """The manifest in an answer; None where it does not tell that this is all of it."""
    lines = [fields[0] for word, fields in told if word == "line"]
    return Manifest.read(lines).usable() if ("read", []) in told else None


def _listing_in(told: Told) -> _Listing:
    """What an answer tells of a folder."""
    there: _Listing = {}
    for word, fields in told:
        match word, fields:
            case "file", [name, size, time] if (bytes_ := whole(size)) is not None:
                there[name] = (bytes_, whole(time.partition(".")[0]) or 0)
            case "odd", [name]:
                there[name] = (-1, 0)
    return there


def _compare(plan: Plan, manifest: Manifest, there: _Listing) -> tuple[Survey, dict[str, int]]:
    """Compare a folder and its manifest with a plan.

    :return: what was found; and, by their files' names, the frames whose files have another time than the manifest tells.
    """
    found, unsure = Survey(), dict[str, int]()
    for frame, key in plan.keyed_frames():
        known, file = manifest.frames.get(frame), there.get(plan.file(frame))
        if known is None or file is None:
            found.missing.append(frame)
        elif known.key != key or known.file != plan.file(frame):
            found.changed.append(frame)
        elif known.size != file[0]:
            found.damaged.append(frame)
        elif known.mtime // 1_000_000_000 != file[1]:
            unsure[plan.file(frame)] = frame
        else:
            found.done.add(frame)
    return found, unsure


def _useless(plan: Plan, there: _Listing) -> list[str]:
    """The names of what stands in a folder as a frame and is none of a plan's."""
    wanted = set(map(plan.file, plan.frames))
    return [name for name, (size, _) in there.items() if _FRAME.fullmatch(name) and (name not in wanted or size < 0)]
