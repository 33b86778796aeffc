"""Tiles that services rendered, joined: the frame is the one that one service renders whole, in memory that does not grow with it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.encode import encode_movie
from airflow_brayns.movie.ffmpeg import Encoded
from airflow_brayns.movie.images import vips
from airflow_brayns.movie.join import join_tiles, look_at
from airflow_brayns.movie.rendered import just_rendered
from airflow_brayns.movie.tiles import Tiling
from tests.support.movie import produce, records, specification

FAST = {"snapshot_seconds": 0}
# Without ambient occlusion, whose rays are another chance in each picture.
RENDERER = {"name": "interactive", "samples_per_pixel": 4, "ao_samples": 0}
STILL = {"path": "still"}
TOLD = '{"a":"\\u00fc"}'  # JSON, which is ASCII


# ---- joining -----------------------------------------------------------------------------------------------------------
def tiles_of(folder: Path, tiling: Tiling, whole: np.ndarray[Any, Any]) -> list[Path]:
    """The files of a frame's tiles as services render them."""
    folder.mkdir(exist_ok=True)
    wide, high = tiling.size
    paths = []
    for tile in tiling.tiles():
        x, y = tile.left - tile.skip_left, tile.top - tile.skip_top
        paths.append(folder / f"00000-{tile.row + 1}-{tile.column + 1}.png")
        Image.fromarray(whole[y : y + high, x : x + wide]).save(paths[-1])
    return paths


@pytest.mark.parametrize("shape", [(4, 4, 256, 256), (3, 2, 301, 203), (1, 3, 64, 200)])
@pytest.mark.parametrize("alpha", [True, False])
async def test_each_pixel_is_where_it_was(tmp_path: Path, shape: tuple[int, int, int, int], alpha: bool) -> None:
    tiling = Tiling(*shape)
    whole = np.random.default_rng(1).integers(0, 255, (tiling.height, tiling.width, 4), np.uint8)
    target = tmp_path / "cover.png"
    await join_tiles(tiles_of(tmp_path / "tiles", tiling, whole), tiling, target, alpha=alpha, about={"comment": TOLD})
    with Image.open(target) as made:
        assert (np.asarray(made) == (whole if alpha else whole[..., :3])).all()
        assert made.text["comment"] == TOLD
    assert await look_at(target) == Encoded(target, 1, 0.0, tiling.width, tiling.height, "png", target.stat().st_size)


async def test_a_jpeg_is_near_and_says_where_it_is_from(tmp_path: Path) -> None:
    tiling = Tiling(2, 2, 200, 130)
    across = np.linspace(0, 255, 200).astype(np.uint8)
    whole = np.broadcast_to(across[None, :, None], (130, 200, 3)).copy()
    target = tmp_path / "cover.jpeg"
    await join_tiles(
        tiles_of(tmp_path / "tiles", tiling, whole), tiling, target, alpha=False, about={"comment": "of ours"}
    )
    with Image.open(target) as made:
        assert np.abs(np.asarray(made).astype(int) - whole).max() <= 6
        assert made.getexif()[270].startswith("of ours")
    assert (await look_at(target)).codec == "mjpeg"


async def test_pictures_are_drawn_over_the_frame_and_what_is_transparent_stays_so(tmp_path: Path) -> None:
    tiling = Tiling(2, 2, 256, 256)
    whole = np.full((256, 256, 4), (10, 200, 30, 0), np.uint8)
    paths = tiles_of(tmp_path / "tiles", tiling, whole)
    over = [(Image.new("RGBA", (40, 20), (255, 0, 0, 255)), 120, 118), (Image.new("RGBA", (9, 9)), 0, 0)]
    for alpha in (True, False):
        await join_tiles(paths, tiling, tmp_path / "cover.png", alpha=alpha, about={}, over=over)
        with Image.open(tmp_path / "cover.png") as picture:
            found = np.asarray(picture).astype(int)
        assert found.shape[2] == (4 if alpha else 3)
        assert (found[118:138, 120:160, :3] == (255, 0, 0)).all()
        assert (found[:118] == whole[:118, :, : found.shape[2]]).all() or alpha
        assert not alpha or ((found[:118, :, 3] == 0).all() and (found[118:138, 120:160, 3] == 255).all())


def write_noise(path: Path, side: int) -> None:
    """A picture that no format makes smaller; by libvips, for Pillow tries each line's filters, 4 s for 6,000 of them."""
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    image = vips().Image.new_from_memory(pixels.tobytes(), side, side, 3, "uchar")
    image.write_to_file(str(path), compression=0, filter="none")


async def test_a_tile_that_was_cut_off_meanwhile_is_told(tmp_path: Path) -> None:
    tiling = Tiling(2, 2, 256, 256)
    whole = np.random.default_rng(1).integers(0, 255, (256, 256, 3), np.uint8)
    paths = tiles_of(tmp_path / "tiles", tiling, whole)
    paths[2].write_bytes(paths[2].read_bytes()[:9000])
    with pytest.raises(RenderingFailed, match="^frames: see that the disk has room"):
        await join_tiles(paths, tiling, tmp_path / "cover.png", alpha=False, about={})


