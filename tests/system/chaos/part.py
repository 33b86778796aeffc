"""One part: the cluster and Airflow brought up, runs kept going, kills, and at the end everything accounted for."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.airflow import database
from tests.support.cluster import REPO, USER, bring_up, take_down
from tests.system.chaos.check import endpoint_trouble, movie_trouble, used
from tests.system.chaos.kills import Arena, Killer, resume_nodes, table_of_processes
from tests.system.chaos.ledger import Ledger
from tests.system.chaos.parts import DOUBLED, FOREIGN, GAPS, LEFT, NEVER, Finding, Part
from tests.system.chaos.runs import IDLE_LIMIT, INSTALLATION, MARGIN, REAPER_AFTER, ChaosRun, make_run
from tests.system.faults.bench import PLUGIN, QUICK, Bench, WatchedAirflow, prepare_home
from tests.system.faults.watch import at_the_login_node

FOLDER = REPO / "build" / "chaos"
DAGS = ("chaos_service", "chaos_blocking", "chaos_movie")
LONGEST = 240  # seconds that a run may take once nothing is killed any more
SETTINGS = {
    **QUICK,
    # A LocalExecutor's worker that is killed before its task runs tells nobody (3.3.2): the task stays queued until then.
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "150",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "20",
    "AIRFLOW__BRAYNS__INSTALLATION_ID": INSTALLATION,
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "3600",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "60",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
}
# What tasks need is imported once by the scheduler, whose workers are its forks: half of what a task costs here.
PRELOAD = """
import sys
if "scheduler" in sys.argv[1:2]:
    import asyncssh, numpy, PIL.Image, pydantic, websockets.asyncio.client  # noqa: E401, F401
"""


class KilledAirflow(WatchedAirflow):
    """One that leaves nothing, also of parts that were killed: a task that lost its supervisor, say."""

    def __init__(self, home: Path, dags: Path, environment: dict[str, str]) -> None:
        super().__init__(home, dags, environment)
        self._sessions: set[int] = set()

    def start_component(self, name: str) -> None:
        super().start_component(name)
        self._sessions |= {one.pid for one in (*self.components.values(), self._window) if one is not None}

    def stop(self) -> None:
        """Everything, by its session: what has set a title of its own shows no environment any more."""
        super().stop()
        for pid, (_, session) in table_of_processes().items():
            if session in self._sessions:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """The cluster, an Airflow of this part's own, and who watches."""
    cluster, ours = bring_up()
    try:
        prepare_home()
        (folder / "dags").mkdir(parents=True)
        (folder / "dags" / "chaos").symlink_to(Path(__file__).parent / "dags")
        small = {"memory": "100M", "cpus_per_task": 1, "poll_interval": 2}  # many jobs share a node
        airflow = KilledAirflow(folder / "airflow", folder / "dags", cluster.environment(**small))
        airflow.environment |= {
            **SETTINGS,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database(airflow.home)}?timeout=60",
        }
        (airflow.home / "config").mkdir()
        (airflow.home / "config" / "airflow_local_settings.py").write_text(PRELOAD)
        with Ledger(cluster) as watch:
            try:
                airflow.start_apart()
                one = Bench(cluster, airflow, watch)
                unpause(one)
                yield one
            finally:
                airflow.stop()
    finally:
        if ours:
            take_down()


def unpause(one: Bench) -> None:
    def known() -> bool:
        try:
            dags = one.airflow.api("GET", "dags?dag_id_pattern=chaos_&limit=100")["dags"]
        except urllib.error.URLError:
            return False
        return {dag["dag_id"] for dag in dags} >= {*DAGS, "chaos_reaper"}

    one.until(known, 120, "the DAGs are parsed", 1)
    for dag_id in (*DAGS, "chaos_reaper"):
        one.api("PATCH", f"dags/{dag_id}", {"is_paused": False})


