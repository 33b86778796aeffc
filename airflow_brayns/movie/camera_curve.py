"""A camera's way through key frames, and where on it nothing could be looked at."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from airflow_brayns.movie.easing import EASINGS, Easing

Vector = tuple[float, float, float]
# Position, target, up (of any length) and vertical field of view in degrees.
Stand = tuple[Vector, Vector, Vector, float]
_NOTHING = 1e-6  # of a length, or of a right angle
_MOST_LOOKS = 5_000  # at a way of more frames, evenly spread


class Stop(Protocol):
    """What a key frame tells of the camera."""

    frame: int
    position: Vector
    target: Vector
    up: Vector
    fovy: float | None
    easing: Easing | None


def curve(keyframes: Sequence[Stop], fovy: float, easing: Easing | None = None) -> Callable[[float], Stand]:
    """A curve through key frames that has no kink: cubic between two, its slope at each from the two beside it.

    :param easing: for a key frame that has none of its own; from one that has, the way to the next is straight.
    """
    times = [float(one.frame) for one in keyframes]
    values = [[*one.position, *one.target, *one.up, one.fovy or fovy] for one in keyframes]
    slopes = [_slope(times, values, index) for index in range(len(times))]

    def stand(frame: float) -> Stand:
        at = min(max(float(frame), times[0]), times[-1])
        left = min(max(bisect_right(times, at) - 1, 0), max(len(times) - 2, 0))
        if len(times) == 1:
            x, y, z, tx, ty, tz, ux, uy, uz, wide = values[0]
        else:
            span = times[left + 1] - times[left]
            rows = zip(values[left], slopes[left], values[left + 1], slopes[left + 1], strict=True)
            straight = keyframes[left].easing or easing
            found = _along(rows, (at - times[left]) / span, span, straight)
            x, y, z, tx, ty, tz, ux, uy, uz, wide = found
        return (x, y, z), (tx, ty, tz), (ux, uy, uz), wide

    return stand


def _along(
    rows: Iterable[tuple[float, float, float, float]], t: float, span: float, easing: Easing | None
) -> list[float]:
    """The values between two key frames.

    :param rows: of each value, what it is and its slope, at the one and at the other.
    :param t: the share of the time between them, `span`.
    :param easing: for a straight way; None for the curve.
    """
    if easing is not None:
        share = EASINGS[easing](t)
        return [a + share * (b - a) for a, _, b, _ in rows]
    h00, h10 = (1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2
    h01, h11 = t * t * (3 - 2 * t), t * t * (t - 1)
    return [h00 * a + h10 * span * da + h01 * b + h11 * span * db for a, da, b, db in rows]


def _slope(times: list[float], values: list[list[float]], index: int) -> list[float]:
    """The slope of a curve through key frames at one of them: through the neighbours, weighted by their distance in time; at rest at both ends."""
    if index in (0, len(times) - 1):
        return [0.0] * len(values[index])
    before, after = times[index] - times[index - 1], times[index + 1] - times[index]
    rows = zip(values[index - 1], values[index], values[index + 1], strict=True)
    return [((b - a) / before * after + (c - b) / after * before) / (before + after) for a, b, c in rows]


def view_problem(position: Vector, target: Vector, up: Vector) -> str:
    """Why a camera that stands so shows nothing; empty where it shows something."""
    view = _minus(target, position)
    if math.hypot(*view) <= _NOTHING * _NOTHING * max(1e-300, *map(abs, (*position, *target))):
        return "position and target are the same point"
    if not math.hypot(*up):
        return "up has no length"
    if _sine(view, up) < _NOTHING:
        return "up is the way that the camera looks (target - position), so nothing tells where the top is"
    return ""


def first_problem(keyframes: Sequence[Stop], easing: Easing | None = None) -> tuple[int, str] | None:
    """The first place between key frames where the camera shows nothing: the number of the key frame before it, and why.

    :param easing: see `curve`.
    """
    stand, frames = curve(keyframes, 45.0, easing), [one.frame for one in keyframes]
    for one, other in pairwise(_looks(frames)):
        before = bisect_right(frames, one) - 1
        position, target, up, _ = stand(one)
        further, its_target, its_up, _ = stand(other)
        cut = one in frames and other in frames
        if _passes_zero(_minus(target, position), _minus(its_target, further), cut=cut):
            return (
                before,
                f"on the way to the next one, between frames {one} and {other}, the camera passes through its target",
            )
        if _passes_zero(up, its_up, cut=cut):
            return (
                before,
                f"on the way to the next one, between frames {one} and {other}, `up` has no length: turn it sideways first",
            )
        if problem := view_problem(position, target, up):
            return before, f"on the way to the next one, at frame {one}: {problem}"
    return None


def _looks(frames: Sequence[int]) -> Iterator[int]:
    step = max(1, (frames[-1] - frames[0]) // _MOST_LOOKS)
    yield from sorted({*range(frames[0], frames[-1], step), *frames})


def _passes_zero(one: Vector, other: Vector, *, cut: bool) -> bool:
    """Whether what changes from one vector to another on a straight line has no length on the way; a cut has no way."""
    shorter = min(math.hypot(*one), math.hypot(*other))
    step = _minus(other, one)
    along = sum(part * part for part in step)
    share = 0.0 if cut or not along else min(1.0, max(0.0, -sum(a * b for a, b in zip(one, step, strict=True)) / along))
    nearest = math.hypot(*(a + share * b for a, b in zip(one, step, strict=True)))
    return nearest <= _NOTHING * shorter


def _minus(one: Vector, other: Vector) -> Vector:
    return one[0] - other[0], one[1] - other[1], one[2] - other[2]


def _sine(one: Vector, other: Vector) -> float:
    """The sine of the angle between two vectors that have a length."""
    (a, b, c), (x, y, z) = one, other
    lengths = math.hypot(*one) * math.hypot(*other)
    return math.hypot(b * z - c * y, c * x - a * z, a * y - b * x) / lengths if lengths else 0.0
