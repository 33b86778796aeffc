"""Movies for tests: a specification, a reporter that remembers, services from emulators."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from pathlib import Path
from typing import Any

from airflow_brayns.movie.frame_folder import FolderStore
from airflow_brayns.movie.frame_store import Made
from airflow_brayns.movie.interfaces import FixedServices, Progress, RenderService
from airflow_brayns.movie.ledger import Ledger
from airflow_brayns.movie.manifest import NAME
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.production import Outcome, Production
from airflow_brayns.movie.queue import FrameQueue
from airflow_brayns.movie.scene import SceneFacts
from airflow_brayns.movie.shared_state import SharedState
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.used import Used, UsedRecord


def specification(scene: Path, **changes: Any) -> MovieSpecification:
    values: dict[str, Any] = {
        "models": [{"path": str(scene)}],
        "resolution": [96, 64],
        "frames": 9,
        "renderer": {"name": "interactive"},
    }
    return MovieSpecification.check({**values, **changes})


class Remembers:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[Progress] = []
        self.notes: list[str] = []
        self.troubles: list[str] = []
        self.uses: list[tuple[Used, Used]] = []

    def progress(self, progress: Progress) -> None:
        self.steps.append(progress)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def said(self, line: str) -> None:
        self.notes.append(line)

    def trouble(self, text: str) -> None:
        self.troubles.append(text)

    def used(self, used: Used, total: Used) -> None:
        self.uses.append((used, total))

    @property
    def text(self) -> str:
        return "\n".join([*self.notes, *self.troubles])


def render_services(emulators: list[Any], **changes: Any) -> list[RenderService]:
    return [
        RenderService(**{"endpoint": one.endpoint, "name": f"brayns{number}", "node": f"node{number}", "version": "3.10.1", **changes})
        for number, one in enumerate(emulators, 1)
    ]  # fmt: skip


class KeptFrames:
    """A place for frames that takes what it is given.

    :param flat: frames of one colour.
    :param fails: raised at each frame, where it is set.
    """

    outstanding = 2

    def __init__(self) -> None:
        self.kept: dict[int, Made] = {}
        self.noted: list[UsedRecord] = []
        self.flat: tuple[int, ...] = ()
        self.fails: BaseException | None = None

    async def keep(self, plan: Plan, frame: int, data: bytes, made: Made) -> bool:
        if self.fails is not None:
            raise self.fails
        self.kept[frame] = made
        return frame in self.flat

    async def note(self, record: UsedRecord) -> None:
        self.noted.append(record)

    def file_path(self, plan: Plan, frame: int) -> str:
        return f"/frames/{plan.file(frame)}"


def sharing(frames: int, *services: RenderService, done: int = 0, **changes: Any) -> SharedState:
    """What workers share of a movie of so many frames, with these services at work; `store` and `told` are the test's to read."""
    told, store = Remembers(), KeptFrames()
    shared = SharedState(store, told, 300, Ledger())  # type: ignore[arg-type]
    shared.store, shared.told = store, told  # type: ignore[attr-defined]
    facts = SceneFacts.from_plain({"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0})
    plan = Plan(specification(Path("/a.obj"), frames=frames, **changes), facts, "scene")
    number = len(plan.pictures)
    shared.begin(plan, FrameQueue(deque(range(done, number)), number, done=done))
    for service in services:
        shared.joins(service)
    return shared


async def produce(
    spec: MovieSpecification, emulators: list[Any], folder: Path, *, token: str = "try1", **options: Any
) -> tuple[Outcome, Remembers]:
    told = options.pop("reporter", None) or Remembers()
    source = options.pop("source", None) or FixedServices(
        render_services(emulators, **options.pop("render_service", {}))
    )
    movie = options.pop("movie", "dag/run/task")
    outcome = await Production(spec, source, FolderStore(folder, movie, token), told, **options).run()
    return outcome, told


def records(folder: Path) -> list[dict[str, Any]]:
    """The manifest's lines about frames."""
    lines = [json.loads(line) for line in (folder / NAME).read_text().splitlines()]
    return [line for line in lines if "frame" in line]


def headers(folder: Path) -> list[dict[str, Any]]:
    """The manifest's headers; what was used may stand before the first one."""
    lines = [json.loads(line) for line in (folder / NAME).read_text().splitlines()]
    return [line for line in lines if "manifest" in line]


def check_whole(folder: Path, frames: int, *, doubles: int = 0) -> None:
    """Every frame there, as its record says; none rendered twice but for so many."""
    found = {record["frame"]: record for record in records(folder)}
    assert sorted(found) == list(range(frames))
    for record in found.values():
        assert hashlib.sha256((folder / record["file"]).read_bytes()).hexdigest() == record["sha256"], record
    assert len(records(folder)) - frames <= doubles
    assert not list(folder.glob(".*")), "nothing half-written is left"
