"""Reads files into geometry: meshes with trimesh, neurons from SWC."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from airflow_brayns.emulator.scene import SECTIONS, Geometry

_TUBE_SIDES = 10


def load_mesh(source: str | bytes, extension: str) -> tuple[Geometry, dict[str, str]]:
    """Read OBJ, PLY, STL or OFF with trimesh, flat shaded as braynsService's mesh loader leaves it."""
    handle = io.BytesIO(source if isinstance(source, bytes) else Path(source).read_bytes())
    mesh: Any = trimesh.load(handle, file_type=extension, force="mesh", process=False)
    if not len(mesh.faces):
        raise ValueError("no triangles")
    corners = np.asarray(mesh.vertices, np.float32)[np.asarray(mesh.faces)]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    vertices = corners.reshape(-1, 3)
    geometry = Geometry(
        vertices,
        np.arange(len(vertices), dtype=np.int32).reshape(-1, 3),
        np.repeat(normals, 3, axis=0).astype(np.float32),
        np.zeros(len(corners), np.int32),
        vertices.min(0),
        vertices.max(0),
    )
    return geometry, {"faces": str(len(corners)), "meshes": "1", "vertices": str(len(vertices))}


def load_morphology(path: str, properties: dict[str, Any]) -> tuple[Geometry, dict[int, str]]:
    """Read a neuron in SWC form and skin it: a rounded cone between each sample and its parent."""
    samples = np.loadtxt(path, comments="#", ndmin=2, dtype=np.float64)
    if samples.shape[1] < 7:
        raise ValueError(f"Cannot load '{path}': not an SWC file")
    kinds = samples[:, 1].astype(int)
    wanted = {
        kind
        for kind, flag in ((1, "load_soma"), (2, "load_axon"), (3, "load_dendrites"), (4, "load_dendrites"))
        if properties.get(flag, False)
    }
    row_of = {int(sample): row for row, sample in enumerate(samples[:, 0])}
    keep = np.array([kind in wanted for kind in kinds])
    if not keep.any():
        raise ValueError("No geometry to load with the given parameters")
    points = samples[:, 2:5]
    radii = samples[:, 5] * float(properties.get("radius_multiplier", 1.0))
    low, high = (points - radii[:, None])[keep].min(0), (points + radii[:, None])[keep].max(0)

    ball = trimesh.creation.icosphere(subdivisions=1)
    soma = trimesh.creation.icosphere(subdivisions=3)
    vertices: list[Any] = []
    faces: list[Any] = []
    normals: list[Any] = []
    sections: list[Any] = []
    count = 0

    def add(v: Any, n: Any, f: Any, kind: int) -> None:
        nonlocal count
        vertices.append(v)
        normals.append(n)
        faces.append(f + count)
        sections.append(np.full(len(f), kind))
        count += len(v)

    for row in np.flatnonzero(keep):
        kind = min(kinds[row], max(SECTIONS))
        shape = soma if kind == 1 else ball
        unit = np.asarray(shape.vertices)
        add(points[row] + unit * radii[row], unit, np.asarray(shape.faces), kind)
        parent = row_of.get(int(samples[row, 6]))
        if parent is None or (kinds[parent] not in wanted):
            continue
        start = min(radii[parent], radii[row]) if kinds[parent] == 1 and kind != 1 else radii[parent]
        tube = _tube(points[parent], points[row], start, radii[row])
        if tube is not None:
            add(*tube, kind)
    geometry = Geometry(
        np.concatenate(vertices).astype(np.float32),
        np.concatenate(faces).astype(np.int32),
        np.concatenate(normals).astype(np.float32),
        np.concatenate(sections).astype(np.int32),
        low.astype(np.float32),
        high.astype(np.float32),
    )
    return geometry, {int(kind): SECTIONS.get(int(kind), "dendrite") for kind in set(kinds[keep])}


def _tube(start: Any, end: Any, start_radius: float, end_radius: float) -> tuple[Any, Any, Any] | None:
    axis = end - start
    length = np.linalg.norm(axis)
    if length < 1e-9:
        return None
    axis = axis / length
    across = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.9 else [0, 1.0, 0])
    across /= np.linalg.norm(across)
    angle = np.linspace(0, 2 * np.pi, _TUBE_SIDES, endpoint=False)[:, None]
    ring = np.cos(angle) * across + np.sin(angle) * np.cross(axis, across)
    near = np.arange(_TUBE_SIDES)
    after = (near + 1) % _TUBE_SIDES
    far, far_after = near + _TUBE_SIDES, after + _TUBE_SIDES
    faces = np.concatenate([np.stack([near, after, far], 1), np.stack([after, far_after, far], 1)])
    return np.concatenate([start + ring * start_radius, end + ring * end_radius]), np.concatenate([ring, ring]), faces