async def test_joining_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """A thread cannot be stopped from outside: libvips is told to, and what it holds is free when the task is over."""
    tiling = Tiling(1, 1, 6000, 6000)
    path = tmp_path / "00000-1-1.png"
    write_noise(path, 6000)
    task = asyncio.create_task(join_tiles([path], tiling, tmp_path / "cover.png", alpha=False, about={}))
    while not (tmp_path / "cover.png").exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    size = (tmp_path / "cover.png").stat().st_size
    await asyncio.sleep(0.2)
    assert (tmp_path / "cover.png").stat().st_size == size < 30_000_000


def test_memory_does_not_grow_with_the_frame(tmp_path: Path) -> None:
    """16 tiles of 2,000 x 2,000 pixels are 192 MB, and joining them takes a small part of that."""
    tile = tmp_path / "tile.png"
    write_noise(tile, 2000)
    code = """
import asyncio, resource, sys
from pathlib import Path
from airflow_brayns.movie.images import vips
from airflow_brayns.movie.join import join_tiles
from airflow_brayns.movie.tiles import Tiling
vips()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
folder = Path(sys.argv[1])
asyncio.run(join_tiles([folder / "tile.png"] * 16, Tiling(4, 4, 8000, 8000), folder / "cover.png", alpha=False, about={}))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 120


# ---- from services to the frame ----------------------------------------------------------------------------------------
async def made(
    folder: Path, services: list[Any], scene: Path, *, poster: bool = False, **changes: Any
) -> tuple[np.ndarray[Any, Any], Encoded]:
    """What is rendered, joined and encoded."""
    options = {name: changes.pop(name) for name in ("way", "render_service") if name in changes}
    spec = specification(
        scene, **{"camera": STILL, "renderer": RENDERER, "frames": 1, "output": "cover.png", **changes}
    )
    outcome, _ = await produce(spec, services, folder, **options)
    files, known = just_rendered(folder, outcome.plan, outcome.header)
    output = folder / f"made{Path(spec.output).suffix}"
    result = await encode_movie(
        folder, output, spec.encoding, files=files, metadata=known, tiling=spec.tiling, poster=poster, sheet=poster
    )
    with Image.open(output) as picture:
        return np.asarray(picture).astype(int), result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "tiles", "camera"),
    [
        ((512, 512), (4, 4), STILL),
        ((513, 301), (4, 3), {**STILL, "fovy": 60}),
        ((200, 700), (3, 2), {**STILL, "projection": "orthographic"}),
        ((700, 300), (2, 4), STILL),
    ],
)
async def test_tiles_on_several_services_are_the_whole_frame(
    emulator: Any, data: Path, tmp_path: Path, size: Any, tiles: Any, camera: Any
) -> None:
    """To the bit, whatever the shapes, and in both ways."""
    services = [emulator(**FAST), emulator(**FAST)]
    scene, what = data / "cube.obj", {"resolution": size, "camera": camera}
    whole, _ = await made(tmp_path / "whole", services, scene, **what)
    joined, told = await made(tmp_path / "tiles", services, scene, tiles=tiles, **what)
    by_snapshot, _ = await made(tmp_path / "snapshot", services[:1], scene, tiles=tiles, **what, way="snapshot")
    assert (told.width, told.height, told.frames, told.codec) == (*size, 1, "png")
    assert whole.std() > 5, "something is seen"
    for one in (joined, by_snapshot):
        assert (np.abs(one - whole).max(2) > 2).mean() < 0.001, "an edge may be met from the other side"
    found = records(tmp_path / "tiles")
    assert {one["file"] for one in found} == {f"00000-{row}-{column}.png" for row in range(1, tiles[1] + 1) for column in range(1, tiles[0] + 1)}  # fmt: skip
    assert {one["node"] for one in found} == {"node1", "node2"}


@pytest.mark.slow
@pytest.mark.parametrize("output", ["made.png", "made.mp4"])
async def test_overlays_are_drawn_over_the_joined_frame(emulator: Any, data: Path, tmp_path: Path, output: str) -> None:
    """A title, and the frame's number, as over a frame that was rendered whole; the poster has them, too."""
    services, found = [emulator(**FAST)], []
    what = {"resolution": (512, 512), "output": output, "overlays": {"title": "Cells", "frame_number": True}}
    for tiles in (None, (4, 4)):
        folder = tmp_path / str(tiles is None)
        spec = specification(data / "cube.obj", **what, tiles=tiles, frames=1, camera=STILL, renderer=RENDERER)
        outcome, _ = await produce(spec, services, folder)
        files, known = just_rendered(folder, outcome.plan, outcome.header)
        await encode_movie(
            folder, folder / output, spec.encoding, files=files, metadata=known, tiling=spec.tiling, poster=True, sheet=True
        )  # fmt: skip
        with Image.open(folder / "made.poster.jpg") as picture:
            found.append(np.asarray(picture).astype(int))
    assert (np.abs(found[0] - found[1]).max(2) > 24).mean() < 0.001
    assert (found[1][:60].max(2) > 200).any(), "the title"


