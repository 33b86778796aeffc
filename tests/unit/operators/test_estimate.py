"""The task that estimates what a movie takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns import EstimateMovieOperator
from tests.support.local import FAST, HERE, gone
from tests.support.script import NEEDS_CLIENT, script


def task(data: Path, spec: dict[str, Any] | None = None, **changes: Any) -> EstimateMovieOperator:
    specification = {
        "models": [{"path": str(data / "cube.obj")}],
        "frames": 200,
        "resolution": [96, 64],
        "renderer": {"name": "interactive"},
    }
    values = {"task_id": "task", "specification": specification | (spec or {}), "plugins": [], **HERE, **FAST}
    return EstimateMovieOperator(**{**values, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("nodes", ["8, 1", [1, 8]])
def test_it_returns_what_the_movie_takes_for_each_number_of_nodes(
    context: Any, cluster: Any, data: Path, nodes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = task(data, nodes=nodes).execute(context)
    one, eight = found["nodes"]
    assert (one["nodes"], eight["nodes"], one["frames"]) == (1, 8, 200)
    assert one["hours"] == one["node_hours"] and eight["hours"] < one["hours"] < eight["node_hours"]
    assert [each["frame"] for each in found["sample"]] == [33, 100, 166]
    assert "200 frames of 0.0" in capsys.readouterr().out
    assert gone(cluster)


@pytest.mark.slow
@NEEDS_CLIENT
def test_a_movie_of_python_is_estimated_too(context: Any, cluster: Any, data: Path, tmp_path: Path) -> None:
    found = task(data, specification=str(script(tmp_path))).execute(context)
    assert found["nodes"][0]["frames"] == 4
    assert [each["frame"] for each in found["sample"]] == [0, 2, 3]


@pytest.mark.parametrize(
    ("field", "changes"),
    [("nodes", {"nodes": 0}), ("nodes", {"nodes": "1, many"}), ("frames", {"spec": {"frames": 0}}), ("plugins", {"plugins": ["a b"]})],
)  # fmt: skip
def test_bad_input_asks_for_no_node(
    context: Any, cluster: Any, data: Path, state: Path, field: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(AirflowFailException, match=field):
        task(data, **changes).execute(context)
    assert not state.exists()
