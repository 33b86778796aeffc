"""Specifications of movies: versioned, in YAML or JSON, and checked before a node is asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.camera_fields import Camera as Camera
from airflow_brayns.movie.camera_fields import Keyframe as Keyframe
from airflow_brayns.movie.codecs import (
    CANNOT_FADE,
    CODECS,
    TABLE,
    Encoding,
    can_fade,
    other_ending,
    problems,
    still_of,
)
from airflow_brayns.movie.fields import (
    MOST_FRAMES,
    NodeHours,
    Part,
    Rate,
    dotted,
    first_of,
    is_path,
    misplaced,
    path_problem,
    text_of,
)
from airflow_brayns.movie.frame_table import Binding, FrameTable
from airflow_brayns.movie.lights import NO_LIGHT, USUAL_LIGHTS
from airflow_brayns.movie.lights import Light as Light
from airflow_brayns.movie.model import Coloring as Coloring
from airflow_brayns.movie.model import Model as Model
from airflow_brayns.movie.overlay_fields import Overlays as Overlays
from airflow_brayns.movie.overlay_fields import overlay_problems
from airflow_brayns.movie.renderer import Renderer as Renderer
from airflow_brayns.movie.shapes import Clipping as Clipping
from airflow_brayns.movie.shapes import Primitive as Primitive
from airflow_brayns.movie.shots import Shot as Shot
from airflow_brayns.movie.shots import length_problems, never_moves, shot_at, shot_problems
from airflow_brayns.movie.simulation import Simulation as Simulation
from airflow_brayns.movie.surface import ColorRamp as ColorRamp
from airflow_brayns.movie.surface import Material as Material
from airflow_brayns.movie.surface import Transform as Transform
from airflow_brayns.movie.tiles import LARGEST_JOINED, MOST_TILES, Tiling, size_problems
from airflow_brayns.movie.tiles import LARGEST_SIDE as LARGEST_SIDE
from airflow_brayns.movie.tiles import SMALLEST_SIDE as SMALLEST_SIDE
from airflow_brayns.movie.versions import LATEST, words_since_first

if TYPE_CHECKING:
    from airflow_brayns.movie.yaml_text import Text

Side = Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_JOINED)]
Across = Annotated[int, Field(ge=1, le=MOST_TILES)]


_BACKGROUND = "renderer.background_color"


def _is_table(value: Any) -> Any:
    if value is not None and not isinstance(value, str | Mapping | FrameTable):
        raise ValueError("must be the path of a CSV file")
    if isinstance(value, str) and (problem := path_problem(value)):
        raise ValueError(problem)
    return value


class MovieSpecification(Part):
    """The specification of a movie.

    :param version: the version of this format: 2, or 1, which has fewer words.
    :param models: the models to load, once on each service.
    :param lights: None for a key light, a fill light and some ambient light.
    :param primitives: simple shapes that are shown beside the models.
    :param clipping: shapes that cut a part of the scene away.
    :param shots: several shots, one after another, in place of `camera` and `frames`.
    :param renderer: how it is rendered.
    :param camera: where it is seen from.
    :param resolution: width and height in pixels; both even, but for `gif` and pictures: video codecs take no others. At
        most 16384 a side without `tiles`.
    :param tiles: how many tiles a frame is rendered in, across and down, such as [4, 4], each by whichever node is free,
        and joined without a seam; None for whole frames. For a picture too large for one node, up to 1,000,000 pixels a
        side for `png` and 65,500 for `jpg`. It needs braynsService 3.9 and the extra `tiles`.
    :param fps: frames a second: a number, or a text such as `30000/1001`; at most 50 for `gif`.
    :param frames: how many the movie has; leave it out with `simulation`, which tells.
    :param simulation: show a simulation; None for a scene that does not change.
    :param frame_range: first and last frame to render; None for all.
    :param step: render every so many-th frame only, for a quick look: the movie goes so many times as fast. Frames keep
        their numbers, so that the others are what is left to render without it.
    :param per_frame: a CSV file of what differs from frame to frame, beside the specification: its first column is
        `frame`, the others are keys of the specification, such as `camera.fovy` or `models.0.transform.translation.1`.
    :param format: the format of the frames, `png` or `jpg`.
    :param quality: the quality of JPEG frames, 1 to 100.
    :param codec: `h264`, `h265`, `vp9`, `prores` or `gif`; `png` or `jpg`, which the output's ending tells, for a picture
        of one frame. `vp9`, `prores` (as 4444) and `png` keep a background that is transparent.
    :param crf: the codec's quality, lower is better; None for a good one. `h264` and `h265`: 0 to 51, `vp9`: 0 to 63.
    :param output: the movie; its ending must suit the codec.
    :param overlays: what is drawn over the frames when they are encoded: title, scale bar, legend and the like.
    :param budget: the node-hours that rendering may use; then it stops, and goes on with a larger one. None for any number.
    """

    is_python: ClassVar[bool] = False

    version: Literal[1, 2] = LATEST
    models: tuple[Model, ...] = Field(min_length=1)
    lights: tuple[Light, ...] | None = None
    primitives: tuple[Primitive, ...] = ()
    clipping: tuple[Clipping, ...] = ()
    shots: tuple[Shot, ...] = ()
    renderer: Renderer = Renderer()
    resolution: tuple[Side, Side] = (1920, 1080)
    tiles: tuple[Across, Across] | None = None
    fps: Rate = 25.0
    camera: Camera = Camera()
    frames: int | None = Field(default=None, ge=1, le=MOST_FRAMES)
    simulation: Simulation | None = None
    frame_range: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = None
    step: int = Field(default=1, ge=1, le=MOST_FRAMES)
    per_frame: Annotated[FrameTable | Annotated[str, Field(min_length=1)] | None, BeforeValidator(_is_table)] = None
    format: Literal["png", "jpg"] = "png"
    quality: int = Field(default=95, ge=1, le=100)
    codec: Literal["h264", "h265", "vp9", "prores", "gif", "png", "jpg"] = "h264"
    crf: int | None = Field(default=None, ge=0, le=63)
    output: str = Field(default="movie.mp4", min_length=1)
    overlays: Overlays | None = None
    budget: NodeHours | None = None

    def _problems(self) -> Iterator[tuple[str, str]]:
        """What the size and the codec do not take: which field is wrong, and what would be right."""
        yield from size_problems(self.resolution, self.tiles)
        size, joined = self.resolution, self.tiles is not None
        yield from problems(self.codec, rate=self.fps, crf=self.crf, size=size, alpha=self.transparent, joined=joined)

    def _shot_problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if not self.shots:
            return
        if self.frames not in (None, sum(one.frames for one in self.shots)):
            yield ("frames",), "follows from `shots`; leave it out"
        if self.camera != Camera():
            yield ("camera",), "each of the `shots` has its own; leave it out"
        if self.per_frame is not None:
            yield ("per_frame",), "goes with one camera and no `shots`; leave one of them out"
        yield from shot_problems(self.shots, len(self.models))
        if any(one.fade for one in self.shots):
            if not can_fade(self.codec):
                yield ("codec",), f"{self.codec} {CANNOT_FADE}"
            for name in ("step", "frame_range"):
                if getattr(self, name) not in (1, None):
                    yield (name,), "shots that fade are encoded whole; leave it out, or leave `fade` out"

    @model_validator(mode="before")
    @classmethod
    def _still(cls, value: Any) -> Any:
        """A picture's codec follows from its ending."""
        if isinstance(value, Mapping) and "codec" not in value and isinstance(output := value.get("output"), str):
            codec = still_of(output)
            return {**value, "codec": codec} if codec and value.get("version") != 1 else value
        return value

    @model_validator(mode="after")
    def _check_version(self) -> Self:
        if self.version < LATEST and (later := next(words_since_first(self), None)):
            raise misplaced(
                later, f"is none of version {self.version}; write `version: {LATEST}`, or leave the version out"
            )
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field, text in self._problems():
            raise misplaced((field,), text)
        if self.transparent and self.format == "jpg":
            raise misplaced(("format",), "jpg keeps no transparency: take png, or a background_color without alpha")
        if TABLE[self.codec].still and self.frames != 1 and len({*(self.frame_range or (0, 1))}) > 1:
            raise misplaced(
                ("frames",), f"{self.output!r} is one picture: write `frames: 1`, or an `output` such as movie.mp4"
            )
        for location, text in self._shot_problems():
            raise misplaced(location, text)
        for location, text in overlay_problems(
            self.overlays, self.models, simulated=self.simulation is not None, python=self.is_python
        ):
            raise misplaced(location, text)
        if self.camera.fit is not None and self.camera.fit >= len(self.models):
            raise misplaced(
                ("camera", "fit"), f"there is no model {self.camera.fit}; the last one is {len(self.models) - 1}"
            )
        if self.frames is None and self.simulation is None and self.per_frame is None and not self.shots:
            raise misplaced(("frames",), "missing: say how many, or give `simulation`, which tells")
        if self.frames is not None and self.simulation is not None:
            raise misplaced(("frames",), "follows from `simulation`; leave one of them out")
        if self.frame_range and self.frame_range[0] > self.frame_range[1]:
            raise misplaced(("frame_range",), "the first is behind the last")
        for location, text in length_problems(self._length, self.frame_range):
            raise misplaced(location, text)
        if self.frames is not None and (problem := never_moves(self.camera, self.frames)):
            raise misplaced(("camera", "keyframes", 0, "frame"), problem)
        if self.lights is not None and not any(light.shines for light in self.lights):
            raise misplaced(("lights",), NO_LIGHT)
        if not is_path(self.output):
            raise misplaced(("output",), f"{self.output[:200]!r} is not a path")
        if Path(self.output).suffix.lower() not in CODECS[self.codec]:
            raise misplaced(("output",), other_ending(self.output, self.codec))
        if problem := path_problem(self.output, home=True):
            raise misplaced(("output",), problem)
        return self

    # ---- reading -----------------------------------------------------------------------------------------------
    @classmethod
    def read(cls, text: str, source: str = "specification", folder: Path | None = None) -> MovieSpecification:
        """Read a specification from YAML or JSON.

        :param source: what the text is called in errors.
        :param folder: the folder that relative paths of models are relative to; None to refuse them.
        :raises InvalidSetting: the text is no specification; the error names the line and the key.
        """
        # imported on use: a DAG file that only names operators needs no YAML
        from airflow_brayns.movie.yaml_text import Text

        found = Text.read(text, source)
        return cls.check(found.value, source, folder, found)

    @classmethod
    def read_file(cls, path: Path, render: Any = None) -> MovieSpecification:
        """Read a specification from a file.

        :param render: a function that is called with the text first, for Airflow's templates; None for none.
        :raises InvalidSetting: the file cannot be read, or is no specification; the error names the line and the key.
        """
        text = text_of(path, "specification")
        rendered = render(text) if render else text
        if isinstance(rendered, Mapping):  # Airflow's native templates make a mapping of a JSON file
            return cls.check(rendered, path.name, path.absolute().parent)
        return cls.read(str(rendered), path.name, path.absolute().parent)

    @classmethod
    def check(
        cls, value: Any, source: str = "specification", folder: Path | None = None, text: Text | None = None
    ) -> MovieSpecification:
        """Check a specification that is given as plain values.

        :param source: what the values are called in errors.
        :param folder: the folder that relative paths of models are relative to; None to refuse them.
        :param text: the text that the values were read from, for line numbers; None where there is none.
        :raises InvalidSetting: the values are no specification; the error names the line, where there is one, and the
            key.
        """
        try:
            found = cls.model_validate(value)
        except ValidationError as error:
            location, message = first_of(cls, error)
            line = text.line(location) if text else None
            where = f"{source} line {line}, " if line else f"{source}: " if text else ""
            raise InvalidSetting(where + (dotted(location) or "specification"), message) from None
        try:
            json.dumps(found.plain(), allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidSetting(
                source,
                f"It holds something that cannot be written as JSON: {error}.",
                remedy="write plain values only: no dates, no NaN, no half characters.",
            ) from None
        return found.resolved(folder)

    def resolved(self, folder: Path | None) -> MovieSpecification:
        """This specification with absolute paths of models and logo, and with the table of what differs from frame to frame.

        :raises InvalidSetting: a path is relative, and nobody knows to what; or the table is none of this movie's.
        """
        models = []
        for index, model in enumerate(self.models):
            if not model.path.startswith("/"):
                if folder is None:
                    raise InvalidSetting(
                        f"models.{index}.path",
                        f"{model.path!r} is relative.",
                        remedy="write the path as the nodes see it, from / on.",
                    )
                model = model.model_copy(update={"path": os.path.normpath(folder / model.path)})
            models.append(model)
        return self.model_copy(update={"models": tuple(models), "overlays": self._with_logo(folder)})._with_table(
            folder
        )

    def _with_logo(self, folder: Path | None) -> Overlays | None:
        if self.overlays is None or self.overlays.logo is None or self.overlays.logo.startswith("/"):
            return self.overlays
        if folder is None:
            told = f"{self.overlays.logo!r} is relative."
            raise InvalidSetting("overlays.logo", told, remedy="write the path as the worker sees it, from / on.")
        return self.overlays.model_copy(update={"logo": os.path.normpath(folder / self.overlays.logo)})

    def _with_table(self, folder: Path | None) -> MovieSpecification:
        table, name = self.per_frame, "per_frame"
        if isinstance(table, str):
            if folder is None and not table.startswith("/"):
                raise InvalidSetting(
                    name, f"{table!r} is relative.", remedy="write the path as the worker sees it, from / on."
                )
            path = Path(os.path.normpath((folder or Path("/")) / table))
            table, name = FrameTable.read(path), path.name
        if table is None:
            return self.model_copy(update={"frames": self._length}) if self.shots and self.simulation is None else self
        rows = len(table.rows)
        for location, text in length_problems(rows, self.frame_range):
            raise InvalidSetting(dotted(location), text)
        if self.frames not in (None, rows):
            raise InvalidSetting(
                f"{name}",
                f"has lines for {rows} frames, but the movie has {self.frames}",
                remedy="leave `frames` out: the table tells them.",
            )
        found = self.model_copy(update={"per_frame": table, "frames": rows if self.simulation is None else self.frames})
        binding, seen = Binding(found, table.columns), set()
        for frame, row in enumerate(table.rows):
            if row not in seen:
                seen.add(row)
                try:
                    type(self).model_validate(binding.values(row))
                except ValidationError as error:
                    location, message = first_of(type(self), error)
                    raise InvalidSetting(f"{name} line {frame + 2}, {dotted(location)}", message) from None
        return found

    def at(self, frame: int, binding: Binding | None = None) -> MovieSpecification:
        """The specification of one frame: this one with the values of its row, or with its shot's camera, lights and models.

        :param binding: that of the table's columns, for whoever asks for many frames; None to make it.
        """
        if self.shots:
            shot, _ = shot_at(self.shots, frame)
            models = [
                one.model_copy(update={"visible": False}) if number in shot.hide else one
                for number, one in enumerate(self.models)
            ]
            lights = self.lights if shot.lights is None else shot.lights
            return self.model_copy(update={"camera": shot.camera, "lights": lights, "models": tuple(models)})
        if not isinstance(self.per_frame, FrameTable):
            return self
        binding = binding or Binding(self, self.per_frame.columns)
        return type(self).model_validate(binding.values(self.per_frame.rows[frame]))

    @property
    def _length(self) -> int | None:
        return sum(one.frames for one in self.shots) if self.shots else self.frames

    @property
    def tiling(self) -> Tiling | None:
        """How frames are divided into tiles; None where each is rendered whole."""
        return None if self.tiles is None else Tiling(*self.tiles, *self.resolution)

    @property
    def aspect(self) -> float:
        """The picture's width over its height."""
        return self.resolution[0] / self.resolution[1]

    @property
    def encoding(self) -> Encoding:
        """How its frames become a movie."""
        fades = tuple((one.frames, one.fade) for one in self.shots)
        return Encoding(
            self.codec, self.fps, self.crf, self.transparent, fades if any(fade for _, fade in fades) else ()
        )

    @property
    def fits_models(self) -> bool:
        """Whether a camera fits one model, so that each one's size must be known."""
        return any(one.fit is not None for one in (self.camera, *(shot.camera for shot in self.shots)))

    @property
    def transparent(self) -> bool:
        """Whether there is nothing behind the scene, or something to be seen through: in version 1 a movie lost that."""
        varies = isinstance(self.per_frame, FrameTable) and any(
            one.startswith(_BACKGROUND) for one in self.per_frame.columns
        )
        return self.version > 1 and (varies or [*self.renderer.background_color, 1.0][3] < 1)

    def all_lights(self) -> tuple[Light, ...]:
        """The lights that are set on a service: those of the specification, or the usual ones."""
        return self.lights if self.lights is not None else USUAL_LIGHTS

    def plain(self) -> dict[str, Any]:
        """The specification as JSON values; `MovieSpecification.check` takes them back."""
        return self.model_dump(mode="json", exclude_defaults=True) | {"version": self.version}
