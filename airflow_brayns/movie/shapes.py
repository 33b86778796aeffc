"""Simple shapes: those that are shown beside the models, and those that cut a part of the scene away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from airflow_brayns.movie.fields import LARGEST, Color, Number, Part, Vector, misplaced

Length = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
# The shapes of Brayns' `add-…` and `add-clipping-…`: each one's name there, and what it takes (3.10.1, recorded).
SHAPES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "sphere": ("spheres", ("center", "radius")),
    "capsule": ("capsules", ("p0", "r0", "p1", "r1")),
    "box": ("boxes", ("min", "max")),
    "plane": ("planes", ("coefficients",)),
}
_NAMES = frozenset(name for _, names in SHAPES.values() for name in names)


class Shape(Part):
    """A sphere, a capsule (a rod with round ends, which may be of two thicknesses), a box or a plane.

    :param kind: `sphere` takes `center` and `radius`; `capsule` takes `p0`, `r0`, `p1` and `r1`; `box` takes `min` and
        `max`; `plane` takes `coefficients`. All of them are needed, in the scene's units.
    :param center: the middle of a sphere.
    :param radius: the radius of a sphere.
    :param p0, p1: the two ends of a capsule.
    :param r0, r1: the radius of a capsule at each of its ends.
    :param min, max: the lowest and the highest corner of a box.
    :param coefficients: of a plane: A, B, C and D of Ax + By + Cz = D; A, B, C is the side that is up.
    """

    kind: Literal["sphere", "capsule", "box", "plane"]
    center: Vector | None = None
    radius: Length | None = None
    p0: Vector | None = None
    r0: Length | None = None
    p1: Vector | None = None
    r1: Length | None = None
    min: Vector | None = None
    max: Vector | None = None
    coefficients: tuple[Number, Number, Number, Number] | None = None

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        takes = SHAPES[self.kind][1]
        for name in sorted(_NAMES):
            if (getattr(self, name) is None) == (name in takes):
                wrong = "missing" if name in takes else f"a {self.kind} has none"
                raise misplaced((name,), f"{wrong}: a {self.kind} takes {', '.join(takes)}")
        if self.radius == 0 or (self.r0 == 0 and self.r1 == 0):
            raise misplaced(("radius" if self.radius == 0 else "r0",), "is 0: nothing would be there")
        if self.min and self.max and not all(low < high for low, high in zip(self.min, self.max, strict=True)):
            raise misplaced(("max",), "must be above `min` along x, y and z")
        if self.coefficients and not math.hypot(*self.coefficients[:3]):
            raise misplaced(("coefficients",), "A, B and C are all 0, so nothing tells how the plane lies")
        return self

    def geometry(self) -> dict[str, Any]:
        """The shape as Brayns takes it."""
        return self.model_dump(mode="json", include={*SHAPES[self.kind][1]})


class Primitive(Shape):
    """A shape that is shown beside the models: a sphere, a capsule, a box or a plane.

    :param color: its colour.
    """

    color: Color = (1.0, 1.0, 1.0)


class Clipping(Shape):
    """A shape that cuts away what is inside it, or below it, if it is a plane.

    :param invert_normals: whether it cuts away the other side.
    """

    invert_normals: bool = False
