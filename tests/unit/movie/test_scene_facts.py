from __future__ import annotations

import pytest

from airflow_brayns.errors import RenderingFailed
from airflow_brayns.movie.scene_facts import SceneFacts


@pytest.mark.parametrize(
    "bounds",
    [None, [], {}, {"min": [0, 0, 0]}, {"min": [0, 0], "max": [1, 1]}, {"min": ["0", 0, 0], "max": [1, 1, 1]}, {"min": [float("nan")] * 3, "max": [1, 1, 1]},
     {"min": [0, 0, 0], "max": [float("inf"), 1, 1]}, {"min": [0, 0, 0], "max": [10**400, 1, 1]}, {"min": [0, 0, 0], "max": [1e300, 1, 1]}],
)  # fmt: skip
def test_what_is_no_scene_is_told_as_such(bounds: object) -> None:
    """Anything but a TypeError: the service is not one that can be rendered with, and another one may be."""
    with pytest.raises(RenderingFailed, match="which is no scene"):
        SceneFacts.read(bounds, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no facts|finite|size|unpack|enough"):
        SceneFacts.from_plain({"low": (bounds or {}).get("min") if isinstance(bounds, dict) else None, "high": None})


@pytest.mark.parametrize("key", ["start_frame", "end_frame", "dt"])
@pytest.mark.parametrize("value", ["x", [1], float("inf"), float("nan"), pytest.param(10**400, id="huge")])
def test_a_simulation_that_is_none_is_told_as_such(key: str, value: object) -> None:
    with pytest.raises(RenderingFailed, match="no scene"):
        SceneFacts.read({"min": [0, 0, 0], "max": [1, 1, 1]}, {key: value})
