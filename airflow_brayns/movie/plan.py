"""What each frame of a movie shows, and the keys by which a frame on disk is known to be the right one."""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.camera import Bounds, Pose, camera_path
from airflow_brayns.movie.picture import spread
from airflow_brayns.movie.specification import MovieSpecification, Simulation

_LARGEST = 1e15  # beyond it a float has no room for a camera's way
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class SceneFacts:
    """What a service tells of the loaded scene; the same on all of them.

    :param bounds: what the models fill.
    :param first, last: frames of the simulation.
    :param dt: simulated seconds between two of them; 0 where there is none.
    """

    bounds: Bounds
    first: int = 0
    last: int = 0
    dt: float = 0.0

    @classmethod
    def read(cls, bounds: Mapping[str, Any], simulation: Mapping[str, Any]) -> SceneFacts:
        """From the results of `get-scene` and `get-simulation-parameters`.

        :raises InvalidSetting: the scene is empty.
        :raises RenderingFailed: that is no scene.
        """
        try:
            low, high = _vector(bounds["min"]), _vector(bounds["max"])
            if any(a > b for a, b in zip(low, high, strict=True)):
                raise InvalidSetting("models", "the scene is empty: the models that were loaded fill no room")
            dt = _number(simulation.get("dt") or 0) * _SECONDS.get(str(simulation.get("unit") or "ms"), 1e-3)
            first, last = (int(_number(simulation.get(key) or 0)) for key in ("start_frame", "end_frame"))
            return cls(_bounds(low, high), first, last, dt)
        except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise _no_scene(bounds, simulation) from error
        except ValueError as error:
            if isinstance(error, InvalidSetting):
                raise
            raise _no_scene(bounds, simulation) from error

    def plain(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "low": self.bounds.low,
            "high": self.bounds.high,
            "first": self.first,
            "last": self.last,
            "dt": self.dt,
        }

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> SceneFacts:
        """The reverse of `plain`.

        :raises ValueError: for anything else.
        """
        try:
            low, high = _vector(value["low"]), _vector(value["high"])
            first, last = int(_number(value["first"])), int(_number(value["last"]))
            return cls(_bounds(low, high), first, last, _number(value["dt"]))
        except (KeyError, TypeError, ArithmeticError) as error:
            raise ValueError("these are no facts of a scene") from error

    def agrees_with(self, other: SceneFacts) -> bool:
        """Whether two services have loaded the same."""
        return self.bounds.agrees_with(other.bounds) and (self.first, self.last) == (other.first, other.last)


