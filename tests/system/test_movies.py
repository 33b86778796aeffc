"""Movies on the real cluster: frames that stay there, movies longer than an allocation, two drivers, two movies at once."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_brayns import (
    BraynsMovieOperator,
    BraynsServiceOperator,
    EncodeMovieOperator,
    ReleaseNodesOperator,
    RenderFramesOperator,
)
from airflow_brayns.movie.ffmpeg import look_into
from tests.support.cluster import REPO, USER, TestCluster
from tests.support.movie import check_whole, records
from tests.support.task import Ti, run_trigger

pytestmark = pytest.mark.slurm
HOME = Path(f"/home/{USER}")
QUICK = "snapshot_seconds=0,frame_seconds=0.05"


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": Ti()}


@pytest.fixture
def cube(running_slurm: TestCluster) -> str:
    path = HOME / "cube.obj"
    path.write_bytes((REPO / "tests" / "data" / "cube.obj").read_bytes())
    return str(path)


@pytest.fixture
def theirs(running_slurm: TestCluster, tmp_path: Path) -> Path:
    """A folder that the cluster's user may write."""
    folder = HOME / f"movies-{tmp_path.name}"
    running_slurm.ssh(f"rm -rf {folder}; mkdir {folder}")
    return folder


def spec(cube: str, **changes: Any) -> dict[str, Any]:
    return {"models": [{"path": cube}], "frames": 60, "resolution": [128, 72], **changes}


def movie(
    cube: str, output: Path, emulator: str = QUICK, specification: Any = None, **changes: Any
) -> BraynsMovieOperator:
    values = {"task_id": "task", "cluster_conn_id": "test_cluster", "plugins": [], "output_file": str(output),
              "specification": specification or spec(cube), "environment": {"BRAYNS_EMULATOR": emulator}}  # fmt: skip
    return BraynsMovieOperator(**{**values, **changes})


def of_this_user(folder: Path) -> None:
    """What the cluster's user made, readable for the tests."""
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)


def test_frames_that_stay_on_the_cluster_are_checked_encoded_and_fetched(
    slurm: TestCluster, context: Any, cube: str, theirs: Path, tmp_path: Path
) -> None:
    operator = movie(
        cube,
        theirs / "movie.mp4",
        nodes=3,
        frames_on="cluster",
        frames_dir=str(theirs / "frames"),
        fetch=str(tmp_path / "near.mp4"),
    )
    assert operator.execute(context) == str(tmp_path / "near.mp4")
    of_this_user(theirs)
    check_whole(theirs / "frames", 60)
    assert {record["way"] for record in records(theirs / "frames")} == {"snapshot"}
    assert len({record["node"] for record in records(theirs / "frames")}) > 1
    made = asyncio.run(look_into(tmp_path / "near.mp4"))
    assert (made.frames, made.width, made.codec) == (60, 128, "h264")
    assert (theirs / "movie.mp4").read_bytes() == (tmp_path / "near.mp4").read_bytes()
    assert (theirs / "movie.poster.jpg").exists()
    assert (theirs / "movie.sheet.jpg").exists()
    assert not [line for line in slurm.run("login", "ps", "-wweo", "args").splitlines() if "ffmpeg-linux" in line]

    # Damaged there, found there; encoding refuses it until it is rendered again.
    frames = theirs / "frames"
    (frames / "00007.png").write_bytes(b"half")
    (frames / "00009.png").unlink()
    encode = EncodeMovieOperator(
        task_id="encode",
        cluster_conn_id="test_cluster",
        frames_dir=str(frames),
        output_file=str(theirs / "again.mp4"),
        frames_on="cluster",
    )
    with pytest.raises(AirflowException, match=r"(?s)2\s+of\s+60\s.*1\s+missing\s+\(9\);\s+1\s+damaged\s+\(7\)"):
        encode.execute({"ti": Ti("encode")})
    context["ti"].xcom.clear()
    operator.execute(context)
    of_this_user(theirs)
    check_whole(frames, 60, doubles=2)
    slurm.empty(10)


