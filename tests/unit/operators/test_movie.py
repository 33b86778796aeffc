from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_brayns import BraynsMovieOperator, EncodeMovieOperator, RenderFramesOperator

FAST = {"environment": {"BRAYNS_EMULATOR": "snapshot_seconds=0"}}


def movie(data: Path, out: Path, **changes: Any) -> BraynsMovieOperator:
    values = {"task_id": "task", "cluster_conn_id": "here", "scene": str(data / "neuron.swc"), "output_file": str(out / "movie.mp4"),
              "nodes": 2, "frames": 8, "width": 128, "height": 72, "renderer": "interactive", **FAST}  # fmt: skip
    return BraynsMovieOperator(**{**values, **changes})


def test_a_whole_movie_in_one_task(context: Any, cluster: Any, data: Path, tmp_path: Path) -> None:
    made = movie(data, tmp_path / "out").execute(context)
    assert Path(made).stat().st_size > 1000
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["movie.mp4"]
    assert context["ti"].xcom["allocation"]["allocations"]
    assert not cluster.running()


def test_a_movie_that_fails_gives_back(context: Any, cluster: Any, data: Path, tmp_path: Path) -> None:
    with pytest.raises(AirflowException, match="frames are missing"):
        movie(data, tmp_path, environment={"BRAYNS_EMULATOR": "snapshot_seconds=0,crash_at_picture=2"}).execute(context)
    deadline = time.monotonic() + 8
    while cluster.running() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not cluster.running()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("output_file", "movie.avi"),
        ("fps", 0),
        ("nodes", 0),
        ("frames", 0),
        ("scene", "/nowhere.swc"),
        ("width", 33),
        ("plugins", ["a b"]),
    ],
)
def test_bad_input_asks_for_no_node(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path, field: str, value: Any
) -> None:
    with pytest.raises(AirflowFailException, match=field):
        movie(data, tmp_path, **{field: value}).execute(context)
    assert not state.exists()


def test_a_folder_that_cannot_be_written_names_the_field(context: Any, cluster: Any, data: Path) -> None:
    render = RenderFramesOperator(
        task_id="task",
        cluster_conn_id="here",
        endpoints=["h:1"],
        frames_dir="/proc/frames",
        scene=str(data / "cube.obj"),
    )
    with pytest.raises(AirflowFailException, match="frames_dir"):
        render.execute(context)
    encode = EncodeMovieOperator(
        task_id="task", cluster_conn_id="here", frames_dir="/nowhere", output_file="/proc/x/movie.mp4"
    )
    with pytest.raises(AirflowFailException, match="output_file"):
        encode.execute(context)
