"""Plans: what each frame of a movie shows, and the keys by which a frame on disk is known to be the right one."""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any

from pydantic import BaseModel

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.camera import Bounds, Pose, camera_path
from airflow_brayns.movie.camera_fields import Camera
from airflow_brayns.movie.fields import Misplaced
from airflow_brayns.movie.frame_table import Binding, FrameTable
from airflow_brayns.movie.images import spread
from airflow_brayns.movie.lights import Turned
from airflow_brayns.movie.scene_calls import SceneCall, clipping_calls, color_call, light_calls, model_calls
from airflow_brayns.movie.script import script_of
from airflow_brayns.movie.shots import Shot, shot_at
from airflow_brayns.movie.specification import Model, MovieSpecification, Simulation

_LARGEST = 1e15  # the largest coordinate of a scene; beyond it a float has no room for a camera's way
LOOKS = "looks"  # where a model stands, and whether it is shown
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class SceneFacts:
    """The facts that a service tells of the loaded scene; all services of a movie tell the same.

    :param bounds: the box that the models fill.
    :param first, last: the first and the last frame of the simulation.
    :param dt: the simulated seconds between two of them; 0 where there is no simulation.
    :param models: the box that each model fills, in the specification's order; empty where the camera fits no one model.
    :param loaded: what this service calls each model, which may be several there; other services may call them otherwise.
    """

    bounds: Bounds
    first: int = 0
    last: int = 0
    dt: float = 0.0
    models: tuple[Bounds, ...] = ()
    loaded: tuple[tuple[int, ...], ...] = field(default=(), compare=False)

    @classmethod
    def read(cls, bounds: Mapping[str, Any], simulation: Mapping[str, Any]) -> SceneFacts:
        """Read the facts from the results of `get-scene` and `get-simulation-parameters`.

        :raises InvalidSetting: the scene is empty.
        :raises RenderingFailed: the results describe no scene.
        """
        try:
            low, high = _vector(bounds["min"]), _vector(bounds["max"])
            if any(a > b for a, b in zip(low, high, strict=True)):
                raise InvalidSetting(
                    "models",
                    "the scene is empty: the models that were loaded fill no room.",
                    remedy="look into the files, and at what is hidden or clipped.",
                )
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
        """The facts as plain values, for the manifest."""
        return {
            "low": self.bounds.low,
            "high": self.bounds.high,
            "first": self.first,
            "last": self.last,
            "dt": self.dt,
            **({"models": [[one.low, one.high] for one in self.models]} if self.models else {}),
        }

    def of_model(self, number: int | None) -> Bounds:
        """The box of one model; of the whole scene for None.

        :raises RenderingFailed: nobody has asked a service for it.
        """
        if number is None:
            return self.bounds
        if number >= len(self.models):
            why = f"nothing tells how large model {number} is"
            raise RenderingFailed(
                why, remedy="leave it out, or give a camera of your own.", retry=False, field="camera.fit"
            )
        return self.models[number]

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> SceneFacts:
        """Read what `plain` gave.

        :raises ValueError: the value is anything else.
        """
        try:
            low, high = _vector(value["low"]), _vector(value["high"])
            first, last = int(_number(value["first"])), int(_number(value["last"]))
            models = tuple(_bounds(_vector(one), _vector(other)) for one, other in value.get("models", ()))
            return cls(_bounds(low, high), first, last, _number(value["dt"]), models)
        except (KeyError, TypeError, ArithmeticError) as error:
            raise ValueError("these are no facts of a scene") from error

    def agrees_with(self, other: SceneFacts) -> bool:
        """Tell whether two services have loaded the same scene."""
        same = self.bounds.agrees_with(other.bounds) and (self.first, self.last) == (other.first, other.last)
        return same and all(one.agrees_with(its) for one, its in zip(self.models, other.models, strict=False))


def _number(value: Any) -> float:
    """Check that a value is a number which can be reckoned with. The bounds of an empty scene are the largest floats
    there are (3.10.1, source read).
    """
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
        f"get-scene and get-simulation-parameters answered {reprlib.repr(bounds)} and {reprlib.repr(simulation)}, which is no scene",
        remedy="See that a braynsService answers there, and none of another kind.",
    )