def test_frames_of_the_wrong_kind_do_not_get_a_name(
    slurm: TestCluster, context: Any, cube: str, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that writes half a file, as one does whose disk is full."""
    from airflow_brayns.movie.render_call import Snapshot

    real, spoiled = Snapshot.render, set()

    async def spoils(self: Any, client: Any, plan: Any, frame: int, file_path: str = "") -> bytes:
        data = await real(self, client, plan, frame, file_path)
        if frame in (3, 11) and frame not in spoiled:
            spoiled.add(frame)
            await asyncio.to_thread(slurm.ssh, f"truncate -s 300 {file_path}")
        return data

    monkeypatch.setattr(Snapshot, "render", spoils)
    movie(
        cube,
        theirs / "movie.mp4",
        nodes=2,
        frames_on="cluster",
        frames_dir=str(theirs / "frames"),
        specification=spec(cube, frames=30),
    ).execute(context)
    of_this_user(theirs)
    assert spoiled == {3, 11}
    check_whole(theirs / "frames", 30)


def test_rendered_from_the_triggerer(slurm: TestCluster, context: Any, cube: str, theirs: Path) -> None:
    service = BraynsServiceOperator(
        task_id="task", cluster_conn_id="test_cluster", nodes=2, packing="job_per_node", min_ready=1, deferrable=False,
        environment={"BRAYNS_EMULATOR": QUICK},
    )  # fmt: skip
    service.execute(context)
    try:
        render = RenderFramesOperator(
            task_id="task", cluster_conn_id="test_cluster", allocation=context["ti"].xcom["allocation"], frames_on="cluster",
            frames_dir=str(theirs / "frames"), specification=spec(cube), deferrable=True, environment={"BRAYNS_EMULATOR": QUICK},
        )  # fmt: skip
        with pytest.raises(TaskDeferred) as deferred:
            render.execute(context)
        event = run_trigger(deferred.value)
        assert render.resume(context, event) == str(theirs / "frames")
        of_this_user(theirs)
        check_whole(theirs / "frames", 60)
    finally:
        ReleaseNodesOperator(task_id="release", cluster_conn_id="test_cluster", allocated_by="task").execute(context)


def test_a_movie_longer_than_its_allocation_crosses_to_the_next(
    slurm: TestCluster, context: Any, cube: str, tmp_path: Path
) -> None:
    """A time limit of three minutes leaves one for rendering; the movie takes longer; the next job is queued in time."""
    before = slurm.jobs_ever()
    operator = movie(
        cube, tmp_path / "movie.mp4", emulator="snapshot_seconds=0,frame_seconds=0.6", nodes=2, time_limit="3:00", renew_before=20,
        frames_dir=str(tmp_path / "frames"), keep_frames=True, specification=spec(cube, frames=330),
    )  # fmt: skip
    operator.execute(context)
    check_whole(tmp_path / "frames", 330)
    lines = records(tmp_path / "frames")
    assert len({line["job"] for line in lines}) >= 4, "two jobs, and one that follows on each"
    assert slurm.jobs_ever() - before >= 4
    times = sorted((tmp_path / "frames" / line["file"]).stat().st_mtime for line in lines)
    assert max(b - a for a, b in itertools.pairwise(times)) < 5, "no idle gap"
    slurm.empty(15)


def test_a_retry_takes_over_from_a_driver_that_was_thought_dead(
    slurm: TestCluster, context: Any, cube: str, tmp_path: Path
) -> None:
    """Two drivers never share a service: the later one waits for the earlier one's lease, the earlier one stops."""
    common = {
        "nodes": 2,
        "frames_dir": str(tmp_path / "frames"),
        "keep_frames": True,
        "specification": spec(cube, frames=500),
    }
    errors: list[BaseException] = []
    zombie = movie(cube, tmp_path / "movie.mp4", **common)
    old = {"ti": context["ti"]}

    def run() -> None:
        try:
            zombie.execute(old)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    manifest = tmp_path / "frames" / "manifest.jsonl"
    slurm.until(lambda: manifest.exists() and len(records(tmp_path / "frames")) > 20, 60)
    new = Ti()
    new.run_id = context["ti"].run_id
    movie(cube, tmp_path / "movie.mp4", **common).execute({"ti": new})
    thread.join(30)
    assert "another try of this movie" in " ".join(str(errors[0]).split())
    check_whole(tmp_path / "frames", 500, doubles=8)
    slurm.empty(10)


def test_two_movies_at_once_never_touch_each_others_jobs_or_files(
    slurm: TestCluster, cube: str, tmp_path: Path
) -> None:
    contexts = [{"ti": Ti()}, {"ti": Ti()}]

    def run(number: int) -> None:
        movie(
            cube, tmp_path / str(number) / "movie.mp4", nodes=2, frames_dir=str(tmp_path / str(number) / "frames"), keep_frames=True,
            specification=spec(cube, frames=120),
        ).execute(contexts[number])  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))
    jobs = []
    for number in range(2):
        check_whole(tmp_path / str(number) / "frames", 120)
        jobs.append({record["job"] for record in records(tmp_path / str(number) / "frames")})
        assert {one["job_id"] for one in contexts[number]["ti"].xcom["allocation"]["allocations"]} == jobs[number]
    assert not jobs[0] & jobs[1]


