"""What a scene holds: models with their geometry and colours, lights, camera and renderer settings."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

FLOAT_MAX = 3.4028235e38
MESH_EXTENSIONS = ("off", "stl", "ply", "obj")
SECTIONS = {1: "soma", 2: "axon", 3: "dendrite", 4: "apical_dendrite"}
DEFAULT_COLOR = (0.8, 0.8, 0.8, 1.0)
_TUBE_SIDES = 10


@dataclass
class Geometry:
    """Triangles with a normal at each corner and the section each triangle belongs to."""

    vertices: FloatArray
    faces: IntArray
    normals: FloatArray
    sections: IntArray
    low: FloatArray
    high: FloatArray


@dataclass
class Model:
    """One entry of `get-scene`."""

    model_id: int
    model_type: str
    info: dict[str, Any]
    geometry: Geometry | None = None
    section_names: dict[int, str] = field(default_factory=dict)
    section_colors: dict[int, tuple[float, ...]] = field(default_factory=dict)
    color: tuple[float, ...] = DEFAULT_COLOR
    material: str = "phong"
    visible: bool = True
    light: dict[str, Any] | None = None
    frames: tuple[int, int] = (0, 0)
    transform: dict[str, list[float]] = field(
        default_factory=lambda: {"rotation": [0, 0, 0, 1], "scale": [1, 1, 1], "translation": [0, 0, 0]}
    )

    def placed(self) -> FloatArray:
        """The vertices with the model's transformation applied."""
        assert self.geometry is not None
        points = self.geometry.vertices * np.asarray(self.transform["scale"], np.float32)
        points = points @ _rotation(self.transform["rotation"]).T
        return np.asarray(points + np.asarray(self.transform["translation"], np.float32), np.float32)

    def bounds(self) -> tuple[list[float], list[float]]:
        """Lowest and highest corner; the real service's inverted box for what has no geometry."""
        if self.geometry is None:
            return [FLOAT_MAX] * 3, [-FLOAT_MAX] * 3
        identity = self.transform == {"rotation": [0, 0, 0, 1], "scale": [1, 1, 1], "translation": [0, 0, 0]}
        if identity:
            low, high = self.geometry.low, self.geometry.high
        else:
            points = self.placed()
            low, high = points.min(0), points.max(0)
        return _numbers(low), _numbers(high)

    def describe(self) -> dict[str, Any]:
        """The model as `get-model` tells it."""
        low, high = self.bounds()
        return {
            "bounds": {"max": high, "min": low},
            "info": self.info,
            "is_visible": self.visible,
            "model_id": self.model_id,
            "model_type": self.model_type,
            "transform": {key: _numbers(value) for key, value in self.transform.items()},
        }

    def color_methods(self) -> list[str]:
        if self.model_type == "morphology":
            return ["morphology section", "morphology section geometry", "solid"]
        return ["solid"] if self.geometry is not None else []

    def color_values(self, method: str) -> list[str]:
        if method == "solid":
            return ["color"]
        return sorted(set(self.section_names.values()))

    def face_colors(self) -> FloatArray:
        """One linear RGB colour a triangle."""
        assert self.geometry is not None
        table = np.tile(np.asarray(self.color[:3], np.float32), (max(SECTIONS) + 2, 1))
        for section, color in self.section_colors.items():
            table[section] = color[:3]
        return np.asarray(table[self.geometry.sections], np.float32)


def _numbers(values: Any) -> list[float]:
    """Floats as the service prints them: six to eight digits, whole ones without a point."""
    rounded = [float(f"{float(value):.8g}") for value in values]
    return [int(value) if value == int(value) and abs(value) < 1e9 else value for value in rounded]


def _rotation(quaternion: list[float]) -> FloatArray:
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        np.float32,
    )


def load_mesh(source: str | bytes, extension: str) -> tuple[Geometry, dict[str, str]]:
    """Read OBJ, PLY, STL or OFF with trimesh, flat shaded as braynsService's mesh loader leaves it."""
    import trimesh

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
    import trimesh

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