@dataclass
class Play:
    """A part that is going on."""

    arena: Arena
    part: Part
    folder: Path
    killing: bool = True
    _asked: float = 0.0
    _told: float = 0.0
    _resumed: float = 0.0
    _reaper: float = 0.0
    _troubles: set[tuple[str, str, float | None]] = field(default_factory=set)
    _doubled: set[tuple[str, ...]] = field(default_factory=set)

    @property
    def bench(self) -> Bench:
        return self.arena.bench

    @property
    def ledger(self) -> Ledger:
        watch = self.bench.watch
        assert isinstance(watch, Ledger)
        return watch

    @property
    def active(self) -> list[ChaosRun]:
        return [run for run in self.arena.runs if run.active]

    # ---- one turn -----------------------------------------------------------------------------------------------
    def turn(self, killer: Killer) -> None:
        """Look, check, kill."""
        self.arena.due()
        if time.time() - self._asked > 2:
            self._asked = time.time()
            with contextlib.suppress(OSError, ValueError, KeyError):
                self.ask()
            self.arena.restart_what_ended()
            self.arena.forsaken()
        present = self.ledger.present()
        for run in self.arena.runs:
            self.check_endpoints(run)
            self.check_left(run, present)
        self.check_doubles()
        if time.time() - self._resumed > 15:
            self._resumed = time.time()
            resume_nodes(self.bench, self.arena.faulted)
        if self.killing:
            killer.turn()
        if time.time() - self._told > 30:
            self._told = time.time()
            print(self.text(), flush=True)

    def text(self) -> str:
        ended = [run for run in self.arena.runs if not run.active]
        return (
            f"{time.time() - self.arena.began:5.0f} s: {len(self.active)} going on, {len(ended)} ended, "
            f"{sum(self.arena.done.values())} kills, {self.part.endpoints} endpoints and {self.part.movies} movies checked, "
            f"{len(self.part.findings)} findings; load {os.getloadavg()[0]:.1f}"
        )

    def ask(self) -> None:
        """States of the runs, from Airflow."""
        body = {"dag_ids": list(DAGS), "states": ["queued", "running"], "page_limit": 100, "order_by": "-run_after"}
        going_on = {one["dag_run_id"] for one in self.bench.api("POST", "dags/~/dagRuns/list", body)["dag_runs"]}
        for run in self.arena.runs:
            if run.run_id in going_on:
                if run.state_now != "deleted":
                    run.saw("running")
            elif run.active:
                self.ended(run)

    def ended(self, run: ChaosRun) -> None:
        """It does not go on: how did it end?"""
        try:
            state = str(self.bench.airflow.api("GET", f"dags/{run.dag_id}/dagRuns/{run.run_id}")["state"])
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            state = "deleted"
        run.saw(state)
        if state == "success" and run.is_movie and not run.is_set_aside():
            self.part.movies += 1
            if trouble := movie_trouble(run.folder, run.conf["specification"]["frames"]):
                self.found(GAPS, run, trouble)

    def check_endpoints(self, run: ChaosRun) -> None:
        """What its tasks said of the endpoints that they were handed; once they have an answer, or have had time for one."""
        if run.is_movie or (run.ended_at is not None and time.time() - run.ended_at > 60):
            return
        for file, told in used(run.folder):
            if file.name in run.checked or (told["answer"] is None and time.time() - told["at"] < 20):
                continue
            run.checked.add(file.name)
            self.part.endpoints += told["answer"] is not None
            handed = self.handed(run, told)
            trouble, taken = endpoint_trouble(self.ledger, run.run_id, told, [PLUGIN], handed)
            self.part.taken += taken
            if (
                trouble and (run.run_id, told["endpoint"], handed) not in self._troubles
            ):  # each try of a task tells of it
                self._troubles.add((run.run_id, told["endpoint"], handed))
                self.found(FOREIGN, run, f"{trouble}; handed on at {handed}; {file.name}: {told}")

    def handed(self, run: ChaosRun, told: dict[str, Any]) -> float | None:
        """When an endpoint was handed on, by Airflow's own record; None where it was cleared since."""
        entry = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/brayns/xcomEntries/endpoint"
        try:
            found = self.bench.airflow.api("GET", entry)
        except OSError:
            return None
        at = datetime.fromisoformat(found["timestamp"]).timestamp()
        return at if told["endpoint"] in str(found["value"]) and at <= told["at"] else None

    def check_left(self, run: ChaosRun, present: set[str]) -> None:
        """Something of it that has outlived it for too long; it may also come late, of a submission under way."""
        if run.ended_at is None:
            return
        if run.names[0] not in present:
            if run.clean_at is None and self.ledger.fresh():
                run.clean_at = time.time()
                self.part.clean[run.run_id] = round(run.clean_at - run.ended_at, 1)
            return
        if run.clean_at is not None:  # it comes late: its own idle limit ends it
            run.clean_at, run.late_at = None, time.time()
        over = time.time() - max(run.ended_at, run.late_at)
        if over > IDLE_LIMIT + REAPER_AFTER and not run.reaped:
            run.reaped = True
            self.reap(run, over)
        if over > IDLE_LIMIT + MARGIN and not run.left:
            run.left = self.ledger.left_of(run.names)
            self.found(LEFT, run, f"{over:.0f} s after its end ({run.state_now}): {'; '.join(run.left)}")

    def reap(self, run: ChaosRun, over: float) -> None:
        """Airflow's own reaper is called, as it comes every quarter of an hour on a site."""
        text = (
            f"{run.run_id}, {over:.0f} s after its end ({run.state_now}): {'; '.join(self.ledger.left_of(run.names))}"
        )
        print(f"reaper called for {text}", flush=True)
        self.part.reaped.append(text)
        if time.time() - self._reaper < 20:
            return
        self._reaper = time.time()
        with contextlib.suppress(OSError):
            self.bench.api("POST", "dags/chaos_reaper/dagRuns", {"conf": {}, "logical_date": None})

    def check_doubles(self) -> None:
        for one in self.ledger.overlaps:
            if one.last - one.first < 2 or (one.part, *one.ids) in self._doubled:
                continue
            for run in self.arena.runs:
                if one.part.startswith(run.names):
                    self._doubled.add((one.part, *one.ids))
                    text = f"{sorted(one.names)} ran at once, as jobs {', '.join(one.ids)}, since {one.first - self.arena.began:.1f} s"
                    self.found(DOUBLED, run, text)

    # ---- findings -----------------------------------------------------------------------------------------------
    def found(self, kind: str, run: ChaosRun, text: str) -> None:
        at = round(time.time() - self.arena.began, 1)
        finding = Finding(kind, self.part.seed, at, run.run_id, text, list(self.arena.told), str(run.folder))
        self.part.findings.append(finding)
        print(f"FOUND {kind}: {run.run_id} at {at} s: {text}", flush=True)
        run.folder.mkdir(parents=True, exist_ok=True)
        told = {"text": text, "kills": finding.kills, "acts": run.acts, "conf": run.conf, "state": run.state_now}
        (run.folder / f"finding.{kind.replace(' ', '_')}.json").write_text(json.dumps(told, indent=1))
        for state in Path(f"/home/{USER}/.airflow-brayns").glob(f"{run.names[0]}*"):
            with contextlib.suppress(OSError, shutil.Error):  # files come and go
                shutil.copytree(state, run.folder / f"state.{state.name}", dirs_exist_ok=True)
        log = self.bench.cluster.folder / "log" / "slurmctld.log"
        with contextlib.suppress(OSError):
            (run.folder / "slurmctld.log").write_text(log.read_text(errors="replace")[-200_000:])

    def rest(self) -> None:
        """What only the end can tell: runs that never ended, what sacct says of doubles, what nobody knows of."""
        for run in self.active:
            tasks: object = "?"
            with contextlib.suppress(OSError):
                tasks = self.bench.airflow.tasks(run.dag_id, run.run_id)
            self.found(NEVER, run, f"still {run.state_now}, tasks {tasks}")
        doubled = {one.run_id for one in self.part.findings if one.kind == DOUBLED}
        by_sacct = self.ledger.told_overlaps()
        for run in self.arena.runs:
            if run.run_id not in doubled and (told := by_sacct.get(run.names[0])):
                self.found(DOUBLED, run, f"by sacct: {'; '.join(told)}")


