"""What a frame function has returned, read before any service is asked for it."""

from __future__ import annotations

import math
from typing import Any

import pytest

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


def test_what_is_left_out_is_as_the_service_stands() -> None:
    assert wanted_of(None, SIZE, strict=True) == Wanted()
    with pytest.raises(Refused, match="frame returned str; return"):
        wanted_of("x", SIZE, strict=True)