@pytest.mark.slow
async def test_a_movie_of_joined_frames_and_its_pictures(emulator: Any, data: Path, tmp_path: Path) -> None:
    what: dict[str, Any] = {"resolution": (192, 128), "frames": 5, "output": "made.mp4", "fps": 5}
    spec = specification(data / "cube.obj", **what, tiles=(2, 2), renderer=RENDERER)
    outcome, told = await produce(spec, [emulator(**FAST)], tmp_path)
    assert (told.steps[-1].done, told.steps[-1].total) == (20, 20)
    files, known = just_rendered(tmp_path, outcome.plan, outcome.header)
    made_of = await encode_movie(
        tmp_path, tmp_path / "made.mp4", spec.encoding, files=files, metadata=known, tiling=spec.tiling, poster=True, sheet=True
    )  # fmt: skip
    assert (made_of.frames, made_of.width, made_of.height, made_of.codec) == (5, 192, 128, "h264")
    with Image.open(tmp_path / "made.poster.jpg") as poster, Image.open(tmp_path / "made.sheet.jpg") as sheet:
        assert poster.size == (192, 128)
        assert sheet.width == 1600


@pytest.mark.slow
async def test_a_tile_is_rendered_again_by_itself(emulator: Any, data: Path, tmp_path: Path) -> None:
    """One that is gone, one that was cut off; and all where they are divided otherwise, or the frame is whole again."""
    what: dict[str, Any] = {"resolution": (256, 128), "frames": 2, "output": "a.mp4", "renderer": RENDERER}
    service = [emulator(**FAST)]

    async def again(**changes: Any) -> tuple[int, str]:
        outcome, told = await produce(specification(data / "cube.obj", **{**what, **changes}), service, tmp_path)
        return outcome.rendered, told.text

    assert (await again(tiles=(2, 2)))[0] == 8
    (tmp_path / "00000-2-1.png").unlink()
    (tmp_path / "00001-1-2.png").write_bytes((tmp_path / "00001-1-2.png").read_bytes()[:50])
    number, told = await again(tiles=(2, 2))
    assert number == 2
    assert "Of 8 tiles: 6 tiles are there already; 1 missing (1 of frames 0); 1 damaged (1 of frames 1)." in told
    assert "All 8 tiles are there already." in (await again(tiles=(2, 2)))[1]
    assert (await again(tiles=(4, 2)))[0] == 16
    number, told = await again(tiles=None)
    assert number == 2
    assert "16 frames that are none of this movie's were moved into the folder set-aside" in told
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["00000.png", "00001.png"]


@pytest.mark.slow
async def test_a_service_that_dies_at_a_tile_leaves_it_to_another(emulator: Any, data: Path, tmp_path: Path) -> None:
    spec = specification(
        data / "cube.obj", resolution=(256, 256), tiles=(4, 4), frames=1, output="a.png", renderer=RENDERER
    )
    services = [emulator(crash_at_picture=3, **FAST), emulator(frame_seconds=0.3, **FAST)]
    outcome, told = await produce(spec, services, tmp_path)
    assert outcome.rendered == 16
    assert {one["node"] for one in records(tmp_path)} == {"node1", "node2"}
    assert "brayns1 on node1 is set aside" in told.text


@pytest.mark.slow
async def test_a_used_service_renders_whole_pictures_again(emulator: Any, data: Path, tmp_path: Path) -> None:
    one = emulator(**FAST)
    for way in ("one-pass", "snapshot"):
        await made(tmp_path / way, [one], data / "cube.obj", tiles=(2, 2), resolution=(256, 256), way=way)
        async with BraynsClient(one.endpoint) as client:
            assert (await client.call("get-camera-region")).result == {"image_start": [0, 1], "image_end": [1, 0]}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["one-pass", "snapshot"])
async def test_a_service_before_3_9_is_told_with_version_and_remedy(
    emulator: Any, data: Path, tmp_path: Path, way: str
) -> None:
    """Before anything is loaded: it would render the whole picture for each tile."""
    old = emulator(version="3.8.0", **FAST)
    says = r"^tiles: use braynsService 3\.9 or later, or leave `tiles` out\.\n +brayns1 on node1 is braynsService 3\.8\.0, which"
    with pytest.raises(InvalidSetting, match=says):
        await made(
            tmp_path, [old], data / "gone.obj", tiles=(2, 2), resolution=(256, 256), way=way, render_service={"version": "3.8.0"}
        )  # fmt: skip


@pytest.mark.slow
async def test_a_frame_of_which_only_some_tiles_show_something_is_none_that_shows_nothing(
    emulator: Any, data: Path, tmp_path: Path
) -> None:
    """The tiles at its edge are the background, which of whole frames would be the end."""
    far = {"path": "still", "distance": 9}
    picture, _ = await made(
        tmp_path, [emulator(**FAST)], data / "cube.obj", tiles=(5, 5), resolution=(325, 325), camera=far
    )
    assert (picture.max(2) > picture.min()).mean() > 0
