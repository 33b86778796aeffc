from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.codecs import Encoding
from airflow_brayns.movie.encode import FrameFiles, encode_movie, make_poster, make_sheet
from airflow_brayns.movie.ffmpeg import duration_in, ffmpeg, look_into, run_ffmpeg, stream_in


def frames_in(folder: Path, numbers: range | list[int], size: tuple[int, int] = (96, 64), suffix: str = "png") -> None:
    for number in numbers:
        Image.new("RGB", size, (number * 20 % 256, 0, 0)).save(folder / f"{number:05d}.{suffix}")


@pytest.mark.parametrize(
    ("codec", "suffix", "told"),
    [
        ("h264", "mp4", "h264"),
        ("h265", "mp4", "hevc"),
        ("vp9", "webm", "vp9"),
        ("prores", "mov", "prores"),
        ("gif", "gif", "gif"),
    ],
)
async def test_a_movie_has_every_frame(tmp_path: Path, codec: str, suffix: str, told: str) -> None:
    frames_in(tmp_path, range(12))
    steps: list[tuple[int, int]] = []
    movie = await encode_movie(
        tmp_path,
        tmp_path / f"movie.{suffix}",
        Encoding(codec, 12),
        frames=12,
        progress=lambda *step: steps.append(step),
    )
    assert (movie.codec, movie.frames, movie.width, movie.height) == (told, 12, 96, 64)
    assert movie.duration == pytest.approx(1.0, abs=0.1)
    assert movie == await look_into(movie.path)
    assert steps[-1] == (12, 12)
    assert not list(tmp_path.glob(".*"))