def simulation_frames(simulation: Simulation, fps: float, facts: SceneFacts) -> list[int]:
    """The simulation's frame in each frame of the movie, counted as the official client's `MovieFrames.get_indices`
    does (3.10.1, source read).

    :param fps: the movie's frames a second.
    :raises InvalidSetting: the scene has no simulation, or none of its frames is asked for.
    """
    if facts.dt <= 0 or facts.last <= facts.first:
        raise InvalidSetting(
            "simulation", "the scene that was loaded has no simulation.", remedy="leave it out and give `frames`."
        )

    if simulation.keyframes:
        try:
            return simulation.steps(facts.first, facts.last)
        except Misplaced as error:
            raise InvalidSetting(".".join(map(str, error.location)), error.text) from None

    def clamped(frame: int) -> int:
        return min(max(frame + facts.last + 1 if frame < 0 else frame, facts.first), facts.last)

    start, end = clamped(simulation.start), clamped(simulation.end)
    step = 1 / facts.dt / fps / simulation.slowing_factor
    moves = start + step > start and end + step > end  # a small step beside a large number changes nothing
    count = (end - start) / step + 2 if moves else math.inf
    if count > 10_000_000:
        raise InvalidSetting(
            "simulation.slowing_factor",
            f"It makes {count:.0f} frames.",
            remedy="make at most 10,000,000 frames of it: a smaller factor.",
        )
    found, current = [], float(start)
    while current <= end:
        found.append(round(current))
        current += step
    if not found:
        raise InvalidSetting(
            "simulation", f"start {start} is behind end {end}.", remedy="give an end behind the start."
        )
    return found


def scene_hash(specification: MovieSpecification, identity: str = "") -> str:
    """The digest of a scene: what is loaded, and how it is lit and coloured. Frames of two scenes never mix.

    :param identity: size and time of the models' files, where they could be asked for.
    """
    if (script := script_of(specification)) is not None:
        return _hash({"script": [script.arguments, script.digests], "files": identity})
    parts = {
        "models": [_described(one) for one in specification.models],
        "lights": [_with_since(one, {"kind", "intensity", "color", "direction"}) for one in specification.all_lights()],
        "files": identity,
        **{
            word: [one.model_dump(mode="json", exclude_defaults=True) for one in shapes]
            for word, shapes in (("primitives", specification.primitives), ("clipping", specification.clipping))
            if shapes
        },
    }
    return _hash(parts)


def _described(model: Model) -> list[Any]:
    """What a model's pictures depend on; see `_with_since`."""
    before = model.model_dump(mode="json", include={"color", "colors"})
    since = model.model_dump(mode="json", exclude_defaults=True, exclude={"path", "loader", "properties", *before})
    return [model.path, model.loader_name, model.loader_properties, before, *([since] if since else [])]


