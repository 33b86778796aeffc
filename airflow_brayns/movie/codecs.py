"""What a movie can be encoded to: each codec's limits, told before a node is asked for, and ffmpeg's options for it.

The limits are ffmpeg's (9.0, run), but for GIF's rate: viewers show a picture of less than 0.02 s for 0.1 s. Large sizes are
not run: they are read in the sources that `largest` and `_FFMPEGS_MOST` name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.tiles import LARGEST_JOINED

FASTEST = 1000  # frames a second
# Of any picture, read or written: 8 bytes a pixel with a margin of 128 on each axis (`av_image_check_size2`, libavutil/imgutils.c)
_FFMPEGS_MOST = 2**31 - 1
_FRACTION = re.compile(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*")
_COLOR = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
_SCALE = "scale=out_color_matrix=bt709:out_range=tv"
_PALETTE = "split[a][b];[a]palettegen[p];[b][p]paletteuse"


@dataclass(frozen=True)
class Codec:
    """What a codec takes.

    :param endings: of its files.
    :param pixels: ffmpeg's name of the pixel format that is made.
    :param options: ffmpeg's that choose it.
    :param rates: the least and the most frames a second.
    :param even: whether both sides must be even.
    :param largest: pixels of the longer side: 16384 is x264's own (`MAX_RESOLUTION`, encoder/encoder.c); 16888 H.265's of its
        highest level, 6.2 (sqrt(8 x 35651584), A.4.1); 65535 what 16 bits hold in libvpx (`RANGE_CHECK(cfg, g_w, 1, 65535)`),
        ProRes' frame header (SMPTE RDD 36) and GIF's screen (GIF89a).
    :param good: the crf that is taken where none is given; None for a codec that has none.
    :param worst: the largest crf.
    :param alpha: ffmpeg's name of the pixel format that keeps what is transparent; empty for a codec that cannot.
    :param alpha_options: ffmpeg's that choose it then, after `options`.
    :param still: whether it makes a picture of one frame, and no movie.
    :param joined: pixels of the longer side of a picture that is joined of tiles, without ffmpeg: what libpng reads unless
        it is told otherwise (PNG_USER_WIDTH_MAX), and libjpeg's JPEG_MAX_DIMENSION.
    """

    endings: tuple[str, ...]
    pixels: str
    options: tuple[str, ...]
    rates: tuple[float, float] = (0.001, FASTEST)
    even: bool = True
    largest: int = 65535
    good: int | None = None
    worst: int = 0
    alpha: str = ""
    alpha_options: tuple[str, ...] = ()
    still: bool = False
    joined: int = 0


TABLE: Mapping[str, Codec] = {
    "h264": Codec((".mp4", ".mov", ".mkv"), "yuv420p", ("-c:v", "libx264"), largest=16384, good=18, worst=51),
    "h265": Codec(
        (".mp4", ".mov", ".mkv"),
        "yuv420p",
        ("-c:v", "libx265", "-tag:v", "hvc1", "-x265-params", "log-level=error"),
        largest=16888,
        good=22,
        worst=51,
    ),
    "vp9": Codec(
        (".webm", ".mkv"),
        "yuv420p",
        ("-c:v", "libvpx-vp9", "-b:v", "0", "-row-mt", "1"),
        good=28,
        worst=63,
        alpha="yuva420p",
        alpha_options=("-auto-alt-ref", "0"),
    ),
    "prores": Codec(  # 422 HQ, or 4444
        (".mov",),
        "yuv422p10le",
        ("-c:v", "prores_ks", "-profile:v", "3"),
        alpha="yuva444p10le",
        alpha_options=("-profile:v", "4", "-alpha_bits", "16"),
    ),
    "gif": Codec((".gif",), "pal8", (), rates=(0.002, 50), even=False),
    "png": Codec(
        (".png",), "rgb24", ("-c:v", "png", "-update", "1"), even=False, alpha="rgba", still=True, joined=LARGEST_JOINED
    ),
    "jpg": Codec(
        (".jpg", ".jpeg"),
        "yuvj444p",
        ("-c:v", "mjpeg", "-q:v", "2", "-update", "1"),
        even=False,
        still=True,
        joined=65500,
    ),
}
CODECS: Mapping[str, tuple[str, ...]] = {name: one.endings for name, one in TABLE.items()}


def still_of(output: str) -> str | None:
    """The codec of a picture, by the ending of its file; None for a movie's."""
    ending = Path(output).suffix.lower()
    return next((name for name, one in TABLE.items() if one.still and ending in one.endings), None)


_OTHER_PICTURES = (".tif", ".tiff", ".exr", ".bmp", ".webp", ".tga", ".hdr")


def other_ending(output: str, codec: str) -> str:
    """What to say of a movie whose ending is not its codec's."""
    ending = Path(output).suffix.lower()
    others = [name for name, endings in CODECS.items() if ending in endings and name != codec]
    instead = f", or take codec {' or '.join(others)}" if others else ""
    if ending in _OTHER_PICTURES:
        instead = ", or, for a picture, in .png or .jpg"
    return f"{output!r} must end in {' or '.join(CODECS[codec])} for {codec}{instead}"


