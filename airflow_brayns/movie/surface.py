"""What a model looks like and where it stands: its transformation, its material and the colours of its report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from airflow_brayns.movie.fields import LARGEST, Color, Number, Part, Share, Vector, misplaced

MaterialKind = Literal[
    "phong", "matte", "plastic", "metal", "glass", "ghost", "emissive", "carpaint", "principled"
]  # fmt: skip
# The parameters that each of Brayns' `set-material-…` takes (3.10.1, recorded).
MATERIALS: Mapping[str, tuple[str, ...]] = {
    "phong": ("opacity",),
    "matte": ("opacity",),
    "plastic": ("opacity",),
    "metal": ("roughness",),
    "glass": ("index_of_refraction",),
    "ghost": (),
    "emissive": ("intensity", "color"),
    "carpaint": ("flake_density",),
    "principled": (
        "edge_color", "metallic", "diffuse", "specular", "ior", "transmission", "transmission_color",
        "transmission_depth", "roughness", "anisotropy", "anisotropy_rotation", "thin", "thickness", "back_light", "coat",
        "coat_ior", "coat_color", "coat_thickness", "coat_roughness", "sheen", "sheen_color", "sheen_tint",
        "sheen_roughness",
    ),
}  # fmt: skip
_SMOOTHEST_METAL = 0.01
_Amount = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]


def _thrice(value: Any) -> Any:
    """One number for all three axes."""
    return [value] * 3 if isinstance(value, int | float) and not isinstance(value, bool) else value


Scale = Annotated[
    Vector,
    BeforeValidator(_thrice),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number"},
                {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3},
            ]
        }
    ),
]
Rotation = Annotated[tuple[Number, ...], Field(min_length=3, max_length=4)]


class Transform(Part):
    """Where a model stands: it is scaled, then turned about its own origin, then moved.

    :param translation: how far it is moved, in the scene's units, along x, y and z.
    :param rotation: three angles in degrees, about x, then y, then z, all of them the scene's axes, as the official
        client's `Rotation.from_euler` counts them; or four numbers, a quaternion x, y, z, w of any length.
    :param scale: how much larger it is: one number, or one for each of x, y and z.
    """

    translation: Vector = (0.0, 0.0, 0.0)
    rotation: Rotation = (0.0, 0.0, 0.0)
    scale: Scale = (1.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.rotation) == 4 and not math.hypot(*self.rotation):
            raise misplaced(
                ("rotation",), "is a quaternion without length; no turn is [0, 0, 0, 1], or [0, 0, 0] degrees"
            )
        if not all(self.scale):
            raise misplaced(("scale",), "nothing is left of a model that is scaled by 0; hide it with `visible: false`")
        return self

    @property
    def quaternion(self) -> list[float]:
        """The rotation as Brayns takes it: x, y, z, w, of length 1."""
        if len(self.rotation) == 4:
            length = math.hypot(*self.rotation)
            return [part / length for part in self.rotation]
        (sx, cx), (sy, cy), (sz, cz) = (
            (math.sin(half), math.cos(half)) for half in (math.radians(angle) / 2 for angle in self.rotation)
        )
        return [
            sx * cy * cz - cx * sy * sz,
            cx * sy * cz + sx * cy * sz,
            cx * cy * sz - sx * sy * cz,
            cx * cy * cz + sx * sy * sz,
        ]

    def parameters(self) -> dict[str, list[float]]:
        """The transformation as `update-model` takes it."""
        return {"translation": list(self.translation), "rotation": self.quaternion, "scale": list(self.scale)}


class Material(Part):
    """The material of a model, by one of Brayns' `set-material-…`; colours stay the model's own.

    The interactive renderer shows opacity only; the others need `production`. What is left out is as Brayns has it.

    :param kind: `phong`, `matte` and `plastic` take `opacity`; `metal` takes `roughness`; `glass` takes
        `index_of_refraction`; `ghost` takes nothing; `emissive` takes `intensity` and `color`; `carpaint` takes
        `flake_density`; `principled` takes what stands below that.
    :param opacity: from 0, not to be seen, to 1, nothing to be seen through it.
    :param roughness: from 0 (of metal: 0.01), a mirror, to 1, dull; of metal and principled.
    :param index_of_refraction: of glass; 1.5 where none is given.
    :param intensity: how much light a model that is emissive gives.
    :param color: the colour of that light.
    :param flake_density: the share of the car paint that is flakes, 0 to 1.
    :param edge_color: the tint of a metallic surface at its edges.
    :param metallic: from 0, a dielectric, to 1, a metal.
    :param diffuse: weight of the diffuse reflection, 0 to 1.
    :param specular: weight of the specular reflection and transmission, 0 to 1.
    :param ior: the dielectric's index of refraction, 1 or more.
    :param transmission: weight of the specular transmission, 0 to 1.
    :param transmission_color: the colour that light takes on its way through.
    :param transmission_depth: the way after which it has that colour, in the scene's units.
    :param anisotropy: how far the reflection is drawn out one way, 0 to 1.
    :param anisotropy_rotation: the turn of that way, 0 to 1 for once around.
    :param thin: whether the surface is a thin shell and not the skin of a solid.
    :param thickness: of that shell, in the scene's units.
    :param back_light: how much light comes through that shell, 0 to 2.
    :param coat: weight of a clear coat, 0 to 1.
    :param coat_ior: the coat's index of refraction.
    :param coat_color: the coat's colour.
    :param coat_thickness: the coat's thickness, in the scene's units.
    :param coat_roughness: the coat's roughness, 0 to 1.
    :param sheen: weight of a sheen as of cloth, 0 to 1.
    :param sheen_color: the sheen's colour.
    :param sheen_tint: from 0, a white sheen, to 1, one of the sheen's colour.
    :param sheen_roughness: the sheen's roughness, 0 to 1.
    """

    kind: MaterialKind
    opacity: Share | None = None
    roughness: Share | None = None
    index_of_refraction: Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)] | None = None
    intensity: _Amount | None = None
    color: Color | None = None
    flake_density: Share | None = None
    edge_color: Color | None = None
    metallic: Share | None = None
    diffuse: Share | None = None
    specular: Share | None = None
    ior: Annotated[float, Field(ge=1, le=LARGEST, allow_inf_nan=False)] | None = None
    transmission: Share | None = None
    transmission_color: Color | None = None
    transmission_depth: _Amount | None = None
    anisotropy: Share | None = None
    anisotropy_rotation: Share | None = None
    thin: bool = False
    thickness: _Amount | None = None
    back_light: Annotated[float, Field(ge=0, le=2)] | None = None
    coat: Share | None = None
    coat_ior: _Amount | None = None
    coat_color: Color | None = None
    coat_thickness: _Amount | None = None
    coat_roughness: Share | None = None
    sheen: Share | None = None
    sheen_color: Color | None = None
    sheen_tint: Share | None = None
    sheen_roughness: Share | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        takes = MATERIALS[self.kind]
        for name in self.parameters():
            if name not in takes:
                told = f"{self.kind} takes {', '.join(takes) or 'nothing'}"
                others = ", ".join(kind for kind, names in MATERIALS.items() if name in names)
                raise misplaced((name,), f"{told}; leave it out, or take {others}")
        if self.kind == "metal" and self.roughness is not None and self.roughness < _SMOOTHEST_METAL:
            raise misplaced(
                ("roughness",), f"{self.roughness:g} is below {_SMOOTHEST_METAL}, the smoothest metal there is"
            )
        return self

    def parameters(self) -> dict[str, Any]:
        """The parameters as `set-material-…` takes them."""
        given = self.model_dump(mode="json", exclude={"kind"}, exclude_defaults=True)
        return {name: value[:3] if isinstance(value, list) else value for name, value in given.items()}


class ColorRamp(Part):
    """The colours of a report's or a volume's values; what is left out stays as the service has it.

    :param range: the values, in the report's unit, such as mV, of the first and of the last colour; what is below or above
        has these two.
    :param colors: two to 256 colours, evenly spread over the range; between two of them the colour is in between.
    """

    range: tuple[Number, Number] | None = None
    colors: Annotated[tuple[Color, ...], Field(min_length=2, max_length=256)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.range is None and self.colors is None:
            raise ValueError("give `range`, `colors` or both")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise misplaced(
                ("range",), f"goes from {self.range[0]:g} to {self.range[1]:g}; the first must be below the last"
            )
        return self

    def parameters(self) -> dict[str, Any]:
        """What is given, as `set-color-ramp` takes it."""
        colors = {} if self.colors is None else {"colors": [[*one, 1.0][:4] for one in self.colors]}
        return colors | ({} if self.range is None else {"range": list(self.range)})