async def test_every_so_many_th_frame_makes_a_movie(tmp_path: Path) -> None:
    """ffmpeg's pattern reads consecutive numbers only."""
    frames_in(tmp_path, range(0, 30))
    files = FrameFiles.look([tmp_path / f"{number:05d}.png" for number in range(0, 30, 7)])
    movie = await encode_movie(tmp_path, tmp_path / "movie.mp4", files=files, poster=True, sheet=True)
    assert movie.frames == 5
    read = [ffmpeg(), "-v", "error", "-i", str(movie.path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(read, capture_output=True, check=True).stdout
    reds = [pixels[96 * 64 * 3 * at] for at in range(5)]
    assert all(abs(red - number * 20 % 256) <= 6 for red, number in zip(reds, range(0, 30, 7), strict=True))


async def test_colours_are_tagged_and_the_metadata_tells_where_it_is_from(tmp_path: Path) -> None:
    frames_in(tmp_path, range(3), suffix="jpg")
    known = {"specification": {"models": [{"path": "/x=y;z#.obj"}]}, "manifest": "abc", "text": "two\nlines"}
    movie = await encode_movie(tmp_path, tmp_path / "movie.mp4", metadata=known)
    said = subprocess.run([ffmpeg(), "-i", movie.path], capture_output=True, text=True, check=False).stderr
    assert "yuv420p(tv, bt709" in said
    out = subprocess.run([ffmpeg(), "-v", "error", "-i", movie.path, "-f", "ffmetadata", "-"], capture_output=True, text=True, check=True).stdout  # fmt: skip
    comment = (
        out.partition("comment=")[2]
        .partition("\nencoder")[0]
        .replace("\\\\", "\0")
        .replace("\\", "")
        .replace("\0", "\\")
    )
    assert json.loads(comment.split("\n")[0]) == known


async def test_a_part_of_a_movie_begins_where_it_begins(tmp_path: Path) -> None:
    frames_in(tmp_path, range(7, 11))
    movie = await encode_movie(tmp_path, tmp_path / "movie.mp4", frames=4, first=7)
    assert movie.frames == 4
    with pytest.raises(RenderingFailed, match="begins with 00007"):
        await encode_movie(tmp_path, tmp_path / "movie.mp4", frames=4, first=0)


async def test_gaps_are_refused_and_listed(tmp_path: Path) -> None:
    frames_in(tmp_path, [0, 1, 3, 6])
    with pytest.raises(RenderingFailed, match="3 are missing .*: 2, 4-5"):
        await encode_movie(tmp_path, tmp_path / "movie.mp4")
    assert not (tmp_path / "movie.mp4").exists()


async def test_a_short_sequence_is_refused(tmp_path: Path) -> None:
    frames_in(tmp_path, range(3))
    with pytest.raises(RenderingFailed, match="holds 3, but the movie has 5"):
        await encode_movie(tmp_path, tmp_path / "movie.mp4", frames=5)


async def test_odd_sides_are_refused_with_a_message(tmp_path: Path) -> None:
    frames_in(tmp_path, range(3), (97, 64))
    with pytest.raises(RenderingFailed, match="97x64; video codecs take even sides only"):
        await encode_movie(tmp_path, tmp_path / "movie.mp4")


async def test_a_broken_frame_in_the_middle_fails_it(tmp_path: Path) -> None:
    frames_in(tmp_path, range(8))
    whole = (tmp_path / "00004.png").read_bytes()
    (tmp_path / "00004.png").write_bytes(whole[:60])
    with pytest.raises(RenderingFailed, match="ffmpeg failed"):
        await encode_movie(tmp_path, tmp_path / "movie.mp4")
    assert not list(tmp_path.glob("*.mp4"))


@pytest.mark.parametrize(("codec", "name"), [("h264", "m.avi"), ("gif", "m.mp4"), ("mpeg", "m.mp4")])
async def test_an_ending_that_does_not_suit_names_the_field(tmp_path: Path, codec: str, name: str) -> None:
    frames_in(tmp_path, range(2))
    with pytest.raises(InvalidSetting, match=r"output_file: end it in|codec: take one of .*\n +'mpeg'"):
        await encode_movie(tmp_path, tmp_path / name, Encoding(codec))


def test_a_poster_and_a_sheet(tmp_path: Path) -> None:
    frames_in(tmp_path, range(30))
    with Image.open(make_poster(tmp_path, tmp_path / "movie.mp4")) as poster:
        assert poster.size == (96, 64)
        assert poster.getpixel((40, 30))[0] == pytest.approx(15 * 20 % 256, abs=4)
    with Image.open(make_sheet(tmp_path, tmp_path / "movie.mp4")) as sheet:
        assert sheet.width == 1600
        assert sheet.getpixel((200, 60)) != sheet.getpixel((1400, sheet.height - 40))


async def test_a_folder_with_a_percent_sign_is_no_pattern(tmp_path: Path) -> None:
    """To ffmpeg the whole path is a pattern: frames in `50%` were not found, those in `a%db` looked for elsewhere."""
    folder = tmp_path / "50% a%db"
    folder.mkdir()
    frames_in(folder, range(3))
    movie = await encode_movie(folder, folder / "movie%d.mp4")
    assert movie.frames == 3


async def test_told_to_stop_it_leaves_neither_ffmpeg_nor_a_task() -> None:
    endless = ["-re", "-f", "lavfi", "-i", "color=size=64x64", "-f", "null", "-"]
    working: asyncio.Task[object] = asyncio.create_task(run_ffmpeg(endless, lambda _: working.cancel() and None))
    async with asyncio.timeout(60):  # a machine that is busy; without an end of its own it would be for ever
        with pytest.raises(asyncio.CancelledError):
            await working
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_what_ffmpeg_says_is_read_with_care() -> None:
    """`1.1.1` seconds were a ValueError, and a long line took minutes."""
    assert duration_in("Duration: 00:01:02.50, start") == 62.5
    assert duration_in("Duration: N/A") is None
    assert duration_in("Duration: 1:1:.") is None
    assert stream_in("Stream #0:0: Video: h264 (High), yuv420p, 96x64 [SAR 1:1]") is not None
    assert stream_in("Stream #0:0: Video: a" * 10_000) is None


async def test_a_lower_quality_is_a_smaller_file(tmp_path: Path) -> None:
    for number in range(3):
        Image.effect_noise((96, 64), 90 + number).convert("RGB").save(tmp_path / f"{number:05d}.png")
    sizes = [
        (await encode_movie(tmp_path, tmp_path / f"{crf}.mp4", Encoding(crf=crf), frames=3)).bytes for crf in (5, 45)
    ]
    assert sizes[0] > 2 * sizes[1]


async def test_frames_of_two_formats_are_no_movie(tmp_path: Path) -> None:
    frames_in(tmp_path, range(2))
    frames_in(tmp_path, range(2, 4), suffix="jpg")
    with pytest.raises(RenderingFailed, match="(?s)^frames: .* holds frames of two formats or two movies") as raised:
        await encode_movie(tmp_path, tmp_path / "movie.mp4")
    assert not raised.value.retry


async def test_pictures_are_made_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    frames_in(tmp_path / "frames", range(3))
    await encode_movie(tmp_path / "frames", tmp_path / "movie.mp4")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["movie.mp4"]
    await encode_movie(tmp_path / "frames", tmp_path / "movie.mp4", poster=True, sheet=True)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "movie.mp4",
        "movie.poster.jpg",
        "movie.sheet.jpg",
    ]
