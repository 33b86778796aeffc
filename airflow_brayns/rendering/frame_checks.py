"""Checks of frames that services have written on the cluster, in batches on whichever of its nodes answers."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.answers import decode, whole
from airflow_brayns.cluster.files import install
from airflow_brayns.errors import ConnectionLost, RenderingFailed, StorageFailed
from airflow_brayns.movie.ffmpeg import static_ffmpeg
from airflow_brayns.movie.frame_store import Made
from airflow_brayns.movie.manifest import FrameRecord
from airflow_brayns.movie.plan import Plan
from airflow_brayns.rendering.frames_script import FramesFolder, read_answer

_PROVED = re.compile(r"[0-9]{1,20} [0-9]{1,20} [0-9]{1,20}")
_BATCH_SECONDS = 1.0
_LARGEST_BATCH = 64
_STEP_SECONDS, _FRAME_SECONDS = 60.0, 4.0  # time to start a step, and for each of its frames on a busy node
_PATIENCE_SECONDS = 300.0  # time without an answer of any node, after which a check fails
_PAUSE_SECONDS = 2.0

# A node of an allocation.
Place = tuple[Allocation, str]


@dataclass
class _Waiting:
    plan: Plan
    frame: int
    made: Made
    result: asyncio.Future[bool]
    flat: bool = False


class FrameChecks:
    """A checker of a folder's frames; each frame gets its name, and its line in the manifest, when it has proved whole.

    :param ffmpeg: path of an ffmpeg that runs on the nodes.
    :param where: a function that tells the nodes that may check frames, each with its allocation, the newest first.
    """

    def __init__(self, folder: FramesFolder, ffmpeg: str, where: Callable[[], Sequence[Place]]) -> None:
        self._folder, self._ffmpeg, self._where = folder, ffmpeg, where
        self._proved, self._looked = "", False
        self._waiting: list[_Waiting] = []
        self._checking: asyncio.Task[None] | None = None

    async def check(self, plan: Plan, frame: int, made: Made) -> bool:
        """See `FrameStore.keep`. The first frame that is kept is also tested for being of one colour."""
        waiting = _Waiting(plan, frame, made, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check_all())
        return await waiting.result

    async def close(self) -> None:
        """Stop checking."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)

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
        """Check a batch on whichever node answers: a node that dies takes no frame with it, since the others check what
        it left. Where no node is there, one is waited for, as frames wait that are to be rendered.
        """
        left, failures = {one.frame: one for one in batch}, Counter[Place]()
        trouble, since = ConnectionLost("no node is there to check them on"), time.monotonic()
        while True:
            places = self._where()
            if places:
                place = min(places, key=lambda one: failures[one])
                before = len(left)
                trouble = await self._check_on(place, left)
                if not left:
                    return
                failures[place] += 1
                since = time.monotonic() if len(left) < before else since
            for_long = time.monotonic() - since > _PATIENCE_SECONDS and all(failures[one] for one in places)
            if for_long or not trouble.retry:  # a refused host key or login of the login node does not mend itself
                raise StorageFailed(
                    f"Frames on the cluster could not be checked: {trouble}",
                    remedy="See that the nodes can be reached; a retry goes on from here." if trouble.retry else "",
                    retry=trouble.retry,
                )
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _check_on(self, place: Place, left: dict[int, _Waiting]) -> ConnectionLost:
        """Have a node check frames, and take away those that it tells of; return why it does not tell of all.

        :raises Superseded: another holder writes to the folder now.
        :raises StorageFailed: nothing can be written to the folder.
        """
        allocation, node = place
        try:
            answer = await self._folder.cluster.run_step(
                allocation,
                self._script(left),
                node=node,
                timeout=_STEP_SECONDS + _FRAME_SECONDS * len(left),
            )
        except ConnectionLost as error:
            return error
        told, failed = await read_answer(answer), ""
        self._folder.check_taken(told)
        for word, fields in told:
            match word, fields:
                case "unwritable", _:
                    raise self._folder.unwritable()
                case "proved", _ if _PROVED.fullmatch(copy := " ".join(fields)):
                    self._proved = copy
                case "unproved", _:
                    await self._copy_anew()
                    failed = "that the copy of ffmpeg was cut off or changed and not run; it has been copied anew"
                case "failed", [why]:
                    failed = decode(why).strip()
                case "flat", [number] if (frame := whole(number)) is not None and frame in left:
                    left[frame].flat = True
                case "kept", [number]:
                    self._settle(left, number, None)
                case "refused", [number, why]:
                    self._settle(left, number, decode(why))
        said = failed or answer.strip()[-300:] or "nothing"
        return ConnectionLost(f"the step on {node or 'a node'} of job {allocation.job_id} said {said}")

    def _settle(self, left: dict[int, _Waiting], number: str, refused: str | None) -> None:
        """Tell whoever waits for a frame what became of it.

        :param refused: why the frame is not whole; None where it was kept.
        """
        frame = whole(number)
        if frame is None or frame not in left:
            return
        one = left.pop(frame)
        if one.result.done():
            return
        if refused is None:
            self._looked = self._looked or not one.flat
            one.result.set_result(one.flat)
        else:
            why = f"what the service wrote is no whole frame: {refused}"
            one.result.set_exception(RenderingFailed(why, frame=frame))

    async def _copy_anew(self) -> None:
        """Copy ffmpeg to the cluster anew, since the copy there is not what its name says."""
        self._proved = ""
        self._ffmpeg = await install(self._folder.cluster, Path(static_ffmpeg()))

    def _script(self, left: Mapping[int, _Waiting]) -> str:
        """The script that a node runs to check frames."""
        plan = next(iter(left.values())).plan
        width, height = plan.specification.resolution
        lines = [
            f"{frame} {self._folder.part(plan, frame)} {plan.file(frame)} {self._line(one)}"
            for frame, one in left.items()
        ]
        text, mark = "\n".join(lines), "END_OF_FRAMES"
        body = f"check_frames {width} {height} <<'{mark}'\n{text}\n{mark}"
        settings = {"ffmpeg": self._ffmpeg, "proved": self._proved, "look": "" if self._looked else "yes"}
        return self._folder.script(body, "ffmpeg", "check", **settings)

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
                made.holder,
            )
        )
        for name in ("sha256", "size", "mtime"):
            del record[name]
        return json.dumps(record, separators=(",", ":"))[:-1]
