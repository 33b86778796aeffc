"""Spheres, boxes, capsules and planes as triangles."""

from __future__ import annotations

from typing import Any

import numpy as np

from airflow_brayns.emulator.loaders import capped_cone, icosphere
from airflow_brayns.emulator.scene import Content, Geometry

_ENDLESS = 1e4  # half the side of the square that stands for a plane without bounds
_CUBE_SIDES = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]


def primitives(kind: str, listed: list[dict[str, Any]]) -> Content:
    """What `add-spheres`, `add-boxes`, … show; the section of a triangle is its primitive's number."""
    shapes = [_SHAPES[kind](one["geometry"]) for one in listed]
    vertices, normals, faces, sections, count = [], [], [], [], 0
    for number, (points, directions, triangles) in enumerate(shapes):
        vertices.append(points)
        normals.append(directions)
        faces.append(np.asarray(triangles) + count)
        sections.append(np.full(len(triangles), number))
        count += len(points)
    points = np.concatenate(vertices).astype(np.float32)
    hull = np.array(bounding_points(kind, [one["geometry"] for one in listed]), np.float32).reshape(-1, 3)
    geometry = Geometry(
        points,
        np.concatenate(faces).astype(np.int32),
        np.concatenate(normals).astype(np.float32),
        np.concatenate(sections).astype(np.int32),
        hull.min(0) if len(hull) else np.full(3, np.finfo(np.float32).max),
        hull.max(0) if len(hull) else np.full(3, -np.finfo(np.float32).max),
        hull,
    )
    return Content(
        "geometry",
        geometry,
        section_colors={number: tuple(one["color"]) for number, one in enumerate(listed)},
        color_methods=("primitive", "solid"),
        material=("phong", {"opacity": 1}),
    )


def bounding_points(kind: str, shapes: list[dict[str, Any]]) -> list[list[float]]:
    """The points that the real service takes for a shape's ends; a plane without bounds has none."""
    result: list[list[float]] = []
    for shape in shapes:
        if kind == "spheres":
            result += _around(shape["center"], shape["radius"])
        elif kind == "capsules":
            result += _around(shape["p0"], shape["r0"]) + _around(shape["p1"], shape["r1"])
        elif kind in ("boxes", "bounded-planes"):
            result += _corners(shape.get("bounds", shape))
    return result


def _around(center: list[float], radius: float) -> list[list[float]]:
    return [[value - radius for value in center], [value + radius for value in center]]


def _corners(box: dict[str, Any]) -> list[list[float]]:
    low, high = box["min"], box["max"]
    return [[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]


def _sphere(shape: dict[str, Any]) -> tuple[Any, Any, Any]:
    unit, faces = icosphere(3)
    return np.array(shape["center"]) + unit * shape["radius"], unit, faces


def _capsule(shape: dict[str, Any]) -> tuple[Any, Any, Any]:
    return capped_cone(shape["p0"], shape["r0"], shape["p1"], shape["r1"])


def _box(shape: dict[str, Any]) -> tuple[Any, Any, Any]:
    return _quads(np.array(_corners(shape), np.float64)[np.array(_CUBE_SIDES)])


def _plane(shape: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The plane Ax + By + Cz = D: OSPRay takes the fourth coefficient so (recorded: `inspect` meets [0, 1, 0, 200] at y = 200)."""
    normal = np.array(shape["coefficients"][:3], np.float64)
    length = float(np.linalg.norm(normal)) or 1.0
    normal /= length
    across = np.cross(normal, [1.0, 0, 0] if abs(normal[0]) < 0.9 else [0, 1.0, 0])
    across /= float(np.linalg.norm(across)) or 1.0
    along = np.cross(normal, across)
    middle = normal * shape["coefficients"][3] / length
    corners = np.array([middle + (a * across + b * along) * _ENDLESS for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    if "bounds" in shape:
        corners = np.clip(corners, shape["bounds"]["min"], shape["bounds"]["max"])
    return _quads(corners[None])


def _quads(corners: Any) -> tuple[Any, Any, Any]:
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    first = np.arange(0, 4 * len(corners), 4)[:, None]
    return (
        corners.reshape(-1, 3),
        np.repeat(normals, 4, axis=0),
        np.concatenate([first + np.array(part) for part in ((0, 1, 2), (0, 2, 3))]),
    )


_SHAPES = {"spheres": _sphere, "capsules": _capsule, "boxes": _box, "planes": _plane, "bounded-planes": _plane}
