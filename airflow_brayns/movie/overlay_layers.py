"""Layers: what each overlay of a movie shows in each frame, and where in the picture it is, from the movie's plan.

What an overlay shows is worked out for all frames first, so that what stays the same is drawn once, and its place holds
the largest of what it shows.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.overlay_fields import Overlays, ScaleBar, shown_in_legend
from airflow_brayns.movie.overlay_pictures import Pen, logo
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.scale import friendly, length_text, units_per_pixel
from airflow_brayns.movie.shots import shot_at
from airflow_brayns.movie.specification import MovieSpecification

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_TITLE_SIZE = 1.3  # of the other texts'
# Shares of the picture: a scale bar's of the width at most, a legend's and a logo's of the height
_BAR, _LEGEND, _LOGO = 5, 3, 8
_WIDEST_BAR = 0.9
_SECONDS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
# What an overlay shows in each frame, by its field; None in frames that do not show it.
Shown = Mapping[str, Sequence[Any]]
Size = tuple[int, int]


@dataclass(frozen=True)
class Layer:
    """An overlay: where it is, and what it shows in each frame.

    :param field: the field of the specification that asks for it.
    :param box: left, top, width and height, in pixels.
    :param shown: what it shows in each frame; None for nothing.
    :param draw: the function that makes a picture of that, as large as the box.
    """

    field: str
    box: tuple[int, int, int, int]
    shown: Sequence[Any]
    draw: Callable[[Any], Picture]

    @property
    def moves(self) -> bool:
        """Whether the overlay differs from frame to frame."""
        return any(one != self.shown[0] for one in self.shown)

    def picture(self, what: Any) -> Picture:
        """The picture of what it shows; one that is transparent for None."""
        from PIL import Image

        return Image.new("RGBA", self.box[2:]) if what is None else self.draw(what)

    def encoded(self) -> Iterator[bytes]:
        """Yield a PNG for each frame, or a single one where none differs from another."""

        @lru_cache(16)
        def png(what: Any) -> bytes:
            data = io.BytesIO()
            self.picture(what).save(data, "PNG", compress_level=1)
            return data.getvalue()

        yield from map(png, self.shown if self.moves else self.shown[:1])


def has_overlays(spec: MovieSpecification) -> bool:
    """Whether anything is drawn over a movie's frames."""
    return spec.overlays is not None or any(one.title for one in spec.shots)


def layers_of(plan: Plan) -> list[Layer]:
    """The layers of a plan's frames.

    :raises InvalidSetting: one cannot be drawn; the error names the field.
    """
    spec, frames = plan.specification, plan.frames
    wanted = spec.overlays or Overlays()
    shown: dict[str, Sequence[Any]] = {"title": [_title(spec, wanted, frame) for frame in frames]}
    if wanted.logo is not None:
        shown["logo"] = [wanted.logo] * len(frames)
    if wanted.legend is not None:
        number = shown_in_legend(wanted.legend, spec.models)
        hidden = [bool(spec.shots) and number in shot_at(spec.shots, frame)[0].hide for frame in frames]
        shown["legend"] = [None if one else number for one in hidden]
    if wanted.time:
        shown["time"] = _times(plan)
    if wanted.frame_number:
        shown["frame_number"] = [f"frame {frame}" for frame in frames]
    if wanted.scale_bar is not None:
        shown["scale_bar"] = [_bar(plan, wanted.scale_bar, frame) for frame in frames]
    return _laid_out(spec, shown)


