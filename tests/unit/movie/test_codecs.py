from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from PIL import Image

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.codecs import TABLE, Encoding, EncodingChoice, rate_of, rate_text
from airflow_brayns.movie.encode import encode_movie
from airflow_brayns.movie.ffmpeg import ffmpeg, look_into
from airflow_brayns.movie.specification import MovieSpecification

ENDINGS = {"h264": "mp4", "h265": "mp4", "vp9": "webm", "prores": "mov", "gif": "gif", "png": "png", "jpg": "jpg"}


def specification(codec: str, **more: object) -> MovieSpecification:
    values = {"models": [{"path": "/x.obj"}], "frames": 3, "codec": codec, "output": f"movie.{ENDINGS[codec]}"}
    return MovieSpecification.check({**values, **more})


@pytest.mark.parametrize(
    ("codec", "field", "more"),
    [
        ("gif", "fps", {"fps": 60}),
        ("gif", "fps", {"fps": "60000/1001"}),
        ("gif", "fps", {"fps": 0.001}),
        ("h264", "fps", {"fps": 0.0001}),
        ("h264", "crf", {"crf": 52}),
        ("h265", "crf", {"crf": 63}),
        ("prores", "crf", {"crf": 20}),
        ("gif", "crf", {"crf": 20}),
        ("h264", "resolution", {"resolution": [101, 64]}),
        ("h265", "resolution", {"resolution": [100, 65]}),
        ("vp9", "resolution", {"resolution": [101, 65]}),
        ("prores", "resolution", {"resolution": [101, 64]}),
        ("vp9", "crf", {"crf": 64}),
        ("h264", "resolution", {"resolution": [16384, 16384]}),
        ("gif", "resolution", {"resolution": [16384, 16384]}),
    ],
)
def test_what_can_never_become_a_movie_is_refused_before_it_is_rendered(codec: str, field: str, more: object) -> None:
    """It was found when all frames were rendered and ffmpeg had failed."""
    with pytest.raises(InvalidSetting) as raised:
        specification(codec, **more)  # type: ignore[arg-type]
    assert raised.value.field == field
    assert not raised.value.retry
    assert len(str(raised.value)) < 120


@pytest.mark.parametrize(
    ("codec", "more"),
    [
        ("gif", {"fps": 50}),
        ("gif", {"resolution": [101, 65]}),
        ("h264", {"crf": 51}),
        ("vp9", {"crf": 63}),
        ("h264", {"fps": 1000}),
        ("prores", {"fps": "30000/1001"}),
    ],
)
async def test_what_a_codec_takes_becomes_a_movie(tmp_path: Path, codec: str, more: dict[str, object]) -> None:
    """The table says no more and no less than ffmpeg: 1000 frames a second were refused, since ffmpeg tells hundredths."""
    spec = specification(codec, resolution=more.pop("resolution", [96, 64]), **more)
    for number in range(3):
        Image.new("RGB", spec.resolution, (number * 60, 0, 0)).save(tmp_path / f"{number:05d}.png")
    made = await encode_movie(tmp_path, tmp_path / spec.output, spec.encoding, frames=3)
    assert (made.width, made.height) == spec.resolution


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("30000/1001", "30000/1001"),
        (30000 / 1001, "30000/1001"),
        (24000 / 1001, "24000/1001"),
        (29.97, "2997/100"),
        (23.976, "2997/125"),
        (25, "25"),
        ("12.5", "25/2"),
        (0.001, "1/1000"),
    ],
)
def test_a_rate_is_told_to_ffmpeg_as_it_is(given: object, told: str) -> None:
    assert rate_text(rate_of(given)) == told
    assert rate_of(rate_text(rate_of(given))) == pytest.approx(rate_of(given), rel=1e-12)


@pytest.mark.parametrize(("given", "told"), [(29.97002997, "30000/1001"), (23.976024, "24000/1001")])
def test_a_broadcast_rate_that_was_written_out_is_meant_exactly(given: float, told: str) -> None:
    """As 2997002997/100000000 it would not stay beside sound and other movies."""
    assert rate_text(rate_of(given)) == told


@pytest.mark.parametrize(
    "given", ["1/0", "0/1", "a/b", "", None, True, "-1", "nan", "inf", 1001, "30000/1", [25], 10**400]
)
def test_what_is_no_rate_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        rate_of(given)


async def test_a_broadcast_rate_is_that_of_the_movie(tmp_path: Path) -> None:
    """30000/1001 became 2997/100, and as a text it was refused."""
    for number in range(2):
        Image.new("RGB", (96, 64), (number * 60, 0, 0)).save(tmp_path / f"{number:05d}.png")
    made = await encode_movie(tmp_path, tmp_path / "movie.mov", specification("prores", fps="30000/1001").encoding)
    said = subprocess.run(
        [ffmpeg(), "-i", made.path, "-f", "ffmetadata", "-"], capture_output=True, text=True, check=False
    )
    assert "29.97 fps" in said.stderr
    assert "30k tbn" in said.stderr, "2997/100 has a clock of its own"
    assert made == await look_into(made.path)


@pytest.mark.parametrize(
    ("codec", "size", "refused"),
    [
        ("h264", (16386, 64), True), ("h264", (16384, 64), False), ("h265", (16890, 64), True), ("h265", (16888, 64), False),
        ("vp9", (65536, 64), True), ("vp9", (65534, 64), False), ("gif", (65536, 64), True), ("gif", (65535, 64), False),
        ("gif", (16256, 16256), True), ("gif", (16256, 16254), False),
    ],
)  # fmt: skip
def test_sizes_that_no_encoder_takes_are_refused_by_numbers(codec: str, size: tuple[int, int], refused: bool) -> None:
    """A large picture is not made for it: gigabytes, and minutes."""
    assert [field for field, _ in Encoding(codec).problems(size)] == (["resolution"] if refused else [])


