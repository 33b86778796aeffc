"""What a movie is: a versioned specification in YAML or JSON, checked before a node is asked for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.loaders import endings, property_problem

if TYPE_CHECKING:
    from airflow_brayns.movie.yaml_text import Text

VERSION = 1
MORPHOLOGY_LOADER = "Neuron Morphology loader"
LOADERS = {
    "obj": "mesh", "ply": "mesh", "stl": "mesh", "off": "mesh",
    "swc": MORPHOLOGY_LOADER, "asc": MORPHOLOGY_LOADER, "h5": MORPHOLOGY_LOADER,
}  # fmt: skip
_MORPHOLOGY = {
    "radius_multiplier": 1.0,
    "load_soma": True,
    "load_axon": True,
    "load_dendrites": True,
    "geometry_type": "smooth",
}
# What ffmpeg can encode to, by the ending of `output`, and what each codec needs of it.
CODECS = {"h264": (".mp4", ".mov", ".mkv"), "h265": (".mp4", ".mov", ".mkv"), "vp9": (".webm", ".mkv"), "prores": (".mov",), "gif": (".gif",)}  # fmt: skip


def _from_hex(value: Any) -> Any:
    """`#f80` and `#ff8800` are colours too."""
    if not isinstance(value, str):
        return value
    digits = value.removeprefix("#")
    if re.fullmatch(r"[0-9A-Fa-f]{3}", digits):
        digits = "".join(digit * 2 for digit in digits)
    if not value.startswith("#") or not re.fullmatch(r"[0-9A-Fa-f]{6}", digits):
        raise ValueError("a colour is [red, green, blue] with numbers from 0 to 1, or '#rrggbb'")
    return [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]


# A camera's way is reckoned in floats: beyond these there is nothing but infinities.
_LARGEST, _MOST_FRAMES = 1e12, 10_000_000
SMALLEST_SIDE, LARGEST_SIDE = 64, 16384  # a smaller one kills braynsService (3.10.1, run)
_MOST_PIXELS = 178_000_000  # Pillow takes a larger picture for an attack
Side = Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-_LARGEST, le=_LARGEST)]
Angle = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Vector = tuple[Number, Number, Number]
Share = Annotated[float, Field(ge=0, le=1)]
Color = Annotated[tuple[Share, Share, Share] | tuple[Share, Share, Share, Share], BeforeValidator(_from_hex)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Coloring(_Part):
    """How a model is coloured: Brayns' `color-model`.

    :param method: such as `solid` or `morphology section`.
    :param values: a colour for each of the method's values.
    """

    method: str
    values: dict[str, Color] = Field(min_length=1)


class Model(_Part):
    """A model to load.

    :param path: as the services see it; a relative one is taken from the specification's own folder.
    :param loader: Brayns' name of the loader; None to tell by the path's ending.
    :param properties: of the loader; those left out keep the loader's usual values. Checked against what the loaders of
        3.10.1 take; those of a loader that is not known here go out as they are.
    :param color: one colour for all of it; a morphology that has none is coloured by section.
    :param colors: by a method of Brayns' instead.
    """

    path: str = Field(min_length=1)
    loader: str | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
    color: Color | None = None
    colors: Coloring | None = None

    @property
    def extension(self) -> str:
        """The path's ending, without the dot."""
        return Path(self.path).suffix.removeprefix(".").lower()

    @property
    def loader_name(self) -> str:
        """The loader that is asked for."""
        return self.loader or LOADERS[self.extension]

    @property
    def loader_properties(self) -> dict[str, Any]:
        """The properties that are sent."""
        return {**(_MORPHOLOGY if self.loader_name == MORPHOLOGY_LOADER else {}), **self.properties}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not _is_path(self.path):
            raise ValueError("path holds a NUL character or half a character, or is longer than 4095 bytes")
        try:
            names = list(self.colors.values) if self.colors else []
            json.dumps([self.properties, names], allow_nan=False, sort_keys=True, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise ValueError(
                "properties or colors hold something that JSON does not have: a date, NaN, half a character, keys that are no words"
            ) from None
        if not self.loader and self.extension not in LOADERS:
            raise ValueError(
                f"no loader is known for '.{self.extension}' files; give `loader`, or one of {', '.join(sorted(LOADERS))}"
            )
        if self.color is not None and self.colors is not None:
            raise ValueError("give `color` or `colors`, not both")
        self._check_loader()
        return self

    def _check_loader(self) -> None:
        name = self.loader_name
        if problem := property_problem(name, self.loader_properties):
            raise _at(("properties", *problem.location), f"{problem.text} (of the {name})")
        if (takes := endings(name)) and self.extension not in takes:
            told = "the circuit's or simulation's JSON file" if takes == ("json",) else f"{', '.join(takes)} files"
            raise _at(("path",), f"{self.path!r} is not for the {name}, which takes {told}")


class Light(_Part):
    """A light. Without any, the production renderer kills braynsService 3.10.1 (run), so there is always one.

    :param kind: `directional` or `ambient`.
    :param direction: of a directional one, the way the light goes.
    """

    kind: Literal["directional", "ambient"] = "directional"
    intensity: float = Field(default=1.0, ge=0, le=_LARGEST, allow_inf_nan=False)
    color: Color = (1.0, 1.0, 1.0)
    direction: Vector | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "ambient" and self.direction is not None:
            raise ValueError("an ambient light has no direction")
        return self


class Renderer(_Part):
    """Brayns' renderer and its parameters.

    :param name: `interactive` (quick) or `production` (soft light, more samples).
    :param samples_per_pixel: 16 for production, 4 for interactive where it is not given.
    :param max_ray_bounces: how often light is followed on.
    :param ao_samples: interactive only: samples of ambient occlusion.
    :param enable_shadows: interactive only.
    :param background_color: behind the scene.
    """

    name: Literal["interactive", "production"] = "production"
    samples_per_pixel: int | None = Field(default=None, ge=1, le=1_000_000)
    max_ray_bounces: int = Field(default=3, ge=1, le=1_000_000)
    ao_samples: int = Field(default=1, ge=0, le=1_000_000)
    enable_shadows: bool = True
    background_color: Color = (0.006, 0.01, 0.03)

    def parameters(self) -> dict[str, Any]:
        """As `set-renderer-…` and `snapshot` take them."""
        background = [*self.background_color, 1.0][:4]
        samples = self.samples_per_pixel or (16 if self.name == "production" else 4)
        common = {
            "samples_per_pixel": samples,
            "max_ray_bounces": self.max_ray_bounces,
            "background_color": background,
        }
        if self.name == "production":
            return common
        return {**common, "ao_samples": self.ao_samples, "enable_shadows": self.enable_shadows}


class Keyframe(_Part):
    """Where the camera is in one frame.

    :param frame: its number in the movie, the first is 0.
    :param fovy: vertical field of view in degrees; None for the camera's.
    """

    frame: int = Field(ge=0, le=_MOST_FRAMES)
    position: Vector
    target: Vector
    up: Vector = (0.0, 1.0, 0.0)
    fovy: float | None = Field(default=None, gt=0, lt=180)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.position == self.target:
            raise ValueError("position and target are the same point")
        if self.up == (0.0, 0.0, 0.0):
            raise ValueError("up has no length")
        return self


class Camera(_Part):
    """The camera's way through the movie.

    :param path: `turntable` (around the vertical), `swing` (to both sides and back), `still`, or `keyframes`.
    :param turns: turntable: how often around; negative for the other way.
    :param swing: swing: degrees to each side.
    :param start_angle: degrees about the vertical in the first frame.
    :param elevation: degrees above the horizon.
    :param fovy: vertical field of view in degrees.
    :param distance: from the target; None to fit the scene into the picture.
    :param margin: room around a fitted scene, 1.0 for none.
    :param target: what it looks at; None for the scene's middle.
    :param keyframes: `keyframes`: at least one, in order; between them position, target, up and field of view go on smoothly.
    """

    path: Literal["turntable", "swing", "still", "keyframes"] = "turntable"
    turns: Angle = 1.0
    swing: Angle = 40.0
    start_angle: Angle = 0.0
    elevation: float = Field(default=0.0, ge=-89, le=89)
    fovy: float = Field(default=45.0, gt=0, lt=180)
    distance: float | None = Field(default=None, gt=0, le=_LARGEST, allow_inf_nan=False)
    margin: float = Field(default=1.08, gt=0, le=1e6, allow_inf_nan=False)
    target: Vector | None = None
    keyframes: tuple[Keyframe, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.path == "keyframes") != bool(self.keyframes):
            raise ValueError("`keyframes` are given with path 'keyframes', and only with it")
        numbers = [one.frame for one in self.keyframes]
        if numbers != sorted(set(numbers)):
            raise ValueError("keyframes must be in order, each frame once")
        return self


class Simulation(_Part):
    """Which of the simulation's frames are shown, counted as the official client's `MovieFrames` does.

    :param start, end: frames of the simulation; negative ones count from its end, -1 is the last.
    :param slowing_factor: against real time; 2 is twice slower.
    """

    start: int = Field(default=0, ge=-(10**12), le=10**12)
    end: int = Field(default=-1, ge=-(10**12), le=10**12)
    slowing_factor: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class MovieSpecification(_Part):
    """A movie.

    :param version: of this format: 1.
    :param models: what to load, once on each service.
    :param lights: None for a key light, a fill light and some ambient light.
    :param resolution: width and height in pixels; both even, since video codecs take no others.
    :param fps: frames a second.
    :param frames: how many the movie has; leave it out with `simulation`, which tells.
    :param simulation: show a simulation; None for a scene that does not change.
    :param frame_range: first and last frame to render; None for all.
    :param format: of the frames: `png` or `jpg`.
    :param quality: of JPEG frames, 1 to 100.
    :param codec: `h264`, `h265`, `vp9`, `prores` or `gif`.
    :param crf: the codec's quality, lower is better; None for a good one.
    :param output: the movie; its ending must suit the codec.
    """

    version: Literal[1] = 1
    models: tuple[Model, ...] = Field(min_length=1)
    lights: tuple[Light, ...] | None = None
    renderer: Renderer = Renderer()
    resolution: tuple[Side, Side] = (1920, 1080)
    fps: float = Field(default=25.0, gt=0, le=1000)
    camera: Camera = Camera()
    frames: int | None = Field(default=None, ge=1, le=_MOST_FRAMES)
    simulation: Simulation | None = None
    frame_range: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = None
    format: Literal["png", "jpg"] = "png"
    quality: int = Field(default=95, ge=1, le=100)
    codec: Literal["h264", "h265", "vp9", "prores", "gif"] = "h264"
    crf: int | None = Field(default=None, ge=0, le=63)
    output: str = Field(default="movie.mp4", min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(side % 2 for side in self.resolution):
            raise _at(("resolution",), f"both sides must be even for video, not {self.resolution[0]}x{self.resolution[1]}")  # fmt: skip
        if self.resolution[0] * self.resolution[1] > _MOST_PIXELS:
            raise _at(("resolution",), f"more than {_MOST_PIXELS:,} pixels cannot be checked; take a smaller picture")
        if self.frames is None and self.simulation is None:
            raise _at(("frames",), "missing: say how many, or give `simulation`, which tells")
        if self.frames is not None and self.simulation is not None:
            raise _at(("frames",), "follows from `simulation`; leave one of them out")
        if self.frame_range and self.frame_range[0] > self.frame_range[1]:
            raise _at(("frame_range",), "the first is behind the last")
        if self.frame_range and self.frames is not None and self.frame_range[1] >= self.frames:
            raise _at(("frame_range",), f"the movie's last frame is {self.frames - 1}")
        if self.lights is not None and not any(light.intensity > 0 for light in self.lights):
            raise _at(("lights",), "without a light the production renderer kills braynsService 3.10.1; give one, or leave `lights` out")  # fmt: skip
        if not _is_path(self.output) or Path(self.output).suffix.lower() not in CODECS[self.codec]:
            raise _at(("output",), f"{self.output!r} must end in {' or '.join(CODECS[self.codec])} for {self.codec}")
        return self

    # ---- reading -----------------------------------------------------------------------------------------------
    @classmethod
    def read(cls, text: str, source: str = "specification", folder: Path | None = None) -> MovieSpecification:
        """Read YAML or JSON.

        :param source: what the text is called in errors.
        :param folder: what relative paths of models are relative to; None to refuse them.
        :raises InvalidSetting: naming the line and the key.
        """
        from airflow_brayns.movie.yaml_text import Text  # here, since whoever only names an operator needs no YAML

        found = Text.read(text, source)
        return cls.check(found.value, source, folder, found)

    @classmethod
    def read_file(cls, path: Path, render: Any = None) -> MovieSpecification:
        """Read a file.

        :param render: called with the text first (Airflow's templates).
        :raises InvalidSetting: it cannot be read; or naming the line and the key.
        """
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSetting("specification", f"{path} cannot be read: {error}") from None
        rendered = render(text) if render else text
        if isinstance(rendered, Mapping):  # a JSON file through Airflow's native templates
            return cls.check(rendered, path.name, path.absolute().parent)
        return cls.read(str(rendered), path.name, path.absolute().parent)

    @classmethod
    def check(
        cls, value: Any, source: str = "specification", folder: Path | None = None, text: Text | None = None
    ) -> MovieSpecification:
        """Check plain values.

        :raises InvalidSetting: naming the line, where there is one, and the key.
        """
        try:
            found = cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            location, message = first["loc"], first["msg"].removeprefix("Value error, ")
            if isinstance(inner := first.get("ctx", {}).get("error"), _Misplaced):
                location, message = (*location, *inner.location), inner.text
            elif first["type"] != "value_error" and first["type"] != "missing":
                message = f"{message} (it is {str(first['input'])[:60]!r})"
            line = text.line(location) if text else None
            where = f"{source} line {line}, " if line else f"{source}: " if text else ""
            raise InvalidSetting(where + (_dotted(location) or "specification"), message) from None
        try:
            json.dumps(found.plain(), allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidSetting(source, f"holds something that cannot be written as JSON: {error}") from None
        return found.resolved(folder)

    def resolved(self, folder: Path | None) -> MovieSpecification:
        """With absolute paths of models.

        :raises InvalidSetting: a path is relative, and nobody knows to what.
        """
        models = []
        for index, model in enumerate(self.models):
            if not model.path.startswith("/"):
                if folder is None:
                    raise InvalidSetting(
                        f"models.{index}.path", f"{model.path!r} is relative; write the path as the nodes see it"
                    )
                model = model.model_copy(update={"path": os.path.normpath(folder / model.path)})
            models.append(model)
        return self.model_copy(update={"models": tuple(models)})

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.resolution[0] / self.resolution[1]

    def all_lights(self) -> tuple[Light, ...]:
        """The lights that are set."""
        return self.lights if self.lights is not None else _USUAL_LIGHTS

    def plain(self) -> dict[str, Any]:
        """As JSON values; `MovieSpecification.check` takes them back."""
        return self.model_dump(mode="json", exclude_defaults=True) | {"version": VERSION}


_USUAL_LIGHTS = (
    Light(intensity=5.0, color=(1.0, 0.96, 0.9), direction=(-0.5, -0.7, -0.9)),
    Light(intensity=1.6, color=(0.6, 0.75, 1.0), direction=(0.8, 0.3, 0.6)),
    Light(kind="ambient", intensity=0.35),
)


class _Misplaced(ValueError):  # noqa: N818
    """What is wrong between two fields, and at which it is to be mended."""

    def __init__(self, location: tuple[str | int, ...], text: str) -> None:
        super().__init__(text)
        self.location, self.text = location, text


def _at(location: tuple[str | int, ...], text: str) -> _Misplaced:
    return _Misplaced(location, text)


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _is_path(text: str) -> bool:
    try:
        return "\0" not in text and len(text.encode()) <= 4095
    except UnicodeEncodeError:
        return False
