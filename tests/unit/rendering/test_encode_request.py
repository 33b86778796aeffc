"""What a movie is made of frames as: what was asked for, and where nothing was, what their manifest tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.cluster.owner import Owner
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.codecs import EncodingChoice
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.rendering.encode_request import EncodeRequest


def asked(target: str | None, **choice: Any) -> EncodeRequest:
    return EncodeRequest(
        "/frames",
        None if target is None else Path(target),
        EncodingChoice(**choice),
        poster=False,
        sheet=False,
        owner=Owner("ab-0123456789ab", "try-1", "{}"),
    )


def told(**changes: Any) -> MovieSpecification:
    return MovieSpecification.check({"version": 2, "models": [{"path": "/a.obj"}], "frames": 1, **changes})


def test_of_frames_without_a_manifest_somebody_must_say_where_the_movie_goes() -> None:
    """Else it would go to a file that is called `None`."""
    with pytest.raises(InvalidSetting, match=r"(?s)^output_file: say where the movie goes.*/frames has no manifest"):
        asked(None).decided(None)
    assert asked("/out/a.mp4").decided(None).target == Path("/out/a.mp4")
    assert asked(None).decided(told(output="/out/b.mp4")).target == Path("/out/b.mp4")


def test_a_picture_of_tiles_may_be_larger_than_any_that_is_rendered_whole() -> None:
    """Only frames of tiles are joined by what has room for it."""
    huge = told(output="/out/a.png", resolution=[40_000, 20_000], tiles=[4, 2])
    assert asked(None).decided(huge).target == Path("/out/a.png")


def test_a_codec_that_is_chosen_later_must_suit_the_frames_that_are_there() -> None:
    odd = told(output="/out/a.png", resolution=[65, 64])
    with pytest.raises(InvalidSetting, match="^resolution"):
        asked("/out/a.mp4", codec="h264").decided(odd)