def test_a_movie_is_smooth_where_services_take_turns(slurm: TestCluster, context: Any, tmp_path: Path) -> None:
    """Neighbouring frames, traced by services in turns, differ as evenly as the camera moves."""
    from PIL import Image, ImageChops, ImageStat

    turn = spec(str(slurm.scene), frames=36, resolution=[160, 90], camera={"path": "turntable", "turns": 0.25})
    movie(
        "", tmp_path / "movie.mp4", emulator="snapshot_seconds=0.2", nodes=4, plugins=["braynsCircuitExplorer"], specification=turn,
        frames_dir=str(tmp_path / "frames"), keep_frames=True,
    ).execute(context)  # fmt: skip
    by = [line["node"] for line in sorted(records(tmp_path / "frames"), key=lambda line: line["frame"])]
    assert len(set(by)) > 1
    assert any(a != b for a, b in itertools.pairwise(by)), "neighbours are of different services"
    images = [Image.open(tmp_path / "frames" / f"{number:05d}.png").convert("RGB") for number in range(36)]
    steps = [sum(ImageStat.Stat(ImageChops.difference(a, b)).mean) / 3 for a, b in itertools.pairwise(images)]
    assert min(steps) > 0, "it moves"
    assert max(steps) < 2.5 * (sum(steps) / len(steps)), f"a jump: {[round(step, 2) for step in steps]}"


def test_a_folder_on_the_cluster_that_cannot_be_written_asks_for_no_node(
    slurm: TestCluster, context: Any, cube: str
) -> None:
    before = slurm.jobs_ever()
    with pytest.raises(
        AirflowFailException, match=r"(?s)frames_dir: .*/root/frames\s+cannot\s+be\s+written\s+on\s+the\s+cluster"
    ):
        movie(cube, Path("/root/movie.mp4"), frames_on="cluster", frames_dir="/root/frames").execute(context)
    assert slurm.jobs_ever() == before


def test_what_was_fetched_in_part_goes_on(slurm: TestCluster, context: Any, theirs: Path, tmp_path: Path) -> None:
    """A connection cut in the middle costs what is left, not all of it."""
    import hashlib
    import logging

    from airflow_brayns.hooks.cluster import BraynsClusterHook
    from airflow_brayns.rendering.encode import fetch

    data = os.urandom(3_000_000)
    (theirs / "file").write_bytes(data)
    sha = hashlib.sha256(data).hexdigest()
    (tmp_path / f".near.{sha[:12]}.part").write_bytes(data[:2_000_000])
    asked: list[int] = []

    async def main() -> None:
        hook = BraynsClusterHook("test_cluster")
        async with hook.session() as session:
            real = session.cluster.shell.get

            def counted(remote: str, offset: int) -> Any:
                asked.append(offset)
                return real(remote, offset)

            session.cluster.shell.get = counted
            await fetch(session.cluster, str(theirs / "file"), tmp_path / "near", sha, len(data), logging.getLogger())

    asyncio.run(main())
    assert asked == [2_000_000]
    assert (tmp_path / "near").read_bytes() == data
