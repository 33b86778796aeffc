"""A row of the table - one fault at one stage - and how it comes about: park the runs, do the fault, judge what comes of them."""

from __future__ import annotations

import contextlib
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.system.faults.bench import Bench, Run
from tests.system.faults.stages import STAGES, make_run, park

HALF_AS_FAST = 2  # a machine with another process on one of its two cores


@dataclass(frozen=True)
class Row:
    """What must come of a run that is at `stage` when the fault comes.

    :param stage: one of `STAGES`.
    :param ends: state of the stage's task and of the run in the end, `task/run`; a pattern.
    :param reads: pattern of what the user finds in the logs.
    :param jobs: how many jobs may ever be submitted: least and most.
    :param deadline: seconds after the fault in which the end is to be reached and nothing be left; it is waited for `HALF_AS_FAST`
        times as long, since the machine may be busy.
    :param dag_id: another DAG than the stage's.
    :param task: whose state tells the end, where it is not the stage's own.
    :param conf: changes to the run's conf.
    """

    stage: str
    ends: str
    reads: str
    jobs: tuple[int, int] = (1, 1)
    deadline: float = 90
    dag_id: str = ""
    task: str = ""
    conf: dict[str, Any] = field(default_factory=dict)

    @property
    def judged(self) -> str:
        """The task whose state counts."""
        return self.task or ("movie" if "movie" in self.dag_id else STAGES[self.stage].task)


@dataclass(frozen=True)
class Scene:
    """The runs of a fault, all at their stages."""

    bench: Bench
    runs: dict[str, Run]

    def __iter__(self) -> Any:
        return iter(self.runs.values())

    @property
    def only(self) -> Run:
        [run] = self.runs.values()
        return run

    @property
    def node(self) -> str:
        """Where the first service runs."""
        return self.bench.until(lambda: [m for run in self for m, _ in run.services()], 20, "a service runs")[0]


@dataclass(frozen=True)
class Fault:
    """Something that breaks, or that somebody does.

    :param name: of its rows.
    :param act: does it and, where it passes, undoes it; runs go on from their stages after it.
    :param rows: what must come of it at each stage.
    :param alone: it hits the whole cluster or the whole Airflow, so that nothing else may be under way.
    :param node: which node it needs for itself.
    :param before: what has to be there before the runs begin.
    :param after: undoes what has to stay until the rows are judged.
    :param stays: the runs are not let go on by themselves after it.
    """

    name: str
    act: Callable[[Scene], None]
    rows: tuple[Row, ...]
    alone: bool = False
    node: str = ""
    before: Callable[[Bench], None] | None = None
    after: Callable[[Scene], None] | None = None
    stays: bool = False


@dataclass
class Outcome:
    """A row as it came out."""

    row: str
    stage: str
    expected: str
    got: str = "?"
    jobs: int = 0
    allowed: tuple[int, int] = (1, 1)
    alive: int = 0
    left: list[str] = field(default_factory=list)
    deadline: float = 0
    clean_after: float | None = None
    reads: str = ""
    read: bool = False
    trouble: str = ""

    @property
    def name(self) -> str:
        return f"{self.row}/{self.stage}"

    @property
    def doubled(self) -> bool:
        return self.alive > 1

    @property
    def wrong(self) -> bool:
        in_order = self.allowed[0] <= self.jobs <= self.allowed[1] and self.read
        return bool(self.trouble) or not in_order or re.fullmatch(self.expected, self.got) is None


class TooEarly(Exception):  # noqa: N818
    """A run had come to its end before the fault came: on a busy machine the others were long in coming."""


def play(bench: Bench, fault: Fault, rows: list[Row]) -> list[Outcome]:
    """All rows of a fault: its runs stand at their stages when it comes, else they are brought there once more."""
    for _ in range(2):
        with contextlib.suppress(TooEarly):
            return _play(bench, fault, rows, last=False)
    return _play(bench, fault, rows, last=True)


def _play(bench: Bench, fault: Fault, rows: list[Row], *, last: bool) -> list[Outcome]:
    runs = [make_run(bench, fault.name, STAGES[row.stage], row.dag_id, dict(row.conf)) for row in rows]
    scene = Scene(bench, {run.stage: run for run in runs})
    outcomes = [_blank(fault, row) for row in rows]
    try:
        if fault.before:
            fault.before(bench)
        park(bench, runs)
        if over := [run.run_id for run in runs if run.state() not in ("queued", "running")]:
            raise TooEarly(f"over before the fault came: {', '.join(over)}")
        fault.act(scene)
        began = time.time()
        _await(bench, fault, list(zip(rows, runs, outcomes, strict=True)), began)
    except Exception as error:
        if isinstance(error, TooEarly) and not last:
            raise
        traceback.print_exc()
        for row, run, outcome in zip(rows, runs, outcomes, strict=True):
            judge(bench, row, run, outcome, time.time())
            outcome.trouble = f"{type(error).__name__}: {error}"
    finally:
        if fault.after:
            with contextlib.suppress(Exception):
                fault.after(scene)
        for run in runs:
            sweep(bench, run)
    return outcomes


def _blank(fault: Fault, row: Row) -> Outcome:
    return Outcome(fault.name, row.stage, row.ends, allowed=row.jobs, deadline=row.deadline, reads=row.reads)


def ended(row: Row, run: Run) -> bool:
    """Whether the run has come to the end that is expected, nothing of it is left, and its logs tell of it."""
    got = f"{run.state(row.judged)}/{run.state()}"
    return re.fullmatch(row.ends, got) is not None and not run.bench.watch.left(run.names) and told(row, run)


def told(row: Row, run: Run) -> bool:
    """Whether the user finds in the logs what the row says."""
    return re.search(row.reads, run.log(), re.DOTALL) is not None


def _await(bench: Bench, fault: Fault, open_rows: list[tuple[Row, Run, Outcome]], began: float) -> None:
    """Judge each row when it has come to its end, or its deadline has passed."""
    ended_at: dict[str, float] = {}
    while open_rows:
        time.sleep(0.5)
        now = time.time()
        for row, run, outcome in list(open_rows):
            if not fault.stays:
                run.go_on()
            if ended(row, run):
                ended_at.setdefault(run.run_id, now)
            else:
                ended_at.pop(run.run_id, None)
            # Not at once: a retry might still begin.
            if now - ended_at.get(run.run_id, now) > 2.5 or now - began > HALF_AS_FAST * row.deadline:
                judge(bench, row, run, outcome, began)
                open_rows.remove((row, run, outcome))


def judge(bench: Bench, row: Row, run: Run, outcome: Outcome, began: float) -> None:
    """Fill in what came of it."""
    outcome.got = f"{run.state(row.judged)}/{run.state()}"
    outcome.left = bench.watch.left(run.names)
    outcome.alive = bench.watch.most_alive(run.names)
    outcome.jobs = bench.watch.ever(run.names)
    outcome.clean_after = None if outcome.left else max(0.0, bench.watch.clean_since(run.names) - began)
    outcome.read = told(row, run)


def sweep(bench: Bench, run: Run) -> None:
    """Take away what a row left, so that the next ones are not disturbed."""
    if run.state() in ("running", "queued"):
        with contextlib.suppress(OSError):
            run.patch({"state": "failed"})
    run.go_on()
    for job in bench.watch.queued(run.names):
        bench.on("slurmctl", "scancel", job.job_id)
    bench.forget(run)
