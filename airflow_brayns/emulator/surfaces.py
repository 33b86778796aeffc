"""What a material makes of a surface: how much of it is seen, how it gives light back, and what light is its own.

A material is drawn by its opacity, its emission and a colour fitted to the recorded pictures; a colour's fourth part is opacity,
too. `roughness`, `index_of_refraction`, `flake_density` and what `principled` has beside `metallic` are kept and told, but change
nothing of the picture: nothing is mirrored or refracted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Surface:
    """How light and a surface meet.

    :param opacity: 1 hides what is behind it.
    :param diffuse: How much of the light comes back in the surface's colour.
    :param white: How much comes back white.
    :param glow: The light of its own, linear RGB.
    :param clear: Whether a colour's fourth part makes it more transparent.
    """

    opacity: float = 1.0
    diffuse: float = 1.0
    white: float = 0.0
    glow: tuple[float, ...] = (0.0, 0.0, 0.0)
    clear: bool = True


def surface(material: tuple[str, Mapping[str, Any]] | None, production: bool) -> Surface:
    """How a material looks.

    The interactive renderer knows only what is made of OSPRay's `obj`, so of all materials' values only the opacity of `phong`
    (recorded: `matte` of opacity 0.3 is to the bit what `phong` is; source of `phong`: SciVis.ispc of OSPRay 2.10).
    """
    name, values = material or ("phong", {})
    if not production:
        return Surface(values.get("opacity", 1.0)) if name == "phong" else Surface()
    match name:
        case "metal":
            return Surface(diffuse=0.6, clear=False)
        case "principled":
            return Surface(diffuse=1 - 0.47 * values["metallic"], white=0.03 * values["metallic"])
        case "carpaint":
            return Surface(diffuse=0.48, white=0.3, clear=False)
        case "glass":
            return Surface(0.5, diffuse=0.14, clear=False)
        case "emissive":
            glow = tuple(part * values["intensity"] for part in values["color"])
            return Surface(diffuse=0.0, glow=glow, clear=False)
        case "plastic":
            return Surface(values["opacity"], diffuse=0.93, white=0.035)
        case _:  # phong, ghost and matte
            return Surface(values.get("opacity", 1.0))