CANNOT_FADE = "fades no shots into each other; take another codec, or leave `fade` out"


def can_fade(codec: str) -> bool:
    """Whether shots can fade into each other in a movie of that codec."""
    return codec != "gif" and not TABLE[codec].still


def from_fraction(value: Any) -> Any:
    """A text such as `30000/1001` as the number that it is; anything else as it is."""
    if isinstance(value, str) and (found := _FRACTION.fullmatch(value)):
        over, under = int(found[1]), int(found[2])
        return over / under if under else math.nan
    return value


def rate_of(value: Any) -> float:
    """Frames a second: a number, or text such as `25`, `29.97` or `30000/1001`.

    :raises ValueError: it is none.
    """
    value = from_fraction(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"must be a number such as 25, or '30000/1001', not {value!r}")
    try:
        rate = float(value)
    except (ValueError, OverflowError):
        rate = math.nan
    if not 0 < rate <= FASTEST:
        raise ValueError(
            f"must be more than 0 and at most {FASTEST}, such as 25 or '30000/1001', not {str(value)[:40]}"
        )
    return rate


def rate_text(rate: float) -> str:
    """A rate as ffmpeg takes it without losing a frame: 29.97002997 is `30000/1001`."""
    exact = Fraction(rate)
    near = exact.limit_denominator(1001)
    found = near if abs(near - exact) <= exact / 10**8 else exact.limit_denominator(10**6)
    return str(found) if found else repr(rate)


def problems(
    codec: str,
    *,
    rate: float,
    crf: int | None = None,
    size: tuple[int, int] | None = None,
    alpha: bool = False,
    joined: bool = False,
) -> Iterator[tuple[str, str]]:
    """Why a movie cannot be made: which field is wrong, and what would be right.

    :param codec: a key of `TABLE`.
    :param rate: frames a second.
    :param size: width and height; None where they are not known.
    :param alpha: whether the frames are transparent, and should stay so.
    :param joined: whether they are joined of tiles: a picture then needs no ffmpeg.
    """
    one = TABLE[codec]
    without = joined and one.still
    least, most = one.rates
    if not least <= rate <= most:
        yield "fps", f"{codec} takes from {least:g} to {most:g} frames a second, not {rate:g}"
    if crf is not None and one.good is None:
        yield "crf", f"leave it out, or take {', '.join(_with_crf())}: {codec} has no such quality"
    elif crf is not None and not 0 <= crf <= one.worst:
        yield "crf", f"{codec} takes from 0 (best) to {one.worst}, not {crf}"
    if size is not None and max(size) > (largest := one.joined if without else one.largest):
        yield "resolution", f"at most {largest} pixels a side for {codec}, not {size[0]}x{size[1]}"
    if size is not None and not without and 8 * (size[0] + 128) * (size[1] + 128) >= _FFMPEGS_MOST:
        yield "resolution", f"make it smaller: ffmpeg takes no picture of {size[0]}x{size[1]}"
    if size is not None and one.even and any(side % 2 for side in size):
        yield "resolution", f"both sides must be even for video, not {size[0]}x{size[1]} ({codec} is {one.pixels})"

    if alpha and not one.alpha:
        can = ", ".join(name for name, other in TABLE.items() if other.alpha)
        yield "codec", f"{codec} keeps no transparency: take {can}, or a background_color without alpha"


def _with_crf() -> list[str]:
    return [name for name, one in TABLE.items() if one.good is not None]


def _shape(drawn: str, filters: str) -> list[str]:
    """ffmpeg's options for filters behind those that draw."""
    if not drawn:
        return ["-map", "0:v", "-vf", filters]
    return ["-filter_complex", f"{drawn}{filters}[movie]", "-map", "[movie]"]


