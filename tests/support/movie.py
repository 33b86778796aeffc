"""Movies for tests: a specification, a reporter that remembers, stations from emulators."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from airflow_brayns.movie.manifest import NAME
from airflow_brayns.movie.production import Outcome, Production
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.store import FolderStore
from airflow_brayns.movie.supply import FixedSupply, Progress, Station


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

    def progress(self, progress: Progress) -> None:
        self.steps.append(progress)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trouble(self, text: str) -> None:
        self.troubles.append(text)

    @property
    def text(self) -> str:
        return "\n".join([*self.notes, *self.troubles])


def stations(emulators: list[Any], **changes: Any) -> list[Station]:
    return [
        Station(**{"endpoint": one.endpoint, "name": f"brayns{number}", "node": f"node{number}", "version": "3.10.1", **changes})
        for number, one in enumerate(emulators, 1)
    ]  # fmt: skip


async def produce(
    spec: MovieSpecification, emulators: list[Any], folder: Path, *, token: str = "try1", **options: Any
) -> tuple[Outcome, Remembers]:
    told = options.pop("reporter", None) or Remembers()
    supply = options.pop("supply", None) or FixedSupply(stations(emulators, **options.pop("station", {})))
    movie = options.pop("movie", "dag/run/task")
    outcome = await Production(spec, supply, FolderStore(folder, movie, token), told, **options).run()
    return outcome, told


def records(folder: Path) -> list[dict[str, Any]]:
    """The manifest's lines about frames."""
    lines = [json.loads(line) for line in (folder / NAME).read_text().splitlines()]
    return [line for line in lines if "frame" in line]


def check_whole(folder: Path, frames: int, *, doubles: int = 0) -> None:
    """Every frame there, as its record says; none rendered twice but for so many."""
    found = {record["frame"]: record for record in records(folder)}
    assert sorted(found) == list(range(frames))
    for record in found.values():
        assert hashlib.sha256((folder / record["file"]).read_bytes()).hexdigest() == record["sha256"], record
    assert len(records(folder)) - frames <= doubles
    assert not list(folder.glob(".*")), "nothing half-written is left"