def play(seed: int, runs: int, at_once: int, seconds: float, every: float, only: Sequence[str]) -> Part:
    """One part, from nothing to nothing."""
    began = time.time()
    part = Part(seed, datetime.now(UTC).isoformat(timespec="seconds"))
    folder = FOLDER / str(seed)
    shutil.rmtree(folder, ignore_errors=True)
    rng = random.Random(seed)
    with bench(folder) as one:
        arena = Arena(one, rng, [])
        arena.schedulers.add(one.airflow.components["scheduler"].pid)
        playing = Play(arena, part, folder)
        print(f"seed {seed}: ready after {time.time() - began:.0f} s; at most {runs} runs", flush=True)
        try:
            _go(playing, Killer(arena, every, only), runs, at_once, began + seconds)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            traceback.print_exc()
            part.interrupted = f"{type(error).__name__}: {error}"
        finally:
            arena.due(everything=True)
        for run in arena.runs:
            part.kinds[run.dag_id] += 1
            if not run.active:
                part.ended[run.state_now] += 1
        part.kills, part.ended_by_itself = arena.done, arena.ended_by_itself
        part.minutes = round((time.time() - began) / 60, 2)
        (folder / "kills.txt").write_text("\n".join(arena.told) + "\n")
        if not part.interrupted and (words := at_the_login_node(one.cluster, USER)):
            print("at the login node:", *words, sep="\n    ", flush=True)
    return part


def _go(playing: Play, killer: Killer, runs: int, at_once: int, end: float) -> None:
    """Keep runs going while there is time; then let the rest end, with kills while many go on."""
    arena, part = playing.arena, playing.part
    while len(arena.runs) < runs and time.time() < end - 150:
        # A few at a time: what is asked for at once is not yet going on.
        for _ in range(min(4, at_once - len(playing.active), runs - len(arena.runs))):
            _start(playing)
        playing.turn(killer)
        part.at_once.append(len(playing.active))
        time.sleep(0.5)
    limit = time.time() + LONGEST
    while time.time() < limit and any(run.active or (run.clean_at is None and not run.left) for run in arena.runs):
        playing.killing = len(playing.active) >= at_once // 2 and time.time() < end - 110
        playing.turn(killer)
        time.sleep(0.5)
    print(playing.text(), flush=True)
    playing.rest()


def _start(playing: Play) -> None:
    arena = playing.arena
    run = make_run(arena.bench, arena.rng, playing.folder, len(arena.runs) + 1)
    arena.runs.append(run)
    for _ in range(3):  # Airflow's API may be busy
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            body = {"conf": run.conf, "logical_date": None, "dag_run_id": run.run_id}
            arena.bench.api("POST", f"dags/{run.dag_id}/dagRuns", body)
            return
        except urllib.error.HTTPError as error:
            if error.code == 409:  # it had been made all the same
                return
            print(f"{run.run_id} is not started: {error}", file=sys.stderr, flush=True)
        except OSError as error:
            print(f"{run.run_id} is not started: {error}", file=sys.stderr, flush=True)
            time.sleep(1)
    arena.runs.remove(run)
