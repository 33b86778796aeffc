"""Where the camera stands in each frame: once around, a swing, or through key frames; fitted to what the scene fills."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_brayns.movie.specification import Camera, Keyframe

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Bounds:
    """The box that a scene fills."""

    low: Vector
    high: Vector

    @property
    def center(self) -> Vector:
        """Its middle."""
        x, y, z = ((a + b) / 2 for a, b in zip(self.low, self.high, strict=True))
        return x, y, z

    @property
    def radius_around_y(self) -> float:
        """Half of the widest it gets while it turns about the vertical."""
        return math.hypot(self.high[0] - self.low[0], self.high[2] - self.low[2]) / 2

    @property
    def half_height(self) -> float:
        """Half of its height."""
        return (self.high[1] - self.low[1]) / 2

    def agrees_with(self, other: Bounds) -> bool:
        """Whether two services see the same scene: within a ten-thousandth of its size."""
        size = max(self.radius_around_y, self.half_height, 1e-9)
        ours, theirs = (*self.low, *self.high), (*other.low, *other.high)
        return all(abs(a - b) <= size * 1e-4 for a, b in zip(ours, theirs, strict=True))


@dataclass(frozen=True)
class Pose:
    """Where the camera is, what it looks at, and how wide. `fovy` in degrees, vertical."""

    position: Vector
    target: Vector
    up: Vector
    fovy: float

    def view(self) -> dict[str, list[float]]:
        """`set-camera-view` parameters."""
        return {"position": list(self.position), "target": list(self.target), "up": list(self.up)}


def camera_path(camera: Camera, frames: int, bounds: Bounds, aspect: float) -> Callable[[int], Pose]:
    """The pose in each frame of a movie.

    :param frames: how many the whole movie has; a turntable's last frame is one step before its first.
    :param bounds: what the camera is fitted to.
    :param aspect: width over height.
    """
    if camera.path == "keyframes":
        return _through(camera.keyframes, camera.fovy)
    distance = camera.distance or _fitting_distance(camera, bounds, aspect)
    tilt = math.radians(camera.elevation)
    x, y, z = camera.target or bounds.center

    def pose(frame: int) -> Pose:
        turn = math.radians(camera.start_angle + _degrees(camera, frame, frames))
        position = (
            x + distance * math.cos(tilt) * math.sin(turn),
            y + distance * math.sin(tilt),
            z + distance * math.cos(tilt) * math.cos(turn),
        )
        return Pose(position, (x, y, z), (0.0, 1.0, 0.0), camera.fovy)

    return pose


def _degrees(camera: Camera, frame: int, frames: int) -> float:
    if camera.path == "turntable":
        return 360.0 * camera.turns * frame / frames
    if camera.path == "swing":
        return camera.swing * math.sin(2 * math.pi * frame / frames)
    return 0.0


def _fitting_distance(camera: Camera, bounds: Bounds, aspect: float) -> float:
    """So far away that the scene is in sight in every frame, with a margin."""
    reach = math.tan(math.radians(camera.fovy) / 2)
    turn = bounds.radius_around_y
    tilt = math.radians(abs(camera.elevation))
    height = bounds.half_height * math.cos(tilt) + turn * math.sin(tilt)
    depth = turn * math.cos(tilt) + bounds.half_height * math.sin(tilt)
    return depth + max(height / reach, turn / (reach * aspect), 1e-6) * camera.margin


def _through(keyframes: Sequence[Keyframe], fovy: float) -> Callable[[int], Pose]:
    """A curve through key frames that has no kink: cubic between two, its slope at each from the two beside it."""
    times = [float(one.frame) for one in keyframes]
    values = [[*one.position, *one.target, *one.up, one.fovy or fovy] for one in keyframes]
    slopes = [_slope(times, values, index) for index in range(len(times))]

    def pose(frame: int) -> Pose:
        at = min(max(float(frame), times[0]), times[-1])
        left = min(max(bisect_right(times, at) - 1, 0), max(len(times) - 2, 0))
        if len(times) == 1:
            found = values[0]
        else:
            span = times[left + 1] - times[left]
            t = (at - times[left]) / span
            h00, h10 = (1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2
            h01, h11 = t * t * (3 - 2 * t), t * t * (t - 1)
            rows = zip(values[left], slopes[left], values[left + 1], slopes[left + 1], strict=True)
            found = [h00 * a + h10 * span * da + h01 * b + h11 * span * db for a, da, b, db in rows]
        x, y, z, tx, ty, tz, ux, uy, uz, wide = found
        length = math.hypot(ux, uy, uz) or 1.0
        return Pose((x, y, z), (tx, ty, tz), (ux / length, uy / length, uz / length), min(max(wide, 1.0), 179.0))

    return pose


def _slope(times: list[float], values: list[list[float]], index: int) -> list[float]:
    """Through the neighbours, weighted by their distance in time; at rest at both ends."""
    if index in (0, len(times) - 1):
        return [0.0] * len(values[index])
    before, after = times[index] - times[index - 1], times[index + 1] - times[index]
    rows = zip(values[index - 1], values[index], values[index + 1], strict=True)
    return [((b - a) / before * after + (c - b) / after * before) / (before + after) for a, b, c in rows]
