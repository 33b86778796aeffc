"""The lights of a specification: of all kinds that Brayns has, in the scene or with the camera."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from airflow_brayns.movie.fields import LARGEST, Color, Part, Vector, misplaced

# What each of Brayns' `add-light-…` takes beside intensity and color (3.10.1, recorded).
LIGHTS: Mapping[str, tuple[str, ...]] = {
    "ambient": (),
    "directional": ("direction",),
    "sphere": ("position", "radius"),
    "quad": ("position", "edge1", "edge2"),
}
_ALL_THERE_IS = {"sphere": ("radius",), "quad": ("edge1", "edge2")}  # Brayns' own are a point and a unit square
_AHEAD = (0.0, 0.0, -1.0)
NO_LIGHT = "without a light the production renderer kills braynsService 3.10.1; give one, or leave `lights` out"


class Light(Part):
    """A light. Without any light the production renderer kills braynsService 3.10.1 (run), so there is always one.

    :param kind: `directional` (from far away), `ambient` (from everywhere), `sphere` or `quad` (a rectangle), which stand
        in the scene.
    :param intensity: how bright it is; of a sphere or quad it is spread over its surface and grows less with the distance.
    :param color: the light's colour.
    :param direction: the direction in which a directional light goes.
    :param position: the middle of a sphere, or the corner of a quad, in the scene's units.
    :param radius: the radius of a sphere, in the scene's units.
    :param edge1, edge2: the two sides of a quad, as vectors from its corner; it shines to the side of edge1 x edge2.
    :param visible: whether it is switched on.
    :param follow_camera: whether it goes with the camera: direction, position and edges are then as the camera sees them,
        x to the right, y up and z towards it, with the camera at 0. A directional light that has no direction goes where
        the camera looks.
    """

    kind: Literal["directional", "ambient", "sphere", "quad"] = "directional"
    intensity: float = Field(default=1.0, ge=0, le=LARGEST, allow_inf_nan=False)
    color: Color = (1.0, 1.0, 1.0)
    direction: Vector | None = None
    position: Vector | None = None
    radius: float | None = Field(default=None, gt=0, le=LARGEST, allow_inf_nan=False)
    edge1: Vector | None = None
    edge2: Vector | None = None
    visible: bool = True
    follow_camera: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        takes = LIGHTS[self.kind]
        for name in {name for names in LIGHTS.values() for name in names} - {*takes}:
            if getattr(self, name) is not None:
                article = "an" if self.kind == "ambient" else "a"
                raise misplaced(
                    (name,), f"{article} {self.kind} light has no {name}; it takes {', '.join(takes) or 'none'}"
                )
        for name in _ALL_THERE_IS.get(self.kind, ()):
            if getattr(self, name) is None:
                raise misplaced((name,), f"missing: a {self.kind} light needs it, in the scene's units")
        if self.direction is not None and not math.hypot(*self.direction):
            raise misplaced(("direction",), "has no length, so the light goes nowhere")
        if self.edge1 is not None and self.edge2 is not None and not _area(self.edge1, self.edge2):
            raise misplaced(("edge2",), "lies along edge1, so the quad has no surface that shines")
        if self.follow_camera and not takes:
            raise misplaced(("follow_camera",), "an ambient light comes from everywhere; leave it out")
        return self

    @property
    def shines(self) -> bool:
        """Whether the light lights anything."""
        return self.visible and self.intensity > 0

    def parameters(self, turned: Turned | None = None) -> dict[str, Any]:
        """The light as `add-light-…` takes it.

        :param turned: the camera that it goes with; None for a light that stays.
        """
        placed = {name: getattr(self, name) for name in LIGHTS[self.kind] if getattr(self, name) is not None}
        if turned is not None:
            placed = turned.placed({"direction": _AHEAD, **placed} if self.kind == "directional" else placed)
        return {
            "intensity": self.intensity,
            "color": list(self.color[:3]),
            **{name: list(value) if isinstance(value, tuple) else value for name, value in placed.items()},
        }


class Turned:
    """The camera's own axes, in which what goes with the camera is told.

    :param position: where the camera is.
    :param target: what it looks at.
    :param up: the direction that is up in the picture.
    """

    def __init__(self, position: Vector, target: Vector, up: Vector) -> None:
        self._position = position
        back = _unit((position[0] - target[0], position[1] - target[1], position[2] - target[2]))
        right = _unit(_cross(up, back))
        self._axes = right, _cross(back, right), back

    def placed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The same in the scene's axes: positions are moved too, directions and edges are only turned."""
        found = dict(values)
        for name, value in values.items():
            if isinstance(value, tuple):
                turned = self._turned(value)
                found[name] = (
                    tuple(a + b for a, b in zip(turned, self._position, strict=True)) if name == "position" else turned
                )
        if "position" not in found and "direction" not in found:
            found["position"] = self._position
        return found

    def _turned(self, value: Vector) -> Vector:
        x, y, z = (sum(part * axis[index] for part, axis in zip(value, self._axes, strict=True)) for index in range(3))
        return x, y, z


def _cross(one: Vector, other: Vector) -> Vector:
    (a, b, c), (x, y, z) = one, other
    return b * z - c * y, c * x - a * z, a * y - b * x


def _unit(value: Vector) -> Vector:
    length = math.hypot(*value) or 1.0
    return value[0] / length, value[1] / length, value[2] / length


def _area(one: Vector, other: Vector) -> float:
    return math.hypot(*_cross(one, other))


USUAL_LIGHTS = (
    Light(intensity=5.0, color=(1.0, 0.96, 0.9), direction=(-0.5, -0.7, -0.9)),
    Light(intensity=1.6, color=(0.6, 0.75, 1.0), direction=(0.8, 0.3, 0.6)),
    Light(kind="ambient", intensity=0.35),
)
