"""Reads files into geometry, as the loaders `mesh` and `Neuron Morphology loader` of braynsService 3.10.1 do, and refuses as they do."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from airflow_brayns.emulator.meshes import MeshError, parse_mesh
from airflow_brayns.emulator.scene import SECTIONS, Geometry
from airflow_brayns.emulator.swc import SOMA, MorphologyError, Sample, parse_swc

_TUBE_SIDES = 10
_THINNER = 0.89  # `section_smooth`: a section's radius by that of the one before it
_EMPTY = "OSPData: shared buffer is NULL"  # what is left to draw is nothing (recorded: an empty SWC)


class LoadError(ValueError):
    """A model is refused; the text is the service's. Bytes of the file that are no UTF-8 are lone surrogates in it."""


def load_mesh(source: str | bytes, extension: str) -> tuple[Geometry, dict[str, str]]:
    """Read OBJ, PLY, STL or OFF.

    :param source: a path, or the uploaded bytes.
    :raises LoadError: where the service refuses it.
    """
    try:
        mesh = parse_mesh(source if isinstance(source, bytes) else _content(source), extension)
    except MeshError as error:
        raise LoadError(str(error)) from None
    corners = np.asarray(mesh.corners, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # corners may be `nan` and `inf`: the service takes them
        normals = _normals(corners, mesh.normals)
    vertices = corners.reshape(-1, 3)
    geometry = Geometry(
        vertices,
        np.arange(len(vertices), dtype=np.int32).reshape(-1, 3),
        normals.reshape(-1, 3),
        np.zeros(len(corners), np.int32),
        vertices.min(0),
        vertices.max(0),
    )
    return geometry, {"faces": str(len(corners)), "meshes": "1", "vertices": str(len(vertices))}


def _content(path: str) -> bytes:
    file = Path(path)
    if not file.exists():
        raise LoadError(f"File {path} does not exists")
    if not file.is_file():
        raise LoadError(f"File {path} is not a regular file")
    try:
        return file.read_bytes()
    except OSError:
        raise LoadError(f"Cannot open file {path}") from None


def _normals(corners: Any, given: Any) -> Any:
    """The file's normals; those of the triangles where it has none, or one without a length."""
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-20)
    normals = np.repeat(flat[:, None], 3, axis=1).astype(np.float32)
    if len(given):
        length = np.linalg.norm(given, axis=2, keepdims=True)
        normals = np.where(length > 0, given / np.where(length > 0, length, 1), normals)
    return np.asarray(normals, np.float32)


def load_morphology(path: str, properties: dict[str, Any]) -> tuple[Geometry, dict[int, str]]:
    """Read a neuron in SWC form and skin it: a rounded cone between each sample and its parent.

    :param properties: the loader's, checked.
    :raises LoadError: where the service refuses the file, or nothing of it is left to draw.
    """
    samples = _samples(path)
    flags = ((1, "load_soma"), (2, "load_axon"), (3, "load_dendrites"), (4, "load_dendrites"))
    wanted = {kind for kind, flag in flags if properties.get(flag, False)}
    kept = [sample for sample in samples.values() if sample.kind in wanted]
    if not kept:
        raise LoadError(_EMPTY)
    radii = _radii(samples, properties)
    skin = _Skin()
    for sample in kept:
        skin.ball(sample, radii[sample.number])
        parent = samples.get(sample.parent)
        if parent is not None and parent.kind in wanted:
            skin.tube(parent, sample, radii[parent.number], radii[sample.number])
    points = np.array([sample.point for sample in kept], np.float32)
    reach = np.array([radii[sample.number] for sample in kept], np.float32)[:, None]
    return skin.geometry(points, reach), {sample.kind: SECTIONS.get(sample.kind, "dendrite") for sample in kept}


def _samples(path: str) -> dict[int, Sample]:
    extension = Path(path).suffix.lower().lstrip(".")
    if not extension:
        raise LoadError("File has no extension")
    if extension not in ("swc", "asc", "h5"):
        raise LoadError(f"Unhandled file type: '{extension}' only SWC, ASC and H5 are supported")
    if extension != "swc":
        raise LoadError(f"The emulator reads SWC only, not '{extension}'")
    try:
        return parse_swc(Path(path).read_bytes(), path)
    except OSError:
        raise LoadError(f"File: {path} does not exist.") from None
    except MorphologyError as error:
        raise LoadError(str(error)) from None


def _radii(samples: dict[int, Sample], properties: dict[str, Any]) -> dict[int, float]:
    factor = float(properties.get("radius_multiplier", 1.0))
    if properties.get("geometry_type") == "constant_radii":
        return dict.fromkeys(samples, factor)  # recorded: 1 for a multiplier of 1
    radii = {number: max(sample.radius, 0.0) * factor for number, sample in samples.items()}
    return _by_section(samples, radii) if properties.get("geometry_type") == "section_smooth" else radii