@pytest.mark.parametrize("codec", [name for name, one in TABLE.items() if one.good is not None])
def test_the_quality_that_is_asked_for_is_ffmpegs(codec: str) -> None:
    """Else a good one; those without one are not given any."""

    def quality(encoding: Encoding) -> str:
        words = encoding.arguments()
        return words[words.index("-crf") + 1]

    assert quality(Encoding(codec, crf=41)) == "41"
    assert quality(Encoding(codec, crf=0)) == "0"
    assert quality(Encoding(codec)) == str(TABLE[codec].good)
    assert "-crf" not in Encoding("prores").arguments() + Encoding("gif").arguments()


def test_what_is_not_chosen_is_as_the_specification_says() -> None:
    told = Encoding("vp9", 30000 / 1001, 45)
    assert EncodingChoice().over(told) == told
    assert EncodingChoice(fps=10).over(told) == Encoding("vp9", 10, 45)
    assert EncodingChoice(crf=3).over(told) == Encoding("vp9", 30000 / 1001, 3)
    assert EncodingChoice(codec="h264").over(told) == Encoding("h264", 30000 / 1001, None), "a crf is its codec's"
    with pytest.raises(InvalidSetting, match="^fps: gif takes from 0.002 to 50"):
        EncodingChoice(codec="gif", fps=60.0).over(told)


CLEAR = {"renderer": {"background_color": [0, 0, 0, 0]}}


@pytest.mark.parametrize("codec", [name for name, one in TABLE.items() if not one.alpha])
def test_a_codec_that_loses_what_is_transparent_says_so_before_it_is_rendered(codec: str) -> None:
    with pytest.raises(InvalidSetting, match=rf"{codec} keeps no transparency: take vp9, prores, png, or") as raised:
        specification(codec, frames=1, **CLEAR)
    assert raised.value.field == "codec"
    assert not specification(codec, frames=1, renderer={"background_color": [0, 0, 0, 1]}).transparent


def test_frames_that_lose_what_is_transparent_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="^format: jpg keeps no transparency"):
        specification("vp9", format="jpg", **CLEAR)
    with pytest.raises(InvalidSetting, match="^codec: h264 keeps no transparency"):
        EncodingChoice(codec="h264").over(specification("prores", **CLEAR).encoding)


def test_a_movie_of_version_1_loses_it_as_before() -> None:
    told = specification("h264", version=1, **CLEAR)
    assert not told.encoding.alpha


@pytest.mark.parametrize(("codec", "decoder"), [("vp9", ["-c:v", "libvpx-vp9"]), ("prores", []), ("png", [])])
async def test_what_is_transparent_stays_so(tmp_path: Path, codec: str, decoder: list[str]) -> None:
    """Left half nothing, right half red."""
    frames = 1 if codec == "png" else 3
    spec = specification(codec, frames=frames, resolution=[96, 64], **CLEAR)
    for number in range(frames):
        image = Image.new("RGBA", (96, 64), (0, 0, 0, 0))
        image.paste((255, 0, 0, 255), (48, 0, 96, 64))
        image.save(tmp_path / f"{number:05d}.png")
    made = await encode_movie(tmp_path, tmp_path / "out" / spec.output, spec.encoding, frames=frames)
    read = [
        ffmpeg(),
        "-v",
        "error",
        *decoder,
        "-i",
        str(made.path),
        "-frames:v",
        "1",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgba",
        "-",
    ]
    pixels = subprocess.run(read, capture_output=True, check=True).stdout
    seen = Image.frombytes("RGBA", (96, 64), pixels)
    assert seen.getpixel((10, 32))[3] <= 8  # type: ignore[index]
    red, green, blue, alpha = seen.getpixel((80, 32))  # type: ignore[misc]
    assert (red > 220, green < 40, blue < 40, alpha >= 247) == (True,) * 4
    assert spec.encoding.plain()["pixel_format"] == TABLE[codec].alpha


@pytest.mark.parametrize("output", ["cover.png", "cover.jpg", "cover.JPEG"])
@pytest.mark.parametrize("fps", [25, 500])
async def test_an_output_that_is_a_picture_makes_one_of_its_frame(tmp_path: Path, output: str, fps: int) -> None:
    spec = MovieSpecification.check({"models": [{"path": "/x.obj"}], "frames": 1, "output": output, "resolution": [97, 65], "fps": fps})  # fmt: skip
    Image.new("RGB", (97, 65), (200, 30, 30)).save(tmp_path / "00000.png")
    made = await encode_movie(tmp_path, tmp_path / "100%d" / output, spec.encoding, frames=1)
    with Image.open(made.path) as image:
        assert image.size == (97, 65)
        assert max(abs(a - b) for a, b in zip(image.convert("RGB").getpixel((40, 30)), (200, 30, 30), strict=True)) <= 3  # type: ignore[arg-type]
    assert [one.name for one in made.path.parent.iterdir()] == [output]


@pytest.mark.parametrize("words", [{"frames": 2}, {"frames": 9, "frame_range": [2, 3]}, {"simulation": {}}])
def test_a_picture_of_many_frames_is_refused(words: dict[str, object]) -> None:
    values = {"models": [{"path": "/x.obj"}], "output": "cover.png"}
    with pytest.raises(InvalidSetting, match=r"^frames: 'cover.png' is one picture: write `frames: 1`"):
        MovieSpecification.check({**values, **words})
    MovieSpecification.check({**values, "frames": 9, "frame_range": [4, 4]})
