"""A movie of 300 frames, killed at ten different moments: Airflow's own retry goes on, and every frame is there once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from airflow_brayns.movie.ffmpeg import ffmpeg
from tests.support.airflow import BIN, Airflow
from tests.support.cluster import NODES, REPO, TestCluster
from tests.support.movie import check_whole, records

pytestmark = pytest.mark.slurm
FRAMES, NODES_EACH = 300, 2
IN_FLIGHT = 2 * NODES_EACH  # frames that services may be at when a driver dies


class Movie:
    """A run of the test DAG."""

    def __init__(self, airflow: Airflow, slurm: TestCluster, folder: Path, **changes: Any) -> None:
        self.airflow, self.slurm, self.folder = airflow, slurm, folder
        self.frames = folder / "frames"
        specification = {
            "models": [{"path": slurm.scene.replace("neuron.swc", "cube.obj")}],
            "frames": FRAMES,
            "resolution": [128, 72],
        }
        self.conf = {"specification": specification, "folder": str(folder), "nodes": NODES_EACH, **changes}
        self.run = ""

    def start(self) -> Movie:
        self.run = self.airflow.trigger("test_movie", self.conf)
        return self

    def done(self) -> int:
        return len(records(self.frames)) if (self.frames / "manifest.jsonl").exists() else 0

    def until(self, frames: int) -> None:
        self.airflow.until(
            lambda: self.done() >= frames, 240, f"{frames} frames of {self.run}, whose nodes may have to be waited for"
        )

    def log(self) -> str:
        """Of all tries: on a busy machine Airflow itself may end one (its race with a quick deferral)."""
        found = []
        for attempt in range(1, self.tries() + 1):
            with suppress(HTTPError):  # while a try is on its way
                found.append(self.airflow.log("test_movie", self.run, "movie", attempt))
        return "\n".join(found)

    def driver(self) -> int:
        """The process that renders: the worker's."""

        def claimed() -> int:
            for claim in self.frames.glob(".driver-*"):
                try:
                    pid = int(json.loads(claim.read_text())["pid"])
                except (OSError, ValueError):
                    continue
                if Path(f"/proc/{pid}").exists():
                    return pid
            return 0

        return int(self.airflow.until(claimed, 240, "a worker renders"))

    def jobs(self) -> list[str]:
        """Ids of this movie's jobs that run."""
        allocation = self.airflow.xcom("test_movie", self.run, "movie", "allocation")
        return [one["job_id"] for one in allocation["allocations"]]

    def services(self, job: str) -> list[tuple[str, str]]:
        """Machine and pid of its braynsServices."""
        found = []
        for machine in NODES:
            for line in self.slurm.run(machine, "ps", "-wweo", "pid,args").splitlines():
                pid, _, command = line.strip().partition(" ")
                if "airflow_brayns.emulator" not in command:
                    continue
                environment = self.slurm.run(machine, "sh", "-c", f"cat /proc/{pid}/environ || true")
                if f"SLURM_JOB_ID={job}\0" in environment:
                    found.append((machine, pid))
        return found

    def check(self, *, tries: int | None = None, doubles: int = IN_FLIGHT) -> None:
        """It ended whole: frames, hashes, doubles, the movie itself; and by how many tries."""
        assert self.airflow.finished("test_movie", self.run, 240) == "success", self.log()
        check_whole(self.frames, FRAMES, doubles=doubles)
        movie = self.folder / "movie.mp4"
        told = subprocess.run(
            [ffmpeg(), "-i", movie, "-f", "null", "-"], capture_output=True, text=True, check=True
        ).stderr
        assert f"frame={FRAMES:5}" in told
        assert tries in (None, self.tries())

    def tries(self) -> int:
        """How often the task was started."""
        [task] = self.airflow.api("GET", f"dags/test_movie/dagRuns/{self.run}/taskInstances")["task_instances"]
        return int(task["try_number"])


@pytest.fixture
def movie(airflow: Airflow, running_slurm: TestCluster, tmp_path: Path) -> Callable[..., Movie]:
    (Path(running_slurm.scene).parent / "cube.obj").write_bytes((REPO / "tests" / "data" / "cube.obj").read_bytes())

    def make(name: str = "one", **changes: Any) -> Movie:
        return Movie(airflow, running_slurm, tmp_path / name, **changes)

    return make


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def at_once(*harms: Callable[[], Any]) -> None:
    """Each in a thread of its own: a movie must not come to its end while another is waited for."""
    with ThreadPoolExecutor(len(harms)) as pool:
        for harm in [pool.submit(one) for one in harms]:
            harm.result()


