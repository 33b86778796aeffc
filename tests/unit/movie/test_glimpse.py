"""What is seen of a movie while it is rendered: a contact sheet of what is there, and the newest frame."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_brayns.movie.frame_folder import FolderStore, remove_frames
from airflow_brayns.movie.frame_store import Made
from airflow_brayns.movie.glimpse import GLIMPSE, SHEET, Glimpse
from airflow_brayns.movie.images import spread
from airflow_brayns.movie.manifest import Header
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.scene_facts import SceneFacts
from tests.support.movie import specification

FACTS = {"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0}
FREE, MADE = (38, 41, 48), Made(1.0, "n1", "7", "brayns1", "3.10.1", "one-pass")


def plan(**changes: Any) -> Plan:
    return Plan(specification(Path("/a.obj"), **{"frames": 100, **changes}), SceneFacts.from_plain(FACTS), "scene")


def picture(shade: int, size: tuple[int, int] = (96, 64), kind: str = "PNG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (shade, 200, 20)).convert(mode).save(file, kind)
    return file.getvalue()


def cells(folder: Path) -> list[tuple[int, ...]]:
    """The colours in the middle of the sheet's places."""
    with Image.open(folder / GLIMPSE / SHEET) as sheet:
        assert sheet.width == 1600 and sheet.height % 4 == 0
        down = sheet.height // 4
        return [
            tuple(sheet.convert("RGB").getpixel((number % 4 * 400 + 200, number // 4 * down + down // 2)))  # type: ignore[arg-type]
            for number in range(16)
        ]


def near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("kind", "format_", "mode"), [("PNG", "png", "RGB"), ("PNG", "png", "RGBA"), ("JPEG", "jpg", "RGB")]
)
def test_each_frame_has_its_place_and_what_is_not_there_is_left_free(
    tmp_path: Path, kind: str, format_: str, mode: str
) -> None:
    whole = plan(format=format_, resolution=[960, 640])
    shown = spread(whole.frames, 16)
    glimpse = Glimpse(tmp_path, whole, ())
    glimpse.keep(shown[-1], picture(250, (960, 640), kind, mode))
    glimpse.keep(shown[0], picture(10, (960, 640), kind, mode))
    found = cells(tmp_path)
    assert near(found[0], (10, 200, 20)) and near(found[15], (250, 200, 20))
    assert all(near(one, FREE) for one in found[1:15])
    assert {path.name for path in (tmp_path / GLIMPSE).iterdir()} == {SHEET, f"newest.{format_}"}, (
        "nothing half-written is left"
    )


def test_frames_that_were_there_before_are_on_the_sheet_too(tmp_path: Path) -> None:
    whole = plan()
    shown = spread(whole.frames, 16)
    for frame in shown[:3]:
        (tmp_path / whole.file(frame)).write_bytes(picture(100))
    (tmp_path / whole.file(shown[2])).write_bytes(b"cut off")
    Glimpse(tmp_path, whole, set(shown[:3])).keep(shown[15], picture(250))
    found = cells(tmp_path)
    assert [near(one, (100, 200, 20)) for one in found[:3]] == [True, True, False]
    assert near(found[15], (250, 200, 20))


def test_other_frames_cost_nothing_but_the_newest_ones_name(tmp_path: Path) -> None:
    glimpse = Glimpse(tmp_path, plan(), ())
    for frame in (8, 3):
        (tmp_path / f"{frame:05d}.png").write_bytes(picture(frame))
        glimpse.keep(frame, picture(frame))
    assert not (tmp_path / GLIMPSE / SHEET).exists()
    assert (tmp_path / GLIMPSE / "newest.png").read_bytes() == picture(3)


def test_a_huge_picture_is_not_made_small(tmp_path: Path) -> None:
    """It would take gigabytes beside the rendering."""
    Glimpse(tmp_path, plan(resolution=[10_000, 8_000]), ()).keep(0, picture(1))
    assert not (tmp_path / GLIMPSE / SHEET).exists() and (tmp_path / GLIMPSE / "newest.png").is_symlink()


def test_whatever_goes_wrong_with_it_costs_the_movie_nothing(tmp_path: Path) -> None:
    Glimpse(tmp_path / "gone", plan(), ()).keep(0, picture(1))
    (tmp_path / GLIMPSE / "newest.png").mkdir(parents=True)
    Glimpse(tmp_path, plan(), ()).keep(0, b"no picture")


async def test_a_folder_of_frames_shows_them_and_is_emptied_with_them(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    store, whole = FolderStore(folder, "movie", "try1"), plan(frames=4)
    await store.open()
    await store.begin(Header("scene", FACTS, "one-pass", "3.10.1", {}, {}))
    told = store.shows(whole, ())
    assert str(folder / GLIMPSE / SHEET) in told and "newest.png" in told
    await store.keep(whole, 2, picture(9), MADE)
    assert (folder / GLIMPSE / SHEET).exists()
    assert (folder / GLIMPSE / "newest.png").read_bytes() == (folder / "00002.png").read_bytes()
    await store.close()
    remove_frames(folder)
    assert not folder.exists()


def test_tiles_are_not_shown(tmp_path: Path) -> None:
    assert FolderStore(tmp_path, "movie", "try1").shows(plan(frames=1, tiles=[2, 2], resolution=[256, 256]), ()) == ""
