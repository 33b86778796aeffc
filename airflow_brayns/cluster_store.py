"""Frames on the cluster's own file system, for when no worker mounts it: the services write them, a node checks them.

Only small messages cross the connection. There is no Python on the nodes: a static ffmpeg is copied over once and decodes
each frame in a step of the allocation; a frame gets its name when it has proved whole.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from airflow_brayns.cluster.allocation import Allocation, decode, whole
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.keeper import shell_text
from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors import BraynsError, ConnectionLost, InvalidSetting, RenderingFailed
from airflow_brayns.movie.manifest import FrameRecord, Header, Manifest
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.store import ASIDE, Made, StorageFailed, Survey, superseded

_SILENT_SECONDS = 180  # a claim that nobody has renewed for so long is nobody's
_BEAT_SECONDS = 45.0
_FRAME = re.compile(r"[0-9]{5,}\.(png|jpg)")
_BATCH_SECONDS = 1.0
_LARGEST_BATCH = 64
_CHECK_SECONDS = 600.0
_FOLDER = re.compile(r"/[^\0\n]*")
_LONGEST_PATH = 4095
_SEVERAL = 500  # files that are hashed anew at once


def check_folder(path: str, field: str = "frames_dir") -> str:
    """An absolute path on the cluster.

    :raises InvalidSetting: naming the field.
    """
    if len(path) > _LONGEST_PATH or not _FOLDER.fullmatch(path) or "/../" in f"{path}/":
        raise InvalidSetting(field, f"{path[:200]!r} is not an absolute path on the cluster's file system")
    quote(path, field)  # half a character is no path
    return path.rstrip("/") or "/"


@dataclass
class _Waiting:
    plan: Plan
    frame: int
    made: Made
    result: asyncio.Future[None]


class ClusterStore:
    """A folder on the cluster; a `Store`.

    :param cluster: where it is.
    :param folder: absolute path as login machine and nodes see it.
    :param ffmpeg: path of an ffmpeg that runs on the nodes.
    :param movie: whose frames these are: another movie that writes there is refused.
    :param token: of this driver.
    :param where: tells the allocation whose node checks; the newest first.
    """

    outstanding = 64  # a check takes seconds, and comes for many frames at once

    def __init__(
        self,
        cluster: Cluster,
        folder: str,
        ffmpeg: str,
        movie: str,
        token: str,
        where: Callable[[], Sequence[Allocation]],
    ) -> None:
        self._cluster, self._ffmpeg, self._movie, self._token, self._where = cluster, ffmpeg, movie, token, where
        self.folder = check_folder(folder)
        self._waiting: list[_Waiting] = []
        self._checking: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._there: dict[str, tuple[int, int]] = {}

    # ---- the store ---------------------------------------------------------------------------------------------
    async def open(self) -> Manifest:
        """See `Store.open`."""
        movie = base64.b64encode(self._movie.encode("utf-8", "replace")).decode()
        answer = await self._run(f"open_frames {quote(movie)} {_SILENT_SECONDS}", 300)
        lines = answer.split("\n")
        for line in lines:
            if line.startswith("unwritable "):
                raise InvalidSetting(
                    "frames_dir", f"{self.folder} cannot be written on the cluster; choose another folder"
                )
            if line.startswith("busy "):
                raise InvalidSetting(
                    "frames_dir",
                    f"{self.folder} is in use by {decode(line[5:])}; give each movie a folder of its own, or wait until that one "
                    "has ended",
                    retry=True,
                )
        if "opened" not in lines:
            raise ConnectionLost(f"{self.folder} could not be opened on the cluster: {answer[-300:]}")
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())
        return await self._read(lines)

    async def read(self) -> Manifest:
        """What is known of the folder, for who only reads: nothing is taken over.

        :raises ConnectionLost: the answer was cut off.
        """
        return await self._read((await self._run("read_frames", 300)).split("\n"))

    async def _read(self, lines: list[str]) -> Manifest:
        if "read" not in lines:
            raise ConnectionLost(f"{self.folder}: its manifest could not be read to its end.")
        told = [line[5:] for line in lines if line.startswith("line ")]
        return (await asyncio.to_thread(Manifest.read, told)).usable()

    async def _beat(self) -> None:
        """The claim is renewed by time, whether frames come or not."""
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            with contextlib.suppress(BraynsError):  # a connection that is lost comes back, or the claim grows old
                await self._run("renew_frames", 30)

    async def survey(self, plan: Plan, manifest: Manifest) -> Survey:
        """See `Store.survey`. A file of the size and time that were written down is not read again."""
        there = self._there = await self._listing()
        found = Survey()
        unsure: dict[str, int] = {}
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
        await self._hash(unsure, manifest, found)
        return found

    async def _listing(self) -> dict[str, tuple[int, int]]:
        """Size and time of each file that may be a frame; -1 of what is no file."""
        there: dict[str, tuple[int, int]] = {}
        for line in (await self._run("list_frames", 300)).split("\n"):
            match line.split(" "):
                case ["file", name, size, time] if (bytes_ := whole(size)) is not None:
                    there[name] = (bytes_, whole(time.partition(".")[0]) or 0)
                case ["odd", name]:
                    there[name] = (-1, 0)
        return there

    async def put_aside(self, plan: Plan) -> int:
        """See `Store.put_aside`."""
        wanted = set(map(plan.file, plan.frames))
        useless = [
            name
            for name, (size, _) in self._there.items()
            if _FRAME.fullmatch(name) and (name not in wanted or size < 0)
        ]
        moved = 0
        for begin in range(0, len(useless), _SEVERAL):
            some = useless[begin : begin + _SEVERAL]
            answer = await self._run(f"put_aside {ASIDE} {' '.join(some)}", 300)
            self._check_taken(answer)
            moved += answer.split("\n").count("moved")
            if "unwritable" in answer:
                raise self._unwritable()
        return moved

    async def _hash(self, unsure: dict[str, int], manifest: Manifest, found: Survey) -> None:
        names = list(unsure)
        for begin in range(0, len(names), _SEVERAL):
            some = names[begin : begin + _SEVERAL]
            hashes: dict[str, str] = {}
            for line in (await self._run(f"hash_frames {' '.join(quote(name) for name in some)}", 600)).splitlines():
                match line.split(" "):
                    case ["hash", name, sha256]:
                        hashes[name] = sha256
            for name in some:
                frame = unsure[name]
                if hashes.get(name) == manifest.frames[frame].sha256:
                    found.done.add(frame)
                else:
                    found.damaged.append(frame)

    async def begin(self, header: Header) -> None:
        """See `Store.begin`."""
        answer = await self._run(f"begin_frames {quote(header.line().rstrip())}", 60)
        self._check_taken(answer)
        if "begun" not in answer.split("\n"):
            raise self._unwritable()

    def file_path(self, plan: Plan, frame: int) -> str:
        """See `Store.file_path`."""
        return f"{self.folder}/{self._part(plan, frame)}"

    def _part(self, plan: Plan, frame: int) -> str:
        stem, _, suffix = plan.file(frame).rpartition(".")
        return f".{stem}.{self._token}.part.{suffix}"

    async def keep(self, plan: Plan, frame: int, data: bytes, made: Made) -> None:
        """See `Store.keep`."""
        waiting = _Waiting(plan, frame, made, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check_all())
        await waiting.result

    async def close(self) -> None:
        """See `Store.close`."""
        tasks = [task for task in (self._checking, self._beating) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._beating = None
        try:
            async with asyncio.timeout(4):
                await self._run("close_frames", 10)
        except (BraynsError, TimeoutError):
            pass  # the claim grows old by itself

    # ---- checking ----------------------------------------------------------------------------------------------
    async def _check_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(_BATCH_SECONDS)
            batch, self._waiting = self._waiting[:_LARGEST_BATCH], self._waiting[_LARGEST_BATCH:]
            try:
                await self._check(batch)
            except asyncio.CancelledError:
                for one in batch:
                    one.result.cancel()
                raise
            except Exception as error:
                for one in batch:
                    if not one.result.done():
                        one.result.set_exception(error)

    async def _check(self, batch: list[_Waiting]) -> None:
        plan = batch[0].plan
        width, height = plan.specification.resolution
        lines = [f"{one.frame} {self._part(plan, one.frame)} {plan.file(one.frame)} {self._line(one)}" for one in batch]
        text = "\n".join(lines)
        mark = "END_OF_FRAMES"
        answer = await self._on_a_node(f"check_frames {width} {height} <<'{mark}'\n{text}\n{mark}")
        by_frame = {one.frame: one.result for one in batch}
        self._check_taken(answer)
        for line in answer.split("\n"):
            verb, _, rest = line.partition(" ")
            number, _, told = rest.partition(" ")
            future = None if (frame := whole(number)) is None else by_frame.get(frame)
            if verb == "kept" and future is not None and not future.done():
                future.set_result(None)
            elif verb == "refused" and future is not None and not future.done():
                future.set_exception(RenderingFailed(f"what the service wrote is no whole frame: {decode(told)}"))
            elif verb == "unwritable":
                raise self._unwritable()
        for one in batch:
            if not one.result.done():
                one.result.set_exception(
                    StorageFailed(
                        f"Frame {one.frame} was not checked: the step said {answer.strip()[-300:] or 'nothing'}"
                    )
                )

    def _line(self, one: _Waiting) -> str:
        plan, made = one.plan, one.made
        record = asdict(
            FrameRecord(
                one.frame,
                plan.key(one.frame),
                plan.file(one.frame),
                "",
                0,
                0,
                round(made.seconds, 4),
                made.node,
                made.job,
                made.service,
                made.version,
                made.way,
                plan.scene,
            )
        )
        for name in ("sha256", "size", "mtime"):
            del record[name]
        return json.dumps(record, separators=(",", ":"))[:-1]

    async def _on_a_node(self, body: str) -> str:
        """In a step of one of the allocations; another one where the first is not there any more."""
        last: BraynsError = ConnectionLost("no allocation is there to check frames in")
        for _ in range(3):
            for allocation in self._where():
                try:
                    answer = await self._cluster.run_step(allocation, self._script(body), timeout=_CHECK_SECONDS)
                except ConnectionLost as error:
                    last = error
                    continue
                failed = re.search(r"^failed (\S*)$", answer, re.MULTILINE)
                if failed is None or re.search(r"^(kept|refused) ", answer, re.MULTILINE):
                    return answer
                last = ConnectionLost(f"a step of job {allocation.job_id} failed: {decode(failed[1]).strip()}")
            await asyncio.sleep(2)
        raise StorageFailed(f"Frames on the cluster could not be checked: {last}. A retry goes on from here.")

    def _script(self, body: str) -> str:
        head = f"dir={quote(self.folder)}\ntoken={quote(self._token)}\nffmpeg={quote(self._ffmpeg)}\n"
        return f"{head}{shell_text('frames')}\n{body}"

    async def _run(self, body: str, timeout: float) -> str:
        return await self._cluster.shell.run(self._script(body), timeout)

    def _check_taken(self, answer: str) -> None:
        """Frames that were kept before it was taken over stay kept."""
        for line in answer.split("\n"):
            if line.partition(" ")[0] == "superseded":
                raise superseded(self.folder, self._movie, decode(line.partition(" ")[2]))

    def _unwritable(self) -> StorageFailed:
        return StorageFailed(
            f"frames_dir: {self.folder} cannot be written on the cluster. The frames that are there are kept; mend it, "
            "and a retry goes on from there."
        )
