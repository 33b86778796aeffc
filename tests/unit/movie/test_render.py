from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.encode import encode_movie, ffmpeg
from airflow_brayns.movie.render import Shot, is_whole, render_frames

FAST = {"snapshot_seconds": 0.05}


def shot(data: Path, **changes: object) -> Shot:
    values = {"scene": str(data / "cube.obj"), "frames": 9, "width": 96, "height": 64, "renderer": "interactive"}
    return Shot(**{**values, **changes})  # type: ignore[arg-type]


async def test_frames_are_spread_over_services_a_file_each(emulator, data: Path, tmp_path: Path) -> None:
    services = [emulator(**FAST), emulator(**FAST)]
    told: list[tuple[int, int]] = []
    frames = await render_frames(
        [service.endpoint for service in services], shot(data), tmp_path, progress=lambda *step: told.append(step)
    )
    assert [frame.name for frame in frames] == [f"{number:05d}.png" for number in range(9)]
    assert told[-1] == (9, 9)
    for frame in frames:
        with Image.open(frame) as picture:
            assert picture.size == (96, 64)
            assert len(picture.convert("RGB").getcolors(10000) or []) > 2
    assert frames[0].read_bytes() != frames[3].read_bytes(), "the camera turns"
    assert not list(tmp_path.glob(".*")), "nothing half-written is left"


async def test_a_service_that_dies_hands_its_frame_on(emulator, data: Path, tmp_path: Path) -> None:
    dying, healthy = emulator(crash_at_picture=2, **FAST), emulator(**FAST)
    frames = await render_frames([dying.endpoint, healthy.endpoint], shot(data), tmp_path)
    assert len(frames) == 9
    assert all(is_whole(frame.read_bytes(), 96, 64) for frame in frames)


async def test_with_no_service_left_the_missing_frames_are_named(emulator, data: Path, tmp_path: Path) -> None:
    with pytest.raises(RenderingFailed, match="of 9 frames are missing"):
        await render_frames([emulator(crash_at_picture=4, **FAST).endpoint], shot(data), tmp_path)


async def test_a_missing_scene_names_the_field(emulator, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="scene: .*must exist on the nodes") as error:
        await render_frames([emulator().endpoint], shot(data, scene="/nowhere/at/all.obj"), tmp_path)
    assert not error.value.retry


async def test_a_morphology_without_its_plugin_says_which(emulator, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="braynsCircuitExplorer"):
        await render_frames([emulator().endpoint], shot(data, scene=str(data / "neuron.swc")), tmp_path)


async def test_frames_of_an_earlier_movie_are_not_mixed_in(emulator, data: Path, tmp_path: Path) -> None:
    (tmp_path / "00020.png").write_bytes(b"old")
    await render_frames([emulator(**FAST).endpoint], shot(data, frames=2), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.png", "00001.png"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("scene", "x.txt"), ("camera", "spiral"), ("frames", 0), ("width", 97), ("height", 2), ("renderer", "fast")],
)
def test_bad_values_name_their_field(data: Path, field: str, value: object) -> None:
    with pytest.raises(InvalidSetting, match=field):
        shot(data, **{field: value})


def test_whole_is_checked() -> None:
    picture = Image.new("RGB", (96, 64))
    import io

    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    whole = buffer.getvalue()
    assert is_whole(whole, 96, 64)
    assert not is_whole(whole[:-5], 96, 64)
    assert not is_whole(whole, 64, 96)
    assert not is_whole(b"", 96, 64)


def frames_in(folder: Path, numbers: range | list[int]) -> None:
    for number in numbers:
        Image.new("RGB", (96, 64), (number * 20, 0, 0)).save(folder / f"{number:05d}.png")


async def test_a_movie_has_every_frame(tmp_path: Path) -> None:
    import subprocess

    frames_in(tmp_path, range(12))
    movie = await encode_movie(tmp_path, tmp_path / "movie.mp4", fps=12, frames=12)
    told = subprocess.run([ffmpeg(), "-i", movie, "-f", "null", "-"], capture_output=True, text=True, check=True).stderr
    assert "h264" in told
    assert "96x64" in told
    assert "12 fps" in told
    assert "frame=   12" in told


async def test_gaps_are_refused_and_listed(tmp_path: Path) -> None:
    frames_in(tmp_path, [0, 1, 3, 6])
    with pytest.raises(RenderingFailed, match="3 are missing .*: 2, 4, 5"):
        await encode_movie(tmp_path, tmp_path / "movie.mp4")
    assert not (tmp_path / "movie.mp4").exists()


async def test_a_short_sequence_is_refused(tmp_path: Path) -> None:
    frames_in(tmp_path, range(3))
    with pytest.raises(RenderingFailed, match="holds 3, but the movie has 5"):
        await encode_movie(tmp_path, tmp_path / "movie.mp4", frames=5)


async def test_a_broken_frame_tells_ffmpegs_words(tmp_path: Path) -> None:
    (tmp_path / "00000.png").write_bytes(b"nothing")
    with pytest.raises(RenderingFailed, match="ffmpeg failed"):
        await encode_movie(tmp_path, tmp_path / "movie.mp4")
    assert not list(tmp_path.glob("*.mp4"))
