"""The DAG runs that are killed: what each is asked for, and how it goes on."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.cluster import USER
from tests.system.faults.bench import PLUGIN, Bench, Run, booking

INSTALLATION = "chaos"
IDLE_LIMIT = 30
REAPER_AFTER = 20  # seconds after the idle limit: what is there then is left to the reaper, as on a site
MARGIN = 80  # after the idle limit: what is there then is left behind
ENDED = ("success", "failed", "deleted")


@dataclass(eq=False)
class ChaosRun(Run):
    """One DAG run.

    :param home: its files.
    :param state_now: as it was last seen: Airflow's word for it, or `deleted`.
    :param ended_at: when it was seen to have ended; None while something is going on.
    :param clean_at: when nothing of it was left for the first time after that.
    :param reaped: whether the reaper was called for it.
    :param late_at: when something of it came all the same: of a submission that was under way.
    """

    home: Path = Path()
    started: float = field(default_factory=time.time)
    state_now: str = "queued"
    ended_at: float | None = None
    clean_at: float | None = None
    late_at: float = 0.0
    reaped: bool = False
    left: list[str] = field(default_factory=list)
    checked: set[str] = field(default_factory=set)
    acts: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.home

    @property
    def names(self) -> tuple[str, ...]:
        return (booking(self.dag_id, self.run_id, self.task_id, installation=INSTALLATION),)

    @property
    def is_movie(self) -> bool:
        return self.task_id == "movie"

    @property
    def active(self) -> bool:
        return self.ended_at is None

    def saw(self, state: str) -> None:
        """Its state, as Airflow tells it now."""
        self.state_now = state
        if state in ENDED:
            self.ended_at = self.ended_at or time.time()
        else:
            self.ended_at = self.clean_at = None

    def is_set_aside(self) -> bool:
        """Whether somebody marked the run failed, and Airflow (3.3.2) shows it as successful all the same, since what had not begun of it
        is skipped (seen: the mark came while the movie's task was queued). Then nothing says that there is a movie.
        """
        if not any(act.endswith("run marked failed") for act in self.acts):
            return False
        task = self.bench.airflow.api("GET", f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.task_id}")
        return bool(task["state"] == "skipped")

    def clear_all(self, task: str) -> None:
        """As the user interface clears a task: with what comes after it."""
        body = {"dry_run": False, "only_failed": False, "include_downstream": True, "dag_run_id": self.run_id}
        self.bench.api("POST", f"dags/{self.dag_id}/clearTaskInstances", {**body, "task_ids": [task]})


def make_run(bench: Bench, rng: random.Random, folder: Path, number: int) -> ChaosRun:
    """One of the kinds, with sizes of its own."""
    dag_id = rng.choices(("chaos_service", "chaos_blocking", "chaos_movie"), (40, 15, 45))[0]
    run_id = f"{folder.name}.{number:04d}.{dag_id.removeprefix('chaos_')}"
    home = folder / "runs" / run_id
    conf: dict[str, Any] = {"folder": str(home), "idle_limit": IDLE_LIMIT}
    if dag_id == "chaos_movie":
        conf |= {
            "specification": {
                "models": [{"path": f"/home/{USER}/cube.obj"}],
                "frames": rng.randint(12, 20),
                "resolution": [96, 64],
                "renderer": {"name": "interactive"},
            },
            "nodes": rng.choice((1, 1, 1, 2)),
            "emulator": f"snapshot_seconds=0,frame_seconds={rng.choice((0.1, 0.3))}",
        }
    else:
        conf |= {
            "plugins": [PLUGIN],
            "port": rng.choice(("0", "0", "5200-5239")),
            "emulator": f"snapshot_seconds=0,plugin_seconds={rng.choice((0.2, 1, 3))}",
        }
    return ChaosRun(bench, "chaos", dag_id, run_id, conf, INSTALLATION, home=home)
