"""The camera's way through a movie: once around, a swing, or through key frames; fitted to the room that the scene
fills.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from airflow_brayns.movie.camera_curve import Vector, curve
from airflow_brayns.movie.camera_fields import NEAR_CLIP, Camera, Keyframe
from airflow_brayns.movie.easing import EASINGS, Easing


@dataclass(frozen=True)
class Bounds:
    """The box that a scene fills."""

    low: Vector
    high: Vector

    @property
    def center(self) -> Vector:
        """The middle of the box."""
        x, y, z = ((a + b) / 2 for a, b in zip(self.low, self.high, strict=True))
        return x, y, z

    @property
    def radius_around_y(self) -> float:
        """Half of the greatest width that the box has while it turns about the vertical."""
        return math.hypot(self.high[0] - self.low[0], self.high[2] - self.low[2]) / 2

    @property
    def half_height(self) -> float:
        """Half of the box's height."""
        return (self.high[1] - self.low[1]) / 2

    def agrees_with(self, other: Bounds) -> bool:
        """Tell whether two services see the same scene: their boxes agree within a ten-thousandth of the size."""
        size = max(self.radius_around_y, self.half_height, 1e-9)
        ours, theirs = (*self.low, *self.high), (*other.low, *other.high)
        return all(abs(a - b) <= size * 1e-4 for a, b in zip(ours, theirs, strict=True))


@dataclass(frozen=True)
class Pose:
    """A pose of the camera: where it is, what it looks at, its vertical field of view `fovy` in degrees, and its lens.

    :param height: what is as high as the picture, of an orthographic camera; None for a perspective.
    :param aperture_radius: 0 where everything is sharp.
    :param focus_distance: how far away it is sharp; None for the target.
    :param near_clip: what is nearer is not shown.
    """

    position: Vector
    target: Vector
    up: Vector
    fovy: float
    height: float | None = None
    aperture_radius: float = 0.0
    focus_distance: float | None = None
    near_clip: float = NEAR_CLIP

    def view(self) -> dict[str, list[float]]:
        """The parameters of `set-camera-view` for this pose."""
        return {"position": list(self.position), "target": list(self.target), "up": list(self.up)}

    def projection(self) -> tuple[str, dict[str, float]]:
        """The projection's name, and its parameters: all of them, since one that is left out may stay as somebody set it."""
        if self.height is not None:
            return "orthographic", {"height": self.height}
        focus = self.focus_distance if self.focus_distance is not None else math.dist(self.position, self.target)
        params = {"fovy": self.fovy, "aperture_radius": self.aperture_radius}
        return "perspective", {**params, "focus_distance": focus if self.aperture_radius else 1.0}

    def numbers(self) -> tuple[float, ...]:
        """All that the pose's picture depends on; what version 1 did not have is there only where it is given."""
        since = () if self.height is None else (1.0, self.height)  # each after a number that stands for its word
        if self.aperture_radius:
            since = (*since, 2.0, *self.projection()[1].values())
        if self.near_clip != NEAR_CLIP:
            since = (*since, 3.0, self.near_clip)
        return (*self.position, *self.target, *self.up, self.fovy, *since)


# The degrees about the vertical and above the horizon from which each side is seen.
_VIEWS = {"front": (0, 0), "back": (180, 0), "right": (90, 0), "left": (-90, 0), "top": (0, 90), "bottom": (0, -90)}


def camera_path(camera: Camera, frames: int, bounds: Bounds, aspect: float) -> Callable[[int], Pose]:
    """Make the function that gives the camera's pose in each frame of a movie.

    :param frames: how many frames the whole movie has; a turntable's last frame is one step before its first.
    :param bounds: the box that the camera is fitted to.
    :param aspect: the picture's width over its height.
    """
    lens = partial(_with_lens, camera, _fitting(camera, bounds, aspect))
    if camera.path == "keyframes":
        way = _through(camera.keyframes, camera.fovy, camera.easing)
        return lambda frame: lens(way(frame))
    side, above = _VIEWS[camera.view or "front"]
    tilt = math.radians(camera.elevation + above)
    distance = camera.distance or _fitting_distance(camera, bounds, aspect)
    x, y, z = camera.target or bounds.center

    def pose(frame: int) -> Pose:
        turn = math.radians(side + camera.start_angle + _degrees(camera, frame, frames))
        position = (
            x + distance * math.cos(tilt) * math.sin(turn),
            y + distance * math.sin(tilt),
            z + distance * math.cos(tilt) * math.cos(turn),
        )
        up = (-math.sin(tilt) * math.sin(turn), 0.0, -math.sin(tilt) * math.cos(turn)) if above else (0.0, 1.0, 0.0)
        return lens(Pose(position, (x, y, z), up, camera.fovy))

    return pose


def _with_lens(camera: Camera, height: float, pose: Pose) -> Pose:
    return replace(
        pose,
        height=height if camera.projection == "orthographic" else None,
        aperture_radius=camera.aperture_radius,
        focus_distance=camera.focus_distance,
        near_clip=camera.near_clip,
    )


def _degrees(camera: Camera, frame: int, frames: int) -> float:
    share = EASINGS[camera.easing or "linear"](frame / frames)
    if camera.path == "turntable":
        return 360.0 * camera.turns * share
    if camera.path == "swing":
        return camera.swing * math.sin(2 * math.pi * share)
    return 0.0


def _seen(camera: Camera, bounds: Bounds) -> tuple[float, float, float]:
    """Half of the greatest width, height and depth that the box has for the camera in any frame."""
    if camera.view and camera.path == "still" and not camera.start_angle and not camera.elevation:
        wide, high, deep = ((b - a) / 2 for a, b in zip(bounds.low, bounds.high, strict=True))
        return {"right": (deep, high, wide), "left": (deep, high, wide), "top": (wide, deep, high), "bottom": (wide, deep, high)}.get(
            camera.view, (wide, high, deep)
        )  # fmt: skip
    turn = bounds.radius_around_y
    tilt = math.radians(abs(camera.elevation + _VIEWS[camera.view or "front"][1]))
    height = bounds.half_height * math.cos(tilt) + turn * math.sin(tilt)
    return turn, height, turn * math.cos(tilt) + bounds.half_height * math.sin(tilt)


def _fitting_distance(camera: Camera, bounds: Bounds, aspect: float) -> float:
    """The distance from which the whole scene is in sight in every frame, with a margin."""
    reach = math.tan(math.radians(camera.fovy) / 2)
    turn, height, depth = _seen(camera, bounds)
    return depth + max(height / reach, turn / (reach * aspect), 1e-6) * camera.margin


def _fitting(camera: Camera, bounds: Bounds, aspect: float) -> float:
    """What an orthographic camera has as high as the picture, so that the whole scene is in sight in every frame."""
    turn, height, _ = _seen(camera, bounds)
    return camera.height or 2 * max(height, turn / aspect, 1e-6) * camera.margin


def _through(keyframes: Sequence[Keyframe], fovy: float, easing: Easing | None) -> Callable[[int], Pose]:
    """A curve through key frames, see `camera_curve.curve`."""
    way = curve(keyframes, fovy, easing)

    def pose(frame: int) -> Pose:
        position, target, (ux, uy, uz), wide = way(frame)
        length = math.hypot(ux, uy, uz) or 1.0
        return Pose(position, target, (ux / length, uy / length, uz / length), min(max(wide, 1.0), 179.0))

    return pose
