"""Movies by operators on the local cluster: real keepers and services on this machine, no running Airflow."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_brayns import BraynsServiceOperator, EncodeMovieOperator, RenderFramesOperator
from tests.support.local import FAST, movie
from tests.support.movie import check_whole, records


def gone(cluster: Any, seconds: float = 8) -> bool:
    deadline = time.monotonic() + seconds
    while cluster.running() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not cluster.running()


def test_a_whole_movie_in_one_task(context: Any, cluster: Any, data: Path, tmp_path: Path) -> None:
    store: dict[str, Any] = {}
    context["task_state_store"] = SimpleNamespace(set=store.__setitem__)
    made = movie(data, tmp_path / "out").execute(context)
    assert Path(made).stat().st_size > 1000
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "movie.mp4",
        "movie.poster.jpg",
        "movie.sheet.jpg",
    ]
    assert len(context["ti"].xcom["allocation"]["allocations"]) == 2, "a job for each node"
    assert (store["brayns_progress"]["done"], store["brayns_progress"]["total"]) == (8, 8)
    assert not cluster.running()


def test_a_movie_that_fails_gives_back_and_a_retry_goes_on(
    context: Any, cluster: Any, data: Path, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    broken = {"BRAYNS_EMULATOR": "snapshot_seconds=0,frame_seconds=0.02,crash_at_picture=4"}
    with pytest.raises(
        AirflowException, match=r"(?s)goes\s+on\s+from\s+the\s+frames.*of\s+40\s+frames\s+are\s+missing"
    ):
        movie(data, tmp_path, {"frames": 40}, environment=broken, frames_dir=str(frames)).execute(context)
    assert gone(cluster)
    before = {record["frame"]: record for record in records(frames)}
    assert 4 <= len(before) < 40
    retried = movie(data, tmp_path, {"frames": 40}, frames_dir=str(frames), keep_frames=True)
    retried.execute(context)
    check_whole(frames, 40)
    assert {
        number: record for number, record in ((one["frame"], one) for one in records(frames)) if number in before
    } == before
    jobs = len(context["ti"].xcom["allocation"]["allocations"])
    context["ti"].xcom.clear()
    retried.execute(context)
    assert "allocation" not in context["ti"].xcom, f"all frames are there: none of {jobs} jobs is needed again"


def test_frames_with_an_allocation_of_another_task(context: Any, cluster: Any, data: Path, tmp_path: Path) -> None:
    service = BraynsServiceOperator(
        task_id="task", cluster_conn_id="here", nodes=2, packing="job_per_node", min_ready=1, **FAST
    )
    service.execute(context)
    try:
        spec = movie(data, tmp_path, {"frames": 60}).specification
        render = RenderFramesOperator(
            task_id="task", cluster_conn_id="here", allocation=context["ti"].xcom["allocation"], specification=spec,
            frames_dir=str(tmp_path / "frames"), **FAST,
        )  # fmt: skip
        render.execute(context)
        check_whole(tmp_path / "frames", 60)
        assert len({(one["job"], one["service"]) for one in records(tmp_path / "frames")}) == 2, "both joined"
        by_endpoint = RenderFramesOperator(
            task_id="task", cluster_conn_id="here", endpoints=context["ti"].xcom["services"][0]["endpoint"], specification=spec,
            frames_dir=str(tmp_path / "other"),
        )  # fmt: skip
        by_endpoint.execute(context)
        assert {one["way"] for one in records(tmp_path / "other")} == {"snapshot"}
    finally:
        service.give_back_now(context)
        assert gone(cluster)


def test_encoding_refuses_what_is_not_whole_and_tells_the_asset(
    context: Any, cluster: Any, data: Path, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    movie(data, tmp_path, frames_dir=str(frames), keep_frames=True).execute(context)
    asset, alias = Asset("file:///wherever"), AssetAlias("movies")
    told: list[Any] = []
    events = {
        asset: SimpleNamespace(extra=None),
        alias: SimpleNamespace(add=lambda *words, **more: told.append((words, more))),
    }
    encode = EncodeMovieOperator(
        task_id="task", frames_dir=str(frames), output_file=str(tmp_path / "again.webm"), codec="vp9", fps=25,
        outlets=[asset, alias], poster=False, contact_sheet=False,
    )  # fmt: skip
    encode.execute({**context, "outlet_events": events})
    assert events[asset].extra["frames"] == 8
    assert told[0][0][0].uri == (tmp_path / "again.webm").as_uri()
    (frames / "00003.png").write_bytes((frames / "00003.png").read_bytes()[:-9])
    (frames / "00005.png").unlink()
    with pytest.raises(AirflowFailException, match=r"(?s)2 of 8 .*1\s+missing\s+\(5\);\s+1\s+damaged\s+\(3\)"):
        encode.execute(context)
