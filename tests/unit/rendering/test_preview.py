"""The preview: small frames of any movie, with what lies over them made as small."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.rendering import preview as module
from airflow_brayns.rendering.preview import drawn_size, make_sheet, preview_size, small_movie


@pytest.mark.parametrize(("width", "aspect"), [(64, 16 / 9), (65, 1.0), (400, 16 / 9), (400, 250.0), (16384, 16 / 9)])
def test_a_small_frame_is_never_smaller_than_the_service_bears(width: int, aspect: float) -> None:
    size = preview_size(width, aspect)
    assert min(size) >= 64
    assert not any(side % 2 for side in size)


@pytest.mark.parametrize("full_size", [(1280, 720), (1_280_000, 720_000)])
def test_a_preview_shows_what_is_drawn_over_the_movie_made_as_small(tmp_path: Path, full_size: tuple[int, int]) -> None:
    """Also where a picture of the movie's own size would be larger than any memory."""
    plain = {"models": [{"path": "/a.obj"}], "frames": 2, "resolution": (1280, 720)}
    full = MovieSpecification.check({**plain, "overlays": {"title": "A title " * 5, "size": 0.06}})
    small = full.model_copy(update={"resolution": (320, 180)})
    plan = Plan(small, SceneFacts(Bounds((-1, -1, -1), (1, 1, 1))), "scene", 2)
    for frame in plan.frames:
        Image.new("RGB", (320, 180), (0, 0, 90)).save(tmp_path / plan.file(frame))
    make_sheet(plan, tmp_path, tmp_path / "sheet.png", full_size)
    with Image.open(tmp_path / "sheet.png") as sheet:
        white = sheet.convert("L").point(lambda one: 255 * (one > 200)).crop((40, 0, 1600, 60)).getbbox()
    assert white is not None
    assert white[3] - white[1] < 180 * 0.12


@pytest.mark.parametrize(
    ("full", "drawn"),
    [((3840, 2160), (2048, 1152)), ((8192, 1024), (4096, 512)), ((640, 360), (640, 360)), ((1024, 8192), (512, 4096))],
)
def test_what_lies_over_a_sheet_is_drawn_as_large_as_it_can_be_read_and_no_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: tuple[int, int], drawn: tuple[int, int]
) -> None:
    """At the movie's own size a preview of large frames would take longest to draw what is over them."""
    sizes: list[tuple[int, int]] = []

    class Drawing:
        @staticmethod
        def of(plan: Plan) -> None:
            sizes.append(plan.specification.resolution)

    monkeypatch.setattr(module, "Drawing", Drawing)
    monkeypatch.setattr(module, "contact_sheet", lambda *_, **__: None)
    spec = MovieSpecification.check({"models": [{"path": "/a.obj"}], "frames": 2})
    make_sheet(Plan(spec, SceneFacts(Bounds((-1, -1, -1), (1, 1, 1))), "scene", 2), tmp_path, tmp_path / "a.png", full)
    assert sizes == [drawn]


def test_what_is_drawn_over_a_huge_picture_is_previewed_in_its_shape_and_not_in_its_size() -> None:
    """40,000 x 40,000 pixels of it are 6.4 GB."""
    assert drawn_size((3840, 2160)) == (3840, 2160)
    assert drawn_size((40_000, 20_000)) == (8192, 4096)


def test_a_small_movie_is_quick_and_keeps_its_scene() -> None:
    huge = {
        "models": [{"path": "/a.obj"}],
        "frames": 1,
        "output": "a.png",
        "resolution": [40_000, 20_000],
        "tiles": [4, 2],
    }
    small = small_movie(MovieSpecification.check({"version": 2, **huge}), 320)
    assert (small.resolution, small.tiles, small.format) == ((320, 160), None, "png")
    assert (small.renderer.name, small.renderer.samples_per_pixel) == ("interactive", 1)
    with pytest.raises(InvalidSetting, match=r"^width: take one from 64 to"):
        small_movie(small, 63)