def test_workers_killed_at_four_moments(movie: Any, running_slurm: TestCluster) -> None:
    """By SIGKILL: before the first frame, in the middle, with its supervisor (as by the loss of a machine), at the last frames."""
    # A node for each: none has to wait for another's.
    pace = {"early": 0.1, "middle": 0.1, "whole": 0.1, "late": 0.2}
    early, middle, whole, late = (
        movie(name, nodes=1, emulator=f"snapshot_seconds=0,frame_seconds={seconds}").start()
        for name, seconds in pace.items()
    )

    def kill(one: Movie, frames: int, *, supervisor: bool = False) -> None:
        one.until(frames)
        runner = one.driver()
        for pid in [parent_of(runner), runner] if supervisor else [runner]:
            os.kill(pid, signal.SIGKILL)

    at_once(
        partial(kill, early, 0),
        partial(kill, middle, 100),
        partial(kill, whole, 50, supervisor=True),
        partial(kill, late, 290),
    )
    for one in (early, middle, whole, late):
        one.check(tries=2)
    running_slurm.empty(15)


def test_services_killed_and_a_time_limit(movie: Any, running_slurm: TestCluster) -> None:
    """One service: no retry is needed. All of them, twice: one is. The allocation's time limit: one is."""
    one, all_of_them, limited = (
        movie(name, nodes=nodes).start() for name, nodes in {"one": 2, "all": 2, "limited": 1}.items()
    )

    def kill_one() -> None:
        one.until(60)
        machine, pid = one.services(one.jobs()[0])[0]
        running_slurm.run(machine, "kill", "-KILL", pid)

    def limit() -> None:
        limited.until(60)
        for job in limited.jobs():
            running_slurm.run("slurmctl", "scontrol", "update", f"JobId={job}", "TimeLimit=1")

    def kill_all() -> None:
        all_of_them.until(60)
        jobs = all_of_them.jobs()  # asked for once: a try that begins has pushed nothing yet

        def kill_them() -> bool:  # each is started anew once on its node; then none is left
            for job in jobs:
                for machine, pid in all_of_them.services(job):
                    with suppress(subprocess.CalledProcessError):  # it may have ended by itself
                        running_slurm.run(machine, "kill", "-KILL", pid)
            return all_of_them.tries() > 1

        all_of_them.airflow.until(kill_them, 120, "the second try has begun")

    at_once(kill_one, limit, kill_all)
    one.check(tries=1)
    all_of_them.check(doubles=3 * IN_FLIGHT)
    limited.check(doubles=2 * IN_FLIGHT)
    running_slurm.empty(15)


def test_a_full_disk_and_ssh_cut(movie: Any, running_slurm: TestCluster, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        full, cut = movie("disk").start(), movie("cut").start()

        def fill_it() -> None:
            full.until(40)
            fill(disk / "filler")

        def cut_it() -> None:
            cut.until(40)
            running_slurm.fault("sshreset", "login")
            time.sleep(2)  # what is cut is to be noticed; it is back before the tries are used up
            running_slurm.fault("sshback", "login")

        at_once(fill_it, cut_it)
        full.airflow.until(
            lambda: "No space left on device" in full.log(),
            240,
            lambda: f"the disk is full; {full.log()}",
        )
        (disk / "filler").unlink()
        full.check()
        cut.check()
    running_slurm.empty(15)


def fill(path: Path) -> None:
    """Until there is no space left."""
    with suppress(OSError), path.open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)


@contextmanager
def small_disk(folder: Path) -> Any:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_node_switched_off(movie: Any, running_slurm: TestCluster) -> None:
    one = movie("node").start()
    one.until(60)
    machine, _ = one.services(one.jobs()[0])[0]
    running_slurm.fault("poweroff", machine)
    try:
        one.check(doubles=2 * IN_FLIGHT)
    finally:
        running_slurm.fault("poweron", machine)
        running_slurm.back(machine)
    running_slurm.empty(240)


def test_ctrl_c(running_slurm: TestCluster, tmp_path: Path) -> None:
    """`airflow dags test`, interrupted: the nodes are given back, and its own retry goes on."""
    home = tmp_path / "airflow"
    environment = {
        **os.environ,
        **running_slurm.environment(poll_interval=2),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPO / "tests" / "system" / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    subprocess.run([BIN / "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    (Path(running_slurm.scene).parent / "cube.obj").write_bytes((REPO / "tests" / "data" / "cube.obj").read_bytes())
    specification = {"models": [{"path": running_slurm.scene.replace("neuron.swc", "cube.obj")}], "frames": FRAMES, "resolution": [128, 72]}  # fmt: skip
    conf = json.dumps({"specification": specification, "folder": str(tmp_path), "nodes": NODES_EACH})
    command = [BIN / "airflow", "dags", "test", "test_movie", "-c", conf]
    # What a shell starts with `&` ignores SIGINT, and so would all that the tests start there.
    heeds = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    first = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=heeds
    )  # fmt: skip
    manifest = tmp_path / "frames" / "manifest.jsonl"
    running_slurm.until(lambda: manifest.exists() and len(records(tmp_path / "frames")) > 60, 240)
    os.killpg(first.pid, signal.SIGINT)
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 0, output[-3000:]
    assert b"job(s) given back" in output, output.decode("utf-8", "replace")
    check_whole(tmp_path / "frames", FRAMES, doubles=IN_FLIGHT)
    running_slurm.empty(15)
