"""Where the camera stands in each frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from airflow_brayns.errors import InvalidSetting

PATHS = ("turntable", "swing", "still")
FOVY = 45.0
_MARGIN = 1.08


@dataclass(frozen=True)
class Bounds:
    """The box that a scene fills."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    @property
    def center(self) -> tuple[float, float, float]:
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


def angle(path: str, frame: int, frames: int) -> float:
    """Degrees about the vertical in a frame; a turntable's last frame is one step before its first.

    :raises InvalidSetting: for a path that is none of `PATHS`.
    """
    if path == "turntable":
        return 360.0 * frame / frames
    if path == "swing":
        return 40.0 * math.sin(2 * math.pi * frame / frames)
    if path == "still":
        return 0.0
    raise InvalidSetting("camera", f"{path!r} is none of {', '.join(PATHS)}")


def view(bounds: Bounds, degrees: float, aspect: float) -> dict[str, Any]:
    """`set-camera-view` parameters: the whole scene in sight, from so many degrees about the vertical."""
    reach = math.tan(math.radians(FOVY) / 2)
    turn = bounds.radius_around_y
    distance = turn + max(bounds.half_height / reach, turn / (reach * aspect)) * _MARGIN
    x, y, z = bounds.center
    radians = math.radians(degrees)
    return {
        "position": [x + distance * math.sin(radians), y, z + distance * math.cos(radians)],
        "target": [x, y, z],
        "up": [0, 1, 0],
    }