def _with_since(part: BaseModel, before: set[str]) -> dict[str, Any]:
    """The values of a part; what version 1 did not have is there only where it is given, so that pictures which were
    rendered before keep their keys.
    """
    since = part.model_dump(mode="json", exclude_defaults=True, exclude=before)
    return part.model_dump(mode="json", include=before) | since


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """The frames of a movie.

    :param specification: the movie's specification.
    :param facts: the facts of the loaded scene.
    :param scene: the digest of the scene, see `scene_hash`.
    :param sample: how many of the frames to render, evenly spread; None for all.
    """

    specification: MovieSpecification
    facts: SceneFacts
    scene: str
    sample: int | None = None

    @cached_property
    def shown(self) -> list[int] | None:
        """The simulation's frame in each frame of the movie; None where nothing moves but the camera."""
        wanted = self.specification.simulation
        return None if wanted is None else simulation_frames(wanted, self.specification.fps, self.facts)

    @property
    def total(self) -> int:
        """The number of frames of the whole movie."""
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
                raise InvalidSetting(
                    "frame_range",
                    f"the movie's last frame is {self.total - 1}",
                    remedy="take frames that the movie has.",
                )
            chosen = range(first, last + 1)
        chosen = chosen[:: self.specification.step]
        return chosen if self.sample is None else spread(chosen, self.sample)

    @property
    def digits(self) -> int:
        """The number of digits that a frame's number has in its file's name."""
        return max(5, len(str(self.total - 1)))

    def file(self, frame: int) -> str:
        """The name of a frame's file."""
        return f"{frame:0{self.digits}d}.{self.specification.format}"

    def varies(self, word: str) -> bool:
        """Whether anything of a word of the specification, such as `camera` or `models.0`, differs from frame to frame."""
        spec, table = self.specification, self.specification.per_frame
        columns = table.columns if isinstance(table, FrameTable) else ()
        by_shot = {f"models.{number}" for shot in spec.shots for number in shot.hide}
        by_shot |= {"camera"} if spec.shots else set()
        by_shot |= {"lights"} if any(shot.lights is not None for shot in spec.shots) else set()
        return word in by_shot or any(f"{one}.".startswith(f"{word}.") for one in columns)

    @cached_property
    def at(self) -> Callable[[int], MovieSpecification]:
        """The function that gives the specification of a frame."""
        spec, table = self.specification, self.specification.per_frame
        if spec.shots:
            if sum(one.frames for one in spec.shots) != self.total:
                told = f"have {sum(one.frames for one in spec.shots)} frames, but the simulation makes {self.total}"
                raise InvalidSetting("shots", told)
            return lru_cache(64)(spec.at)
        if not isinstance(table, FrameTable):
            return lambda frame: spec
        if len(table.rows) != self.total:
            told = f"has lines for {len(table.rows)} frames, but the movie has {self.total}"
            raise InvalidSetting("per_frame", told)
        return lru_cache(64)(partial(spec.at, binding=Binding(spec, table.columns)))

    def _path_of(self, camera: Camera, frames: int | None = None) -> Callable[[int], Pose]:
        return camera_path(camera, frames or self.total, self.facts.of_model(camera.fit), self.specification.aspect)

    @cached_property
    def _path(self) -> Callable[[int], Pose]:
        return self._path_of(self.specification.camera)

    def pose(self, frame: int) -> Pose:
        """The pose of the camera in a frame."""
        if self.specification.shots:
            self.at(frame)
            shot, number = shot_at(self.specification.shots, frame)
            return self._path_of_shot(shot)(number)
        return self._path_of(self.at(frame).camera)(frame) if self.varies("camera") else self._path(frame)

    @cached_property
    def _path_of_shot(self) -> Callable[[Shot], Callable[[int], Pose]]:
        return lru_cache(64)(lambda shot: self._path_of(shot.camera, shot.frames))

    @cached_property
    def _sets_lights(self) -> bool:
        spec = self.specification
        lights = [*spec.all_lights(), *(light for shot in spec.shots for light in shot.lights or ())]
        return self.varies("lights") or any(one.follow_camera for one in lights)

    def sets_anew(self) -> frozenset[str]:
        """What of a scene each frame sets anew: Brayns' `model_type` of what is cleared and added again, and `LOOKS`."""
        found = {"light"} if self._sets_lights else set()
        found |= {"clip_geometry", "clipping_geometry"} if self.varies("clipping") else set()
        looks = any(self.varies(f"models.{number}") for number in range(len(self.specification.models)))
        return frozenset(found | ({LOOKS} if looks else set()))

    def changes(self, frame: int, loaded: Sequence[Sequence[int]] = ()) -> list[tuple[str, Any]]:
        """The calls that make the scene that of a frame; none where all frames show the same one. They make it so
        whatever frame was before.

        :param loaded: what the service calls each model of the specification.
        """
        spec, calls = self.at(frame), []
        for number, model in enumerate(spec.models):
            for model_id in loaded[number] if self.varies(f"models.{number}") else ():
                where = f"models.{number}"
                color = color_call(model, model_id, where)
                calls += [*([color] if color else []), *model_calls(model, model_id, where, anew=True)]
        if self.varies("clipping"):
            calls += [SceneCall("clear-clipping-geometries", None, "clipping"), *clipping_calls(spec.clipping)]
        lights = spec.all_lights()
        if self._sets_lights:
            pose = self.pose(frame)
            camera = Turned(pose.position, pose.target, pose.up)
            calls += [SceneCall("clear-lights", None, "lights"), *light_calls(lights, camera)]
        return [(call.method, call.params) for call in calls]

    def simulation_frame(self, frame: int) -> int | None:
        """The simulation's frame in a frame of the movie; None where nothing moves but the camera."""
        return None if self.shown is None else self.shown[frame]

    @cached_property
    def _common(self) -> str:
        spec = self.specification
        same = [spec.renderer.name, spec.renderer.parameters(), spec.resolution, spec.format]
        return _hash([*same, spec.quality if spec.format == "jpg" else None, self.scene])

    def key(self, frame: int) -> str:
        """The key of a frame: the digest of all that its picture depends on. A frame on disk with another key is not
        this one.
        """
        if script_of(self.specification) is not None:  # its number is all that the frame function is told
            return hashlib.sha256(f"{self._common}{frame}".encode()).hexdigest()[:16]
        numbers = self.pose(frame).numbers()
        text = f"{self._common}{self.simulation_frame(frame)}{','.join(f'{number:.7g}' for number in numbers)}"
        text += self._by_data(frame)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _by_data(self, frame: int) -> str:
        """What differs in a frame by data or by its shot and is not in the camera's pose; empty where nothing does."""
        table = self.specification.per_frame
        if self.specification.shots:
            shot, _ = shot_at(self.specification.shots, frame)
            lights = [one.model_dump(mode="json", exclude_defaults=True) for one in shot.lights or ()]
            return _hash([lights, sorted(shot.hide)]) if lights or shot.hide else ""
        if not isinstance(table, FrameTable):
            return ""
        found = [one for one in zip(table.columns, table.rows[frame], strict=True) if not one[0].startswith("camera.")]
        return _hash(found) if found else ""

    def keyed_frames(self) -> Iterator[tuple[int, str]]:
        """Yield each frame to render with its key."""
        for frame in self.frames:
            yield frame, self.key(frame)
