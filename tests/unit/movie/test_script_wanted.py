"""What a frame function has returned, read before any service is asked for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from airflow_brayns.brayns.official import official_client
from airflow_brayns.movie.script_service import Refused
from airflow_brayns.movie.script_wanted import Wanted, wanted_of
from tests.support.script import NEEDS_CLIENT

pytestmark = NEEDS_CLIENT
SIZE = (96, 64)


def snapshot(*size: int, **values: Any) -> Any:
    import brayns

    return brayns.Snapshot(resolution=brayns.Resolution(*size) if size else None, **values)


@pytest.mark.parametrize(
    ("size", "strict", "taken"),
    [((), True, True), ((96, 64), True, True), ((128, 64), True, False), ((128, 64), False, True), ((), False, True)],
)
def test_a_movie_refuses_another_size_and_a_preview_which_is_small_passes_it_over(
    size: tuple[int, ...], strict: bool, taken: bool
) -> None:
    if taken:
        assert wanted_of(snapshot(*size, frame=3), SIZE, strict=strict) == Wanted(simulation=3)
    else:
        with pytest.raises(Refused, match="asks for 128x64, and the movie is 96x64"):
            wanted_of(snapshot(*size), SIZE, strict=strict)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_camera_that_is_nowhere_is_refused_before_the_service_gets_it(value: float) -> None:
    """JSON has no word for it: the service would answer nobody, and the frame would time out."""
    import brayns

    camera = brayns.Camera()
    camera.position = brayns.Vector3(value, 0, 0)
    with pytest.raises(Refused, match="holds something that is no number"):
        wanted_of(camera, SIZE, strict=True)


def test_a_number_of_numpy_is_a_number() -> None:
    """Those that come of arrays were refused, as no numbers."""
    import brayns

    camera = brayns.Camera()
    camera.position = brayns.Vector3(np.float32(1.5), np.int64(2), np.float64(3))
    found = wanted_of(brayns.Snapshot(camera=camera, frame=np.int64(7)), SIZE, strict=True)
    assert found.view is not None
    assert (found.view["position"], found.simulation) == ([1.5, 2, 3], 7)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"frame": -3}, "whose frame is -3; it is a whole number from 0 on"),
        ({"frame": "1"}, "whose frame is '1'; it is"),
        ({"frame": True}, "whose frame is True; it is"),
        ({"frame": 1.5}, "whose frame is 1.5; it is"),
        ({"renderer": "production"}, "a Snapshot which cannot be read, 'str' object"),
        ({"resolution": 3}, "a Snapshot which cannot be read, 'int' object"),
        ({"frame": np.arange(3)}, "holds something that is no number, ndarray is no number"),
    ],
)
def test_a_snapshot_that_no_service_takes_is_refused_where_it_is_returned(values: dict[str, Any], told: str) -> None:
    """A service was asked for it as often as a frame is tried, and the next one, and the movie told to clear the task."""
    with pytest.raises(Refused, match=told):
        wanted_of(official_client().Snapshot(**values), SIZE, strict=True)


@pytest.mark.parametrize("frame", [np.floor(3.7), np.longdouble(3), 3.0])
def test_a_whole_number_is_one_of_whatever_kind(frame: Any) -> None:
    found = wanted_of(official_client().Snapshot(frame=frame), SIZE, strict=True).simulation
    assert (found, type(found)) == (3, int)


def test_what_is_left_out_is_as_the_service_stands() -> None:
    assert wanted_of(None, SIZE, strict=True) == Wanted()
    with pytest.raises(Refused, match="frame returned str; return"):
        wanted_of("x", SIZE, strict=True)


def test_a_class_in_place_of_what_it_makes_is_told_with_its_brackets() -> None:
    """An argument of Python's own, `self`, was said to be missing."""
    brayns = official_client()
    with pytest.raises(
        Refused, match=r"the class PerspectiveProjection itself; write brayns\.PerspectiveProjection\(\)"
    ):
        wanted_of(brayns.Camera(projection=brayns.PerspectiveProjection), SIZE, strict=True)
    with pytest.raises(Refused, match=r"write brayns\.InteractiveRenderer\(\)"):
        wanted_of(brayns.Snapshot(renderer=brayns.InteractiveRenderer), SIZE, strict=True)
