"""Frame stores: places where frames go, what is known of each frame, and what a resume finds of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from airflow_brayns.errors import Superseded
from airflow_brayns.movie.manifest import Header, Manifest
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.plan import listed as listed
from airflow_brayns.movie.used import UsedRecord

# the folder beside the frames for those that a changed movie has no use for any more, each name once
ASIDE = "set-aside"
SILENT_SECONDS = 60.0  # a holder that has not renewed its claim for so long is not there any more
SILENT_ON_CLUSTER_SECONDS = 180.0  # the same for one that renews it by commands on the cluster


@dataclass
class Survey:
    """The pictures of a movie (see `Plan.pictures`) as a resume found them.

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
        """The frames that are to be rendered, in order."""
        return sorted([*self.missing, *self.changed, *self.damaged])

    def text(self, plan: Plan) -> str:
        """A sentence for the log that tells what was found."""
        parts = [f"{len(self.done)} {plan.noun} are there already"] if self.done else []
        for name, frames in (("missing", self.missing), ("changed", self.changed), ("damaged", self.damaged)):
            if frames:
                parts.append(f"{len(frames)} {name} ({plan.listed(frames)})")
        return "; ".join(parts) or "nothing to render"


@dataclass(frozen=True)
class Made:
    """The making of a frame: which service rendered it, how, how long it took, and in which try (see `Ledger.holder`)."""

    seconds: float
    node: str
    job: str
    service: str
    version: str
    way: str
    holder: str = ""


class FrameStore(Protocol):
    """An interface: the place where frames go.

    :param outstanding: how many frames of one service may be on their way at once.
    """

    outstanding: int

    async def open(self) -> Manifest:
        """Take the place over, and read its manifest.

        :raises InvalidSetting: the place cannot be written, or another movie uses it.
        """
        ...

    async def survey(self, plan: Plan, manifest: Manifest) -> Survey:
        """Compare the frames that there are with those of a plan."""
        ...

    async def put_aside(self, plan: Plan) -> int:
        """Move what looks like a frame and is none of a plan's into the folder `set-aside`, and tell how many were
        moved.
        """
        ...

    async def begin(self, header: Header) -> None:
        """Write the header of all frames that follow into the manifest."""
        ...

    async def note(self, record: UsedRecord) -> None:
        """Write into the manifest what a try has used."""
        ...

    def shows(self, plan: Plan, done: Collection[int]) -> str:
        """Begin to show the movie while it is rendered, and tell where in words; empty where it is not shown.

        :param done: frames that are there already.
        """
        ...

    def file_path(self, plan: Plan, frame: int) -> str:
        """The path to which a service is to write a frame itself; empty where the image comes over the connection."""
        ...

    async def keep(self, plan: Plan, frame: int, data: bytes, made: Made) -> bool:
        """Check a frame, and write it and its line in the manifest.

        :param data: the image; empty where the service has written the file itself.
        :return: whether the frame is of one colour, where that is not to be seen in `data`.
        :raises RenderingFailed: the frame is not whole.
        :raises StorageFailed: the frame cannot be written.
        :raises Superseded: another holder writes to the place now.
        """
        ...

    async def close(self) -> None:
        """Give up the claim on the place."""
        ...


def claim_text(movie: str, host: str, pid: int) -> str:
    """The text of a worker's claim on a folder.

    :param movie: the movie whose frames go there; `coded` has it for frames.sh, which reads no JSON.
    """
    coded = base64.b64encode(movie.encode("utf-8", "replace")).decode()
    return json.dumps({"movie": movie, "host": host, "pid": pid, "coded": coded})


def read_claim(text: str) -> tuple[str, float]:
    """Read a claim on a folder, a worker's or one that frames.sh wrote: folders on the cluster may be mounted by workers.

    :return: the movie that it is for, and the seconds of silence after which nobody holds it any more; an empty text and 0
        where it is no claim.
    """
    try:
        if text.startswith("{"):
            return str(json.loads(text)["movie"]), SILENT_SECONDS
        movie = base64.b64decode(text.strip(), validate=True).decode("utf-8", "replace")
        return (movie, SILENT_ON_CLUSTER_SECONDS) if movie else ("", 0.0)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", 0.0


def superseded(folder: str, movie: str, by: str) -> Superseded:
    """The error for a folder that was taken over, which says by whom as far as that is known.

    :param movie: the movie that had it.
    :param by: the movie that has it; empty where no claim is there.
    """
    if by == movie:
        why = "another try of this movie has taken over"
    elif by:
        why = f"{by} has taken it over: nothing was heard of this task for {SILENT_SECONDS:.0f} s. Give each movie a folder of its own"
    else:
        # The next try first looks whether anything is left to do, and gives its claim up again before it renders.
        why = "this task's claim on it is gone: another try of this movie has taken it over, or somebody has emptied the folder"
    return Superseded(f"{folder}: {why}; this one stops.", field="frames_dir")