def check_overlays(spec: MovieSpecification) -> None:
    """Check before a node is asked for that the overlays of a movie can be drawn where this runs, as far as that can be
    known before its scene is loaded.

    :raises InvalidSetting: one cannot; the error names the field.
    """
    if not has_overlays(spec):
        return
    wanted = spec.overlays or Overlays()
    shown: dict[str, Sequence[Any]] = {"title": [*(one.title for one in spec.shots if one.title), wanted.title or None]}
    shown["logo"] = [wanted.logo]
    shown["legend"] = [] if wanted.legend is None else [shown_in_legend(wanted.legend, spec.models)]
    shown["time"] = ["t = 100.0 ms"] if wanted.time else []
    shown["frame_number"] = [f"frame {(spec.frames or 1000) - 1}"] if wanted.frame_number else []
    if wanted.scale_bar is not None:
        shown["scale_bar"] = [(spec.resolution[0] // _BAR, length_text(500, wanted.scale_bar.unit))]
    _laid_out(spec, shown)


def check_scale(plan: Plan) -> None:
    """Check before frames are rendered that the scale bar is as long as was asked for in each: its length in the picture
    may follow from the scene.

    :raises InvalidSetting: it is too long or too short for a frame; the error names both.
    """
    wanted = plan.specification.overlays
    if wanted is not None and wanted.scale_bar is not None:
        for frame in plan.frames:
            _bar(plan, wanted.scale_bar, frame)


# ---- what is shown ---------------------------------------------------------------------------------------------
def _title(spec: MovieSpecification, wanted: Overlays, frame: int) -> str | None:
    shot = shot_at(spec.shots, frame)[0] if spec.shots else None
    return (shot.title if shot is not None and shot.title is not None else wanted.title) or None


def _times(plan: Plan) -> list[str]:
    """The simulated time of each frame, all in the unit that suits the latest, as exact as the steps are."""
    steps, dt = [plan.simulation_frame(frame) or 0 for frame in plan.frames], plan.facts.dt
    latest = max(abs(step) * dt for step in steps)
    unit, size = next((one for one in _SECONDS if latest >= one[1] * (1 - 1e-9)), _SECONDS[1])
    step = dt / size
    digits = next((number for number in range(3) if abs(step * 10**number - round(step * 10**number)) < 1e-6), 3)
    return [f"t = {one * step:.{digits}f} {unit}" for one in steps]


def _bar(plan: Plan, wanted: ScaleBar, frame: int) -> tuple[int, str]:
    """The length of the scale bar in pixels and in words."""
    width, height = plan.specification.resolution
    # a turntable's distance differs in its last digits from frame to frame
    each = float(f"{units_per_pixel(plan.pose(frame), height):.6g}")
    length = wanted.length or friendly(each * width / _BAR)
    pixels = round(length / each)
    if not 1 <= pixels <= _WIDEST_BAR * width:
        told = f"{length:g} are {pixels} pixels in frame {frame}; the whole picture, {width} wide, shows {each * width:.4g}."
        raise InvalidSetting(
            "overlays.scale_bar.length", told, remedy="take one that fits, or none for a friendly one."
        )
    return pixels, length_text(length, wanted.unit)


# ---- how large it is, and what draws it ------------------------------------------------------------------------
class _Page:
    """The picture that a movie's overlays are laid out on.

    :param spec: the movie.
    """

    def __init__(self, spec: MovieSpecification) -> None:
        self._spec, self._wanted = spec, spec.overlays or Overlays()
        self.width, self.height = spec.resolution
        self.pen = Pen(self._wanted.size * self.height, self._wanted.color)
        self.margin = self.pen.size // 2

    def measured(self, field: str, what: Sequence[Any]) -> tuple[Size, Callable[[Any], Picture]]:
        """The size that an overlay needs for all that it shows, and the function that draws it so.

        :raises InvalidSetting: it cannot be drawn.
        """
        if field == "title":
            return self._titles(what)
        if field in ("time", "frame_number"):
            return self._texts(self.pen, what)
        if field == "logo":
            return self._logo(what)
        return self._legend(what) if field == "legend" else self._bars(what)

    def _texts(self, pen: Pen, what: Sequence[str], *, middle: bool = False) -> tuple[Size, Callable[[Any], Picture]]:
        sizes = [pen.text_size(text) for text in what]
        size = max(one for one, _ in sizes), sizes[0][1]
        return size, lambda text: pen.text(text, size, middle=middle)

    def _titles(self, what: Sequence[str]) -> tuple[Size, Callable[[Any], Picture]]:
        pen = Pen(self._wanted.size * self.height * _TITLE_SIZE, self._wanted.color)
        room = self.width - 2 * self.margin
        shots = {one.title: f"shots.{number}.title" for number, one in enumerate(self._spec.shots) if one.title}
        for text in what:
            where = shots.get(text, "overlays.title")
            _check_glyphs(pen, text, where)
            if pen.text_size(text)[0] > room:
                fit = next(number for number in range(len(text), -1, -1) if pen.text_size(text[:number])[0] <= room)
                told = f"it is longer than the picture: {fit} of its {len(text)} characters fit."
                raise InvalidSetting(where, told, remedy="shorten it, or take a smaller `size` in `overlays`.")
        return self._texts(pen, what, middle=True)

    def _logo(self, what: Sequence[str]) -> tuple[Size, Callable[[Any], Picture]]:
        picture = logo(what[0], (self.width // 4, self.height // _LOGO))
        return picture.size, lambda _: picture

    def _legend(self, what: Sequence[int]) -> tuple[Size, Callable[[Any], Picture]]:
        ramp, label = self._spec.models[what[0]].color_ramp, self._wanted.legend.label if self._wanted.legend else ""
        if ramp is None or ramp.range is None or ramp.colors is None:  # the specification is checked for it
            raise InvalidSetting("overlays.legend", "there is no range to show.", remedy="leave it out.")
        _check_glyphs(self.pen, label, "overlays.legend.label")
        pen, values, colors, height = self.pen, ramp.range, ramp.colors, self.height // _LEGEND
        return pen.legend_size(values, label, height), lambda _: pen.legend(colors, values, label, height)

    def _bars(self, what: Sequence[tuple[int, str]]) -> tuple[Size, Callable[[Any], Picture]]:
        _check_glyphs(self.pen, what[0][1], "overlays.scale_bar.unit")
        pen, sizes = self.pen, [self.pen.bar_size(pixels, text) for pixels, text in what]
        size = max(one for one, _ in sizes), sizes[0][1]
        return size, lambda one: pen.bar(one[0], one[1], size)


def _check_glyphs(pen: Pen, text: str, field: str) -> None:
    if missing := pen.missing(text):
        told = f"the font, Source Sans, has no {missing[:20]!r}."
        raise InvalidSetting(field, told, remedy="write it without, or draw it into a `logo`.")


# ---- where it is -----------------------------------------------------------------------------------------------
def _laid_out(spec: MovieSpecification, shown: Shown) -> list[Layer]:
    """The layers that show this, each at its place.

    :raises InvalidSetting: one does not fit into the picture; the error names the field.
    """
    page, layers = _Page(spec), list[Layer]()
    left_bottom = page.height  # the frame's number stands above the time, where there is one
    for field in ("title", "logo", "legend", "time", "frame_number", "scale_bar"):
        what = [one for one in dict.fromkeys(shown.get(field, ())) if one is not None]
        if not what:
            continue
        (wide, high), draw = page.measured(field, what)
        left = page.margin if field in ("time", "frame_number") else page.width - page.margin - wide
        top = page.height - page.margin - high
        if field == "title":
            left, top = (page.width - wide) // 2, page.margin
        elif field == "logo":
            top = page.margin
        elif field == "legend":
            top = (page.height - high) // 2
        elif field == "time":
            left_bottom = top + page.margin
        elif field == "frame_number":
            top = left_bottom - page.margin - high
        layers.append(Layer(f"overlays.{field}", (left, top, wide, high), shown[field], draw))
    _check_places(layers, page)
    return layers


def _check_places(layers: Sequence[Layer], page: _Page) -> None:
    size = f"{page.width}x{page.height}"
    for layer in layers:
        left, top, wide, high = layer.box
        if left < 0 or top < 0 or left + wide > page.width or top + high > page.height:
            told = f"it needs {wide}x{high} pixels, and does not fit into a picture of {size}."
            remedy = "take a smaller `size` in `overlays`, or a larger `resolution`."
            raise InvalidSetting(layer.field, told, remedy=remedy)
    for one, other in combinations(layers, 2):
        (left, top, wide, high), (left_of, top_of, wide_of, high_of) = one.box, other.box
        apart = left + wide <= left_of or left_of + wide_of <= left or top + high <= top_of or top_of + high_of <= top
        if not apart:
            told = f"it would run into {other.field} in a picture of {size}."
            remedy = "shorten it, take a smaller `size` in `overlays`, or leave one out."
            raise InvalidSetting(one.field, told, remedy=remedy)
