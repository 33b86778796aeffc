"""What the DAGs check before a node is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns.task.movie_fields import check_movie, find_movies
from airflow_brayns.task.script_trust import script_path


@pytest.fixture
def scene(data: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(
        "AIRFLOW_CONN_HERE", json.dumps({"conn_type": "brayns_cluster", "extra": {"scheduler": "local"}})
    )
    return str(data / "cube.obj")


def params(scene: str, folder: Path, **changes: Any) -> dict[str, Any]:
    movie = {"models": [{"path": scene}], "frames": 4, "resolution": [64, 64]}
    common = {"cluster_conn_id": "here", "nodes": 1, "plugins": ["braynsDTI"], "output": str(folder / "movie.mp4")}
    return {**common, "specification": {**movie, **changes.pop("specification", {})}, **changes}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"specification": {"models": [{"path": "/nowhere.swc"}]}},
            r"(?s)models\.0\.path: correct it.*/nowhere.swc does not exist",
        ),
        ({"specification": {"fps": -1}}, "fps: Input should be greater than 0"),
        ({"output": "/proc/x/movie.mp4"}, "output: "),
        ({"output": "movie.gif"}, "output_file: end it in"),
        ({"plugins": [""]}, "plugins"),
        ({"nodes": "two"}, "nodes"),
        ({"output": "s3://bucket/movie.mp4"}, "output: write a path on the worker out"),
        ({"account": "a b"}, "account"),
        ({"budget": 0}, "budget: give a number of node-hours above 0"),
        ({"budget": "much"}, "budget: give a number of node-hours above 0"),
        ({"specification": {"budget": -1}}, "budget: "),
    ],
)
def test_bad_parameters_name_the_field(scene: str, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(AirflowFailException, match=says):
        check_movie(params(scene, tmp_path, **changes), "run")


def test_each_run_has_frames_of_its_own_beside_its_movie(scene: str, tmp_path: Path) -> None:
    one, other = (check_movie(params(scene, tmp_path), run) for run in ("one", "other"))
    assert one["movie"] == other["movie"] == str(tmp_path / "movie.mp4")
    assert one["frames"] != other["frames"]
    assert Path(one["frames"]).parent == tmp_path


@pytest.mark.parametrize(
    ("asked", "written", "tries", "holds"),
    [
        (None, None, 1, None),
        (None, 20, 1, 20),
        (5, None, 2, 5),
        (5, 20, 1, 5),  # a trial, by whoever starts it
        (5, 20, 2, 20),  # it was raised, or goes on to what the movie may cost: somebody has cleared the run
        (30, 20, 2, 30),
    ],
)
def test_a_runs_budget_holds_and_a_larger_one_of_the_specification_once_it_is_cleared(
    scene: str, tmp_path: Path, asked: float | None, written: float | None, tries: int, holds: float | None
) -> None:
    given = params(scene, tmp_path, budget=asked, specification={} if written is None else {"budget": written})
    around: Any = {"ti": SimpleNamespace(try_number=tries), "ds": "2026-03-04"}
    assert check_movie(given, "run", around)["specification"].get("budget") == holds


def test_a_batch_lists_every_file_that_is_wrong(scene: str, tmp_path: Path) -> None:
    common = {"cluster_conn_id": "here", "folder": str(tmp_path), "output": str(tmp_path / "out")}
    with pytest.raises(AirflowFailException, match="there is no"):
        find_movies(common)
    good = {"models": [{"path": scene}], "frames": 2}
    (tmp_path / "a.json").write_text(json.dumps(good))
    assert [Path(one["output_file"]).name for one in find_movies(common)] == ["a.mp4"]
    (tmp_path / "b.yaml").write_text("frames: 0\n")
    (tmp_path / "c.yaml").write_text(json.dumps({**good, "fps": -1}))
    (tmp_path / "a.yml").write_text(json.dumps(good))
    with pytest.raises(AirflowFailException, match=r"(?s)a.yml: output: .*same\s+a.mp4.*b.yaml: .*c.yaml: "):
        find_movies(common)


@pytest.mark.parametrize("name", ["movie.toml", "movie", "movie.txt "])
def test_a_file_of_another_kind_is_told_which_there_are(scene: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(AirflowFailException, match=r"(?s)specification: give one of them.*ends in \.yaml, .*\.py"):
        check_movie({**params(scene, tmp_path), "specification": str(tmp_path / name)}, "run")


def test_an_ending_in_capitals_is_that_ending(scene: str, tmp_path: Path) -> None:
    (tmp_path / "A.JSON").write_text(json.dumps({"models": [{"path": scene}], "frames": 2}))
    found = check_movie({**params(scene, tmp_path), "specification": str(tmp_path / "A.JSON")}, "run")
    assert found["specification"]["frames"] == 2
    assert script_path(str(tmp_path / "B.PY")) == tmp_path / "B.PY"
    common = {"cluster_conn_id": "here", "folder": str(tmp_path), "output": str(tmp_path / "out")}
    assert [Path(one["specification"]).name for one in find_movies(common)] == ["A.JSON"]