@dataclass(frozen=True)
class Encoding:
    """How frames become a movie.

    :param codec: `h264`, `h265`, `vp9`, `prores` or `gif`; `png` or `jpg` for a picture.
    :param fps: frames a second.
    :param crf: quality, lower is better; None for a good one. Of h264, h265 and vp9.
    :param alpha: whether to keep what is transparent; of vp9, prores and png.
    :param fades: of shots that fade into each other: how many frames each has, and over how many it fades in; empty for a
        movie that is encoded frame by frame.
    :raises InvalidSetting: the codec does not take it, naming the field.
    """

    codec: str = "h264"
    fps: float = 25.0
    crf: int | None = None
    alpha: bool = False
    fades: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.codec not in TABLE:
            raise InvalidSetting("codec", f"{self.codec!r} is none of them.", remedy=f"take one of {', '.join(TABLE)}.")
        for field, text in problems(self.codec, rate=self.fps, crf=self.crf, alpha=self.alpha):
            raise InvalidSetting(field, text)
        if self.fades and not can_fade(self.codec):
            why = f"{self.codec} fades no shots into each other."
            raise InvalidSetting("codec", why, remedy="take another codec, or leave `fade` out.")

    def check_output(self, output: Path) -> None:
        """Check that a file's ending suits the codec.

        :raises InvalidSetting: it does not.
        """
        if output.suffix.lower() not in CODECS[self.codec]:
            raise InvalidSetting(
                "output_file",
                f"{output.name!r} does not suit {self.codec}.",
                remedy=f"end it in {' or '.join(CODECS[self.codec])}.",
            )

    def check_size(self, size: tuple[int, int], *, joined: bool = False) -> None:
        """Check that the frames' size suits the codec.

        :param joined: whether they are joined of tiles.
        :raises InvalidSetting: it does not.
        """
        for field, text in self.problems(size, joined=joined):
            raise InvalidSetting(field, text)

    def problems(self, size: tuple[int, int], *, joined: bool = False) -> Iterator[tuple[str, str]]:
        """See `problems`, of frames of that size."""
        return problems(self.codec, rate=self.fps, crf=self.crf, size=size, joined=joined)

    @property
    def still(self) -> bool:
        """Whether it makes a picture of one frame, and no movie."""
        return TABLE[self.codec].still

    @property
    def rate(self) -> str:
        """The frames a second as ffmpeg takes them."""
        return rate_text(self.fps)

    @property
    def quality(self) -> int | None:
        """The crf that is encoded with; None for a codec that has none."""
        return TABLE[self.codec].good if self.crf is None else self.crf

    def plain(self) -> dict[str, Any]:
        """What is written into the movie's file of how it was made."""
        return {"codec": self.codec, "fps": self.rate, "crf": self.quality, "pixel_format": self.pixels}

    @property
    def pixels(self) -> str:
        """ffmpeg's name of the pixel format that is made."""
        one = TABLE[self.codec]
        return one.alpha if self.alpha else one.pixels

    def over(self, told: Encoding) -> Encoding:
        """See `EncodingChoice.over`: here all is chosen."""
        return self

    def length(self, frames: int) -> int:
        """How many frames the movie has that is made of so many: shots that fade into each other share some."""
        return frames - sum(fade for _, fade in self.fades)

    def arguments(self, drawn: str = "") -> list[str]:
        """ffmpeg's options for the output.

        :param drawn: the filters that draw over the frames, see `overlays.Drawing.graph`; empty for none.
        """
        one = TABLE[self.codec]
        if self.codec == "gif":
            return [*_shape(drawn, _PALETTE), "-loop", "0"]
        crf = [] if self.quality is None else ["-crf", str(self.quality)]
        options = [*one.options, *(one.alpha_options if self.alpha else ())]
        if one.still:
            return [*_shape(drawn, f"format={self.pixels}"), *options]
        if self.fades:
            shape = ["-filter_complex", f"{self._faded(drawn)}{_SCALE},format={self.pixels}[movie]", "-map", "[movie]"]
        else:
            shape = _shape(drawn, f"{_SCALE},format={self.pixels}")
        return [*options, *crf, *shape, *_COLOR, "-movflags", "+faststart+use_metadata_tags"]

    def _faded(self, drawn: str) -> str:
        """ffmpeg's filters that fade shots into each other, with what is drawn over them; what they make is the input of
        the next one.
        """
        rate, number = Fraction(self.rate), len(self.fades)
        graph = f"{drawn or '[0:v]'}format={'gbrap' if self.alpha else 'gbrp'},split={number}{''.join(f'[a{one}]' for one in range(number))};"
        start = length = 0
        for one, (frames, fade) in enumerate(self.fades):
            cut = f"[a{one}]trim=start_frame={start}:end_frame={start + frames},setpts=PTS-STARTPTS,fps={rate}"
            graph += f"{cut}[b{one}];"
            if one:
                seconds = f"duration={float(fade / rate):.9f}:offset={float((length - fade) / rate):.9f}"
                join = f"xfade=transition=fade:{seconds}" if fade else f"concat,fps={rate}"
                graph += f"[{'b' if one == 1 else 'c'}{one - 1}][b{one}]{join}[c{one}];"
            start, length = start + frames, length + frames - fade
        return f"{graph}[c{number - 1}]"


@dataclass(frozen=True)
class EncodingChoice:
    """What of an encoding was asked for; None for what the movie's specification says.

    :param codec: see `Encoding`.
    :param fps: see `Encoding`.
    :param crf: see `Encoding`.
    """

    codec: str | None = None
    fps: float | None = None
    crf: int | None = None

    def over(self, told: Encoding) -> Encoding:
        """What is encoded with: what was asked for, else what is told. A crf is its codec's: with another codec it says nothing.

        :param told: by the specification; the package's usual one where there is none.
        :raises InvalidSetting: the codec does not take it.
        """
        codec = self.codec or told.codec
        crf = told.crf if self.crf is None and codec == told.codec else self.crf
        return Encoding(codec, told.fps if self.fps is None else self.fps, crf, told.alpha, told.fades)
