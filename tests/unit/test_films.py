"""The films of `dags/movies/` that are shown in the docs: their data come from committed scripts, and they show what they should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from airflow_brayns.movie.encode import FrameFiles, encode_movie
from airflow_brayns.movie.overlay_layers import check_overlays
from airflow_brayns.movie.overlays import Drawing
from airflow_brayns.movie.rendered import just_rendered
from airflow_brayns.movie.specification import MovieSpecification
from tests.support.cluster import REPO
from tests.support.movie import produce
from tests.unit.movie.test_overlays import read

MOVIES, SCENES = REPO / "dags" / "movies", REPO / "dags" / "scenes"


def values_of(path: Path) -> dict[str, Any]:
    """All that is in an HDF5 file."""
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, one: found.__setitem__(name, one[()]) if isinstance(one, h5py.Dataset) else None)
    return found


def test_the_column_is_what_its_script_grows(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SCENES / "grow_column.py", tmp_path], check=True, cwd=tmp_path)
    grown = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*.*")}
    kept = {path.relative_to(SCENES / "column"): path for path in (SCENES / "column").rglob("*.*")}
    assert grown.keys() == kept.keys()
    for name, path in grown.items():
        if path.suffix != ".h5":
            assert path.read_text() == kept[name].read_text()
            continue
        ours, theirs = values_of(path), values_of(kept[name])
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            same = (
                np.allclose(value, theirs[key], atol=1e-4)
                if value.dtype.kind == "f"
                else np.array_equal(value, theirs[key])
            )
            assert same, key
    assert sum(path.stat().st_size for path in kept.values()) < 250_000


def test_the_spikes_are_what_their_script_writes() -> None:
    done = subprocess.run([sys.executable, SCENES / "fire_cells.py"], check=True, capture_output=True, text=True)
    assert done.stdout == (MOVIES / "spikes.csv").read_text()


@pytest.mark.slow
async def test_a_cell_flashes_in_the_frame_of_its_spike_and_no_other(emulator: Any, tmp_path: Path) -> None:
    """The first spike of the table is that of cell 5, in frame 3."""
    spec = MovieSpecification.read_file(MOVIES / "spikes.yaml")
    spec = spec.model_copy(update={"resolution": (480, 200), "frame_range": (0, 3)})
    service = emulator("--plugin", "braynsCircuitExplorer", snapshot_seconds=0)
    outcome, _ = await produce(spec, [service], tmp_path / "frames")
    pictures = [Image.open(tmp_path / "frames" / outcome.plan.file(frame)).convert("RGB") for frame in range(4)]
    frames = [np.asarray(picture, int) for picture in pictures]
    lit = [frame[:, :, 0] > frame[:, :, 2] + 40 for frame in frames]
    assert [int(one.sum()) > 40 for one in lit] == [False, False, False, True]
    place = np.flatnonzero(lit[3].any(0))
    assert place.min() > 300 and place.max() < 460, "the second cell from the right"
    dark = frames[3][:, :260]
    assert np.abs(dark - frames[2][:, :260]).mean() < 2, "the others rest"


@pytest.mark.slow
async def test_the_column_is_cut_open_its_colours_are_the_legends_and_the_bar_is_as_long_as_it_says(
    emulator: Any, tmp_path: Path
) -> None:
    spec = MovieSpecification.read_file(MOVIES / "column.yaml")
    check_overlays(spec)
    size = (480, 270)
    spec = spec.model_copy(update={"resolution": size, "step": 20})
    service = emulator("--plugin", "braynsCircuitExplorer", snapshot_seconds=0)
    outcome, _ = await produce(spec, [service], tmp_path / "frames")
    plan = outcome.plan
    assert (plan.total, list(plan.frames)) == (46, [0, 20, 40])
    paths = [tmp_path / "frames" / plan.file(frame) for frame in plan.frames]
    drawing = Drawing.of(plan)
    assert drawing is not None
    layers = {one.field: one for one in drawing.layers}
    assert list(layers) == ["overlays.title", "overlays.legend", "overlays.time", "overlays.scale_bar"]
    assert layers["overlays.time"].shown == ["t = 0.0 ms", "t = 10.5 ms", "t = 21.0 ms"]
    # 900 away, 45 degrees: 2.761 µm a pixel of 270
    assert set(layers["overlays.scale_bar"].shown) == {(72, "200 µm")}
    frames = [np.asarray(Image.open(path).convert("RGB"), int) for path in paths]
    bright = [int((frame.min(2) > 150).sum()) for frame in frames]
    assert bright[0] < 20 < 300 < bright[1], "the wave is under way"
    rest, peak = frames[0].reshape(-1, 3), frames[1].reshape(-1, 3)
    assert (rest[:, 2] > rest[:, 0] + 60).sum() > 3000, "at rest it is blue, as the legend's lower end"
    assert (peak[:, 0] > peak[:, 2] + 60).sum() > 100, "and orange in between"
    movie = await encode_movie(
        tmp_path, tmp_path / "column.mp4", spec.encoding, files=FrameFiles.look(paths, drawing), poster=True
    )
    assert (movie.frames, movie.width, movie.height) == (3, *size)
    with Image.open(tmp_path / "column.poster.jpg") as poster:
        box = layers["overlays.legend"].box
        column = [poster.getpixel((box[0] + box[2] - 6, y)) for y in range(box[1] + 20, box[1] + box[3] - 4)]
    assert np.min(column[0]) > 150, "the highest value at the top"
    assert np.argmax(column[-1]) == 2


@pytest.mark.slow
async def test_what_is_cut_out_is_not_there(emulator: Any, tmp_path: Path) -> None:
    """From the side of the cut the middle of the column is seen, which is dark where the cut is wide open."""
    plain = json.loads(json.dumps(MovieSpecification.read_file(MOVIES / "column.yaml").plain()))
    shares = []
    for name, clipping in (("cut", plain["clipping"]), ("whole", [])):
        still = {"path": "still", "view": "top", "distance": 900, "target": [0, 0, 0]}
        changed = {
            **plain,
            "clipping": clipping,
            "resolution": [192, 192],
            "camera": still,
            "frame_range": [0, 0],
            "overlays": None,
        }
        service = emulator("--plugin", "braynsCircuitExplorer", snapshot_seconds=0)
        outcome, _ = await produce(MovieSpecification.check(changed), [service], tmp_path / name)
        picture = np.asarray(Image.open(tmp_path / name / outcome.plan.file(0)).convert("RGB"), int)
        shares.append([(picture[y : y + 34, x : x + 34, 2] > 60).mean() for y, x in ((98, 98), (60, 60))])
    (cut_away, cut_left), (whole, _) = shares
    assert cut_away < 0.02 < 0.3 < whole
    assert cut_left > 0.3


@pytest.mark.slow
async def test_the_poster_is_one_picture_of_twenty_tiles(emulator: Any, tmp_path: Path) -> None:
    """Small: 20 tiles by two services, of what `dags/movies/poster.yaml` shows; light and grain are the same all over."""
    whole_spec = MovieSpecification.read_file(MOVIES / "poster.yaml")
    services = [emulator("--plugin", "braynsCircuitExplorer", snapshot_seconds=0) for _ in range(2)]
    found = []
    for tiles in (whole_spec.tiles, None):
        spec = whole_spec.model_copy(update={"resolution": (320, 400), "tiles": tiles})
        folder = tmp_path / str(tiles is None)
        outcome, _ = await produce(spec, services, folder)
        files, known = just_rendered(folder, outcome.plan, outcome.header)
        await encode_movie(
            folder, folder / "poster.png", spec.encoding, files=files, metadata=known, tiling=spec.tiling
        )
        with Image.open(folder / "poster.png") as picture:
            found.append(np.asarray(picture).astype(int))
    joined, whole = found
    assert joined.shape == whole.shape == (400, 320, 3)
    assert whole.std() > 10
    assert np.abs(joined - whole).mean() < 1


@pytest.mark.slow
async def test_the_two_shots_of_the_cell_have_their_titles_and_bars_and_fade_into_each_other(
    emulator: Any, tmp_path: Path
) -> None:
    full = MovieSpecification.read_file(MOVIES / "cell.yaml")
    check_overlays(full)
    assert full.encoding.length(108) == 94
    plain = full.plain()
    first, second = plain["shots"]
    moved = [{**one, "frame": at} for at, one in zip((0, 5), second["camera"]["keyframes"], strict=True)]
    second = {**second, "frames": 6, "fade": 4, "camera": {**second["camera"], "keyframes": moved}}
    short = {**plain, "frames": None, "resolution": [480, 270], "shots": [{**first, "frames": 5}, second]}
    spec = MovieSpecification.check({name: one for name, one in short.items() if one is not None})
    service = emulator("--plugin", "braynsCircuitExplorer", snapshot_seconds=0)
    outcome, _ = await produce(spec, [service], tmp_path / "frames")
    plan, drawing = outcome.plan, Drawing.of(outcome.plan)
    assert drawing is not None
    title, bar = drawing.layers
    assert title.shown == ["A pyramidal cell"] * 5 + ["Its soma and the dendrites around it"] * 6
    lengths = [int(text.removesuffix(" µm")) for _, text in bar.shown]
    assert lengths[:5] == [200] * 5
    assert (lengths[5], lengths[-1]) == (100, 20), "it follows the camera"
    assert lengths == sorted(lengths, reverse=True)
    paths = [tmp_path / "frames" / plan.file(frame) for frame in plan.frames]
    made = await encode_movie(tmp_path, tmp_path / "cell.mp4", spec.encoding, files=FrameFiles.look(paths, drawing))
    assert made.frames == 7
    found = [np.asarray(one, float) for one in read(made.path, (480, 270))]
    left, top, wide, high = title.box
    part = np.s_[top : top + high, left : left + wide]
    wanted = []
    for frame, path in enumerate(paths):
        with Image.open(path) as picture:
            wanted.append(np.asarray(drawing.on(picture, frame).convert("RGB"), float))
    halves = (wanted[3] + wanted[7]) / 2  # the fade's middle is of both shots, with both titles

    def apart(one: Any, other: Any) -> float:
        return float(np.abs(one - other).mean())

    for at, right, wrong in ((0, wanted[0], wanted[5]), (6, wanted[10], wanted[4]), (3, halves, wanted[3])):
        assert apart(found[at], right) < apart(found[at], wrong) / 2
        assert apart(found[at][part], right[part]) < apart(found[at][part], wrong[part]) / 2