def _by_section(samples: dict[int, Sample], radii: dict[int, float]) -> dict[int, float]:
    """One radius a section: 0.89 of that of the section it grows from; those at the soma keep theirs (recorded, and as
    SectionSmoother.cpp of 3.10.1 says)."""
    children: dict[int, list[int]] = {}
    for number, sample in samples.items():
        children.setdefault(sample.parent, []).append(number)
    result = dict(radii)
    outside = [number for number, sample in samples.items() if sample.kind != SOMA]
    left = [(number, radii[number], False) for number in outside if _begins_at_soma(samples, samples[number])]
    while left:
        number, first, grown = left.pop()  # `first`: the radius that its section begins with
        if grown:
            result[number] = first
        below = children.get(number, [])
        forks = len(below) > 1
        left += [(child, first * _THINNER if forks else first, grown or forks) for child in below]
    return result


def _begins_at_soma(samples: dict[int, Sample], sample: Sample) -> bool:
    return sample.parent not in samples or samples[sample.parent].kind == SOMA


class _Skin:
    """Triangles as they are added."""

    def __init__(self) -> None:
        self._parts: list[tuple[Any, Any, Any, Any, Any]] = []
        self._count = 0

    def ball(self, sample: Sample, radius: float) -> None:
        unit, faces = icosphere(3 if sample.kind == SOMA else 1)
        center = np.broadcast_to(np.array(sample.point), unit.shape)
        self._add(center + unit * radius, unit, faces, center, sample.kind)

    def tube(self, start: Sample, end: Sample, start_radius: float, end_radius: float) -> None:
        from_soma = start.kind == SOMA and end.kind != SOMA
        first = min(start_radius, end_radius) if from_soma else start_radius
        tube = _tube(np.array(start.point), np.array(end.point), first, end_radius)
        if tube is not None:
            axis = np.repeat([start.point, end.point], _TUBE_SIDES, axis=0)
            self._add(*tube, axis, end.kind)

    def _add(self, vertices: Any, normals: Any, faces: Any, axis: Any, kind: int) -> None:
        section = np.full(len(faces), min(kind, max(SECTIONS)))
        self._parts.append((vertices, normals, faces + self._count, section, axis))
        self._count += len(vertices)

    def geometry(self, points: Any, reach: Any) -> Geometry:
        """:param points: the samples, with the radius `reach` of each: what bounds it, whichever way it is turned."""
        vertices, normals, faces, sections, axis = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return Geometry(
            vertices.astype(np.float32),
            faces.astype(np.int32),
            normals.astype(np.float32),
            sections.astype(np.int32),
            (points - reach).min(0),
            (points + reach).max(0),
            np.concatenate([points - reach, points + reach]),
            (axis.astype(np.float32), np.concatenate([points, points])),
        )


@cache
def icosphere(subdivisions: int) -> tuple[Any, Any]:
    """A ball of radius 1 from an icosahedron whose triangles were parted in four so often: vertices, faces."""
    golden = (1 + 5**0.5) / 2
    corners = [(0, one, two) for two in (golden, -golden) for one in (1, -1)]
    vertices = np.array([np.roll(corner, turn) for turn in range(3) for corner in corners], np.float64)
    vertices /= np.linalg.norm(vertices[0])
    edge = min(np.linalg.norm(vertices[0] - other) for other in vertices[1:]) * 1.01
    near = np.linalg.norm(vertices[:, None] - vertices, axis=2) < edge
    faces = [
        (a, b, c) if np.dot(np.cross(vertices[b] - vertices[a], vertices[c] - vertices[a]), vertices[a]) > 0 else (a, c, b)
        for a in range(12) for b in range(a + 1, 12) for c in range(b + 1, 12)
        if near[a, b] and near[b, c] and near[a, c]
    ]  # fmt: skip
    triangles = vertices[np.array(faces)]
    for _ in range(subdivisions):
        a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
        ab, bc, ca = a + b, b + c, c + a
        parts = np.stack([np.stack(part, 1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
        triangles = parts.reshape(-1, 3, 3)
        triangles = triangles / np.linalg.norm(triangles, axis=2, keepdims=True)
    points, numbers = np.unique(triangles.reshape(-1, 3).round(12), axis=0, return_inverse=True)
    return points, numbers.reshape(-1, 3)


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


def capped_cone(start: Any, start_radius: float, end: Any, end_radius: float) -> tuple[Any, Any, Any]:
    """A rounded cone between two points: vertices, normals, faces."""
    unit, faces = icosphere(2)
    parts = [(np.array(at) + unit * radius, unit, faces) for at, radius in ((start, start_radius), (end, end_radius))]
    tube = _tube(np.array(start, np.float64), np.array(end, np.float64), start_radius, end_radius)
    if tube is not None:
        parts.append(tube)
    counts = np.cumsum([0, *(len(part[0]) for part in parts)])
    vertices, normals = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
    return vertices, normals, np.concatenate([part[2] + count for part, count in zip(parts, counts, strict=False)])
