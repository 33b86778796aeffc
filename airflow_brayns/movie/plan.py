"""Plans: what each frame of a movie shows, and the keys by which a frame on disk is known to be the right one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

from pydantic import BaseModel

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.camera import Pose, camera_path
from airflow_brayns.movie.camera_fields import Camera
from airflow_brayns.movie.fields import Misplaced
from airflow_brayns.movie.frame_table import Binding, FrameTable
from airflow_brayns.movie.images import spread
from airflow_brayns.movie.lights import Turned
from airflow_brayns.movie.scene_calls import SceneCall, clipping_calls, color_call, light_calls, model_calls
from airflow_brayns.movie.scene_facts import SceneFacts as SceneFacts
from airflow_brayns.movie.script import script_of
from airflow_brayns.movie.shots import Shot, shot_at
from airflow_brayns.movie.specification import Model, MovieSpecification, Simulation
from airflow_brayns.movie.tiles import Tile, Tiling

LOOKS = "looks"  # where a model stands, and whether it is shown


def listed(frames: Sequence[int]) -> str:
    """Frame numbers as people write them, `0-4, 7, 9-11`; at most twenty groups of them."""
    groups: list[list[int]] = []
    for frame in sorted(frames):
        if groups and frame == groups[-1][1] + 1:
            groups[-1][1] = frame
        else:
            groups.append([frame, frame])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in groups[:20]]
    return ", ".join(shown) + (" …" if len(groups) > 20 else "")


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

    @cached_property
    def tiling(self) -> Tiling | None:
        """How frames are divided into tiles; None where each is rendered whole."""
        return self.specification.tiling

    @cached_property
    def pictures(self) -> Sequence[int]:
        """The numbers of the pictures to render: of the frames or, where those are rendered in tiles, of the tiles of all
        frames, numbered through. Each picture is asked for, kept and, where need be, rendered again by itself.
        """
        if self.tiling is None:
            return self.frames
        each = self.tiling.number
        return [number for frame in self.frames for number in range(frame * each, (frame + 1) * each)]

    def part(self, picture: int) -> tuple[int, Tile | None]:
        """The number of the frame that a picture is of, and the tile that it is; None for a whole frame."""
        if self.tiling is None:
            return picture, None
        frame, number = divmod(picture, self.tiling.number)
        return frame, self.tiling.tile(number)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of each picture."""
        return self.specification.resolution if self.tiling is None else self.tiling.size

    def named(self, picture: int) -> str:
        """A picture's name in messages."""
        frame, tile = self.part(picture)
        return f"frame {frame}" if tile is None else f"the tile of frame {frame} in {tile}"

    def listed(self, pictures: Sequence[int]) -> str:
        """Pictures as people write them: the frames' numbers, or how many tiles of which frames."""
        frames = sorted({self.part(one)[0] for one in pictures})
        return listed(frames) if self.tiling is None else f"{len(pictures)} of frames {listed(frames)}"

    @property
    def noun(self) -> str:
        """What the pictures are called: frames or tiles."""
        return "frames" if self.tiling is None else "tiles"

    def file(self, picture: int) -> str:
        """The name of a picture's file."""
        frame, tile = self.part(picture)
        place = "" if tile is None else f"-{tile.row + 1}-{tile.column + 1}"
        return f"{frame:0{self.digits}d}{place}.{self.specification.format}"

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

    def key(self, picture: int) -> str:
        """The key of a picture: the digest of all that it depends on. A picture on disk with another key is not this one."""
        frame, _ = self.part(picture)
        if self.tiling is None:
            return self._key_of(frame)
        place = f"{self.tiling.columns}x{self.tiling.rows}:{picture % self.tiling.number}"
        return hashlib.sha256(f"{self._key_of(frame)}{place}".encode()).hexdigest()[:16]

    def _key_of(self, frame: int) -> str:
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
        """Yield each picture to render with its key."""
        for picture in self.pictures:
            yield picture, self.key(picture)