def _number(value: Any) -> float:
    """A number that can be reckoned with. An empty scene's bounds are the largest there are (3.10.1, read)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def _vector(value: Any) -> tuple[float, float, float]:
    x, y, z = value if isinstance(value, list | tuple) else ()
    return _number(x), _number(y), _number(z)


def _bounds(low: tuple[float, float, float], high: tuple[float, float, float]) -> Bounds:
    if any(abs(part) > _LARGEST for part in (*low, *high)):
        raise ValueError("a scene of that size cannot be looked at")
    return Bounds(low, high)


def _no_scene(bounds: Any, simulation: Any) -> RenderingFailed:
    return RenderingFailed(
        f"get-scene and get-simulation-parameters answered {reprlib.repr(bounds)} and {reprlib.repr(simulation)}, which is no scene"
    )


def simulation_frames(simulation: Simulation, fps: float, facts: SceneFacts) -> list[int]:
    """The simulation's frame in each frame of the movie, as the official client's `MovieFrames.get_indices` counts (3.10.1, read).

    :raises InvalidSetting: the scene has no simulation, or none of it is asked for.
    """
    if facts.dt <= 0 or facts.last <= facts.first:
        raise InvalidSetting(
            "simulation", "the scene that was loaded has no simulation; leave it out and give `frames`"
        )

    def clamped(frame: int) -> int:
        return min(max(frame + facts.last + 1 if frame < 0 else frame, facts.first), facts.last)

    start, end = clamped(simulation.start), clamped(simulation.end)
    step = 1 / facts.dt / fps / simulation.slowing_factor
    moves = start + step > start and end + step > end  # beside a large number a small one is none
    count = (end - start) / step + 2 if moves else math.inf
    if count > 10_000_000:
        raise InvalidSetting("simulation.slowing_factor", f"makes {count:.0f} frames of it; at most 10,000,000")
    found, current = [], float(start)
    while current <= end:
        found.append(round(current))
        current += step
    if not found:
        raise InvalidSetting("simulation", f"start {start} is behind end {end}")
    return found


def scene_hash(specification: MovieSpecification, identity: str = "") -> str:
    """What is loaded and how it is lit and coloured; frames of two scenes never mix.

    :param identity: size and time of the models' files, where they could be asked for.
    """
    parts = {
        "models": [
            [one.path, one.loader_name, one.loader_properties, one.model_dump(mode="json", include={"color", "colors"})]
            for one in specification.models
        ],
        "lights": [one.model_dump(mode="json") for one in specification.all_lights()],
        "files": identity,
    }
    return _hash(parts)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """The frames of a movie.

    :param specification: what was asked for.
    :param facts: of the scene.
    :param scene: see `scene_hash`.
    :param sample: only so many of the frames, evenly spread; None for all.
    """

    specification: MovieSpecification
    facts: SceneFacts
    scene: str
    sample: int | None = None

    @cached_property
    def shown(self) -> list[int] | None:
        """The simulation's frame in each frame; None where nothing moves but the camera."""
        wanted = self.specification.simulation
        return None if wanted is None else simulation_frames(wanted, self.specification.fps, self.facts)

    @property
    def total(self) -> int:
        """How many frames the whole movie has."""
        return len(self.shown) if self.shown is not None else int(self.specification.frames or 0)

    @cached_property
    def frames(self) -> Sequence[int]:
        """The numbers of the frames to render.

        :raises InvalidSetting: `frame_range` is outside the movie.
        """
        chosen = range(self.total)
        if self.specification.frame_range is not None:
            first, last = self.specification.frame_range
            if last >= self.total:
                raise InvalidSetting("frame_range", f"the movie's last frame is {self.total - 1}")
            chosen = range(first, last + 1)
        return chosen if self.sample is None else spread(chosen, self.sample)

    @property
    def digits(self) -> int:
        """How many digits a frame's number has in its file's name."""
        return max(5, len(str(self.total - 1)))

    def file(self, frame: int) -> str:
        """The name of a frame's file."""
        return f"{frame:0{self.digits}d}.{self.specification.format}"

    @cached_property
    def _path(self) -> Any:
        spec = self.specification
        return camera_path(spec.camera, self.total, self.facts.bounds, spec.aspect)

    def pose(self, frame: int) -> Pose:
        """Where the camera is."""
        found: Pose = self._path(frame)
        return found

    def simulation_frame(self, frame: int) -> int | None:
        """What the simulation shows."""
        return None if self.shown is None else self.shown[frame]

    @cached_property
    def _common(self) -> str:
        spec = self.specification
        same = [spec.renderer.name, spec.renderer.parameters(), spec.resolution, spec.format]
        return _hash([*same, spec.quality if spec.format == "jpg" else None, self.scene])

    def key(self, frame: int) -> str:
        """Everything that the picture depends on; a frame on disk with another key is not this one."""
        pose = self.pose(frame)
        numbers = (*pose.position, *pose.target, *pose.up, pose.fovy)
        text = f"{self._common}{self.simulation_frame(frame)}{','.join(f'{number:.7g}' for number in numbers)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def keyed_frames(self) -> Iterator[tuple[int, str]]:
        """Each frame with its key."""
        for frame in self.frames:
            yield frame, self.key(frame)
