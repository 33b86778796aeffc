"""What is drawn over frames comes into the movie, its poster and its sheet; the frames stay clean."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.encode import FrameFiles, encode_movie
from airflow_brayns.movie.ffmpeg import ffmpeg
from airflow_brayns.movie.overlays import Drawing
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.specification import MovieSpecification

SIZE = (320, 240)
GROUND = (40, 90, 60)
FACTS = SceneFacts(Bounds((-100, -100, -100), (100, 100, 100)))


def plan_of(overlays: Any, **changes: Any) -> Plan:
    plain = {"models": [{"path": "/a.obj"}], "resolution": SIZE, "overlays": overlays, **changes}
    return Plan(MovieSpecification.check(plain if "shots" in changes else {"frames": 4, **plain}), FACTS, "scene")


def rendered(plan: Plan, folder: Path, ground: tuple[int, ...] = GROUND) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / plan.file(frame) for frame in plan.frames]
    for path in paths:
        Image.new("RGB" if len(ground) == 3 else "RGBA", plan.specification.resolution, ground).save(path)
    return paths


def read(movie: Path, size: tuple[int, int] = SIZE, pixels: str = "rgb24") -> list[Image.Image]:
    words = [ffmpeg(), "-v", "error", "-i", str(movie), "-map", "0:v", "-f", "rawvideo", "-pix_fmt", pixels, "-"]
    data = subprocess.run(words, capture_output=True, check=True).stdout
    mode = "RGBA" if "a" in pixels else "RGB"
    each = size[0] * size[1] * len(mode)
    return [Image.frombytes(mode, size, data[at : at + each]) for at in range(0, len(data), each)]


def near(one: Image.Image, other: Image.Image, most: float = 12) -> bool:
    """Whether two pictures are alike, by the mean of what differs where they do most."""
    apart = (
        ImageChops.difference(one.convert("RGB"), other.convert("RGB"))
        .convert("L")
        .resize((32, 24), Image.Resampling.BOX)
    )
    return max(apart.get_flattened_data()) <= most


async def made(plan: Plan, folder: Path, output: str, paths: Sequence[Path] = (), **options: Any) -> list[Image.Image]:
    paths = paths or rendered(plan, folder / "frames")
    files = FrameFiles.look(paths, Drawing.of(plan))
    movie = await encode_movie(folder / "frames", folder / output, plan.specification.encoding, files=files, **options)
    return read(movie.path)


async def test_each_frame_of_the_movie_has_what_is_drawn_over_it_and_its_file_has_not(tmp_path: Path) -> None:
    plan = plan_of({"title": "A title", "frame_number": True, "scale_bar": True, "size": 0.1})
    paths = rendered(plan, tmp_path / "frames")
    before = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    found = await made(plan, tmp_path, "movie.mp4", paths, poster=True, sheet=True)
    drawing = Drawing.of(plan)
    assert drawing is not None
    clean = Image.new("RGB", SIZE, GROUND)
    wanted = [drawing.on(clean, index) for index in range(4)]
    assert len(found) == 4
    assert all(near(one, other) for one, other in zip(found, wanted, strict=True))
    assert not near(found[0], clean)
    numbers = [one.crop((0, 190, 110, 240)) for one in found]
    assert not near(numbers[0].resize(SIZE), numbers[3].resize(SIZE)), "the number is each frame's own"
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == before
    with Image.open(tmp_path / "movie.poster.jpg") as poster:
        assert near(poster, wanted[2])
    with Image.open(tmp_path / "movie.sheet.jpg") as sheet:
        assert near(sheet.crop((440, 4, 760, 244)), wanted[1], 40)


async def test_where_nothing_is_drawn_the_picture_is_the_same_to_the_bit(tmp_path: Path) -> None:
    """No colour conversion there and back."""
    size, still = (640, 360), {"frames": 1, "output": "a.png", "resolution": (640, 360)}
    plan = plan_of({"title": "x"}, **still)
    noise = Image.merge("RGB", [Image.effect_noise(size, 90) for _ in range(3)])
    [path] = rendered(plan, tmp_path / "frames")
    noise.save(path)
    files = FrameFiles.look([path], Drawing.of(plan))
    movie = await encode_movie(tmp_path, tmp_path / "a.png", plan.specification.encoding, files=files)
    box = files.drawing.layers[0].box if files.drawing else (0, 0, 0, 0)
    with Image.open(movie.path) as found:
        apart = ImageChops.difference(found.convert("RGB"), noise).getbbox()
    assert apart is not None
    assert apart[0] >= box[0] and apart[1] >= box[1] and apart[2] <= box[0] + box[2] and apart[3] <= box[1] + box[3]


@pytest.mark.parametrize(
    ("codec", "output"),
    [("h265", "a.mp4"), ("vp9", "a.webm"), ("prores", "a.mov"), ("gif", "a.gif"), ("jpg", "a.jpg"), ("png", "a.png")],
)
async def test_it_comes_into_every_codec(tmp_path: Path, codec: str, output: str) -> None:
    still = {"frames": 1} if codec in ("jpg", "png") else {}
    plan = plan_of({"title": "A title", "frame_number": True, "size": 0.1}, codec=codec, output=output, **still)
    drawing = Drawing.of(plan)
    assert drawing is not None
    found = await made(plan, tmp_path, output)
    assert len(found) == len(plan.frames)
    assert all(near(one, drawing.on(Image.new("RGB", SIZE, GROUND), at), 20) for at, one in enumerate(found))


@pytest.mark.parametrize(("codec", "output"), [("prores", "a.mov"), ("png", "a.png")])
async def test_over_what_is_transparent_it_is_seen_and_the_rest_stays_so(
    tmp_path: Path, codec: str, output: str
) -> None:
    still = {"frames": 1} if codec == "png" else {}
    renderer = {"background_color": [0, 0, 0, 0]}
    plan = plan_of({"title": "A title", "size": 0.2}, codec=codec, output=output, renderer=renderer, **still)
    paths = rendered(plan, tmp_path / "frames", (0, 0, 0, 0))
    await made(plan, tmp_path, output, paths)
    found = read(tmp_path / output, pixels="rgba")[0]
    alpha = found.getchannel("A")
    assert alpha.getpixel((160, 200)) == 0
    assert max(alpha.crop((0, 0, 320, 80)).get_flattened_data()) >= 250
    assert any(min(one) >= 240 for one in found.crop((0, 0, 320, 80)).get_flattened_data())


async def test_shots_that_fade_take_their_titles_with_them(tmp_path: Path) -> None:
    plan = plan_of({"size": 0.2}, shots=[{"frames": 6, "title": "One"}, {"frames": 6, "fade": 4, "title": "Two"}])
    drawing = Drawing.of(plan)
    assert drawing is not None
    found = await made(plan, tmp_path, "movie.mp4")
    clean = Image.new("RGB", SIZE, GROUND)
    assert len(found) == 8
    assert near(found[0], drawing.on(clean, 0), 20)
    assert near(found[7], drawing.on(clean, 11), 20)
    assert near(found[4], Image.blend(drawing.on(clean, 0), drawing.on(clean, 11), 0.5), 30)


async def test_every_so_many_th_frame_has_its_own(tmp_path: Path) -> None:
    plan = plan_of({"frame_number": True, "size": 0.2}, frames=30, step=7)
    drawing = Drawing.of(plan)
    assert drawing is not None
    found = await made(plan, tmp_path, "movie.mp4")
    clean = Image.new("RGB", SIZE, GROUND)
    assert all(near(one, drawing.on(clean, at), 20) for at, one in enumerate(found))
    assert drawing.layers[0].shown[4] == "frame 28"


async def test_no_text_means_anything_to_ffmpeg_and_the_scratch_folder_may_be_called_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "100%d 'a;b'"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    title = "%{e:1}':x=0[0:v];$(id)"
    plan = plan_of({"title": title, "size": 0.06})
    drawing = Drawing.of(plan)
    assert drawing is not None
    assert "e:1" not in drawing.graph()
    assert len(await made(plan, tmp_path, "movie.mp4")) == 4


def test_of_a_movie_without_overlays_nothing_is_drawn() -> None:
    assert Drawing.of(plan_of(None)) is None
    assert Drawing.of(plan_of({})) is None
    assert Drawing.of(plan_of(None, shots=[{"frames": 2}])) is None
