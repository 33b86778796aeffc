"""Which triangles clippers take away: those whose middle lies in the clipper's shape, or outside of it where it is inverted.

Recorded: a plane Ax + By + Cz = D takes away what is below it, a sphere and a box what is inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Clipper:
    """What `add-clipping-…` asks for.

    :param kind: `planes`, `spheres`, `boxes`, `capsules`; bounded planes, which have no inside, take nothing away.
    """

    kind: str
    primitives: list[dict[str, Any]]
    inverted: bool

    def takes(self, points: Any) -> Any:
        """Whether each point is taken away."""
        inside = np.zeros(len(points), bool)
        for shape in self.primitives if self.kind in _INSIDE else []:
            inside |= _INSIDE[self.kind](shape, points)
        return ~inside if self.inverted and self.kind in _INSIDE else inside


def _below(shape: dict[str, Any], points: Any) -> Any:
    *normal, distance = shape["coefficients"]
    return points @ np.array(normal, np.float32) < distance


def _in_sphere(shape: dict[str, Any], points: Any) -> Any:
    return np.linalg.norm(points - np.array(shape["center"]), axis=1) < shape["radius"]


def _in_box(shape: dict[str, Any], points: Any) -> Any:
    return ((points > np.array(shape["min"])) & (points < np.array(shape["max"]))).all(1)


def _in_capsule(shape: dict[str, Any], points: Any) -> Any:
    start, end = np.array(shape["p0"], np.float64), np.array(shape["p1"], np.float64)
    axis = end - start
    share = np.clip((points - start) @ axis / max(float(axis @ axis), 1e-20), 0, 1)[:, None]
    radius = shape["r0"] + (shape["r1"] - shape["r0"]) * share[:, 0]
    return np.linalg.norm(points - (start + share * axis), axis=1) < radius


_INSIDE = {"planes": _below, "spheres": _in_sphere, "boxes": _in_box, "capsules": _in_capsule}
