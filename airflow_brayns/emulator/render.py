"""Ray tracing of a scene with embree: one call, one picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from airflow_brayns.emulator.scene import Model

if TYPE_CHECKING:
    from airflow_brayns.emulator.scene import FloatArray

_BOUNCES_EPSILON = 1e-4
_FILTER_SIGMA = 0.6
_COLORED, _WHITE = 0.7, 0.08


@dataclass(frozen=True)
class View:
    """Where the camera stands and what it sees.

    :param fovy: in degrees; `height` for the orthographic one.
    :param region: the part of the whole picture: start and end, x to the right and y upwards from 0 to 1.
    """

    position: tuple[float, ...]
    target: tuple[float, ...]
    up: tuple[float, ...]
    kind: str = "perspective"
    fovy: float = 45.0
    height: float = 1.0
    region: tuple[float, ...] = (0, 1, 1, 0)


@dataclass(frozen=True)
class Quality:
    """The renderer's settings; production traces soft ambient light, interactive does not unless asked."""

    samples: int
    shadows: bool
    ao_samples: int
    background: tuple[float, ...]


@dataclass(frozen=True)
class Seen:
    """What rays meet: the number of the model among those shown (-1: none), how far away, its colour and normal."""

    model: npt.NDArray[np.int64]
    distance: FloatArray
    color: FloatArray
    normal: FloatArray


class Tracer:
    """The embree structure of the visible models, built once for as long as they do not change."""

    def __init__(self, models: list[Model], frame: int = 0) -> None:
        from embreex import rtcore_scene
        from embreex.mesh_construction import TriangleMesh

        shown = [model for model in models if model.visible and model.geometry is not None]
        self._scene: Any = None
        if not shown:
            return
        vertices, faces, normals, colors, owners, count = [], [], [], [], [], 0
        for number, model in enumerate(shown):
            assert model.geometry is not None
            points = model.placed()
            vertices.append(points)
            faces.append(model.geometry.faces + count)
            normals.append(model.geometry.normals)
            colors.append(model.face_colors(frame))
            owners.append(np.full(len(model.geometry.faces), number))
            count += len(points)
        self._vertices = np.ascontiguousarray(np.concatenate(vertices), np.float32)
        every = np.concatenate(faces)
        kept = _unclipped(models, self._vertices[every].mean(1))
        if not kept.any():
            return
        self._faces = np.ascontiguousarray(every[kept], np.int32)
        self._normals = np.concatenate(normals)
        self._colors = np.concatenate(colors)[kept]
        self._owners = np.concatenate(owners)[kept]
        self._scale = float(np.linalg.norm(self._vertices.max(0) - self._vertices.min(0))) or 1.0
        self._scene = rtcore_scene.EmbreeScene()
        TriangleMesh(self._scene, self._vertices, self._faces)

    def render(
        self,
        size: tuple[int, int],
        view: View,
        lights: list[dict[str, Any]],
        quality: Quality,
        progress: Callable[[float], None] = lambda amount: None,
    ) -> npt.NDArray[np.uint8]:
        """Trace a picture of `size` (width, height), 8-bit sRGB. `progress` may raise to give it up."""
        return developed(self.light(size, view, lights, quality, progress))

    def light(
        self,
        size: tuple[int, int],
        view: View,
        lights: list[dict[str, Any]],
        quality: Quality,
        progress: Callable[[float], None] = lambda amount: None,
        number: int = 0,
    ) -> FloatArray:
        """One pass, linear: (height, width, 3). `number` counts the passes before it, whose samples lie elsewhere."""
        width, height = size
        total = np.zeros((width * height, 3), np.float32)
        random = np.random.default_rng(7 + number)
        first = number * quality.samples
        for sample in range(quality.samples):
            jitter = _pixel_offset(first + sample, quality.samples)
            total += self._sample(width, height, view, lights, quality, jitter, random)
            progress((sample + 1) / quality.samples)
        return np.asarray(total.reshape(height, width, 3) / quality.samples, np.float32)

    def seen(self, origins: FloatArray, directions: FloatArray) -> Seen:
        """What each ray meets first."""
        count = len(origins)
        nothing = np.zeros((count, 3), np.float32)
        if self._scene is None:
            return Seen(np.full(count, -1), np.full(count, np.inf, np.float32), nothing, nothing)
        hit = self._scene.run(origins, directions, output=True)
        met = hit["primID"] >= 0
        face = np.where(met, hit["primID"], 0)
        normal = self._normals[self._faces[face, 0]]
        return Seen(
            np.where(met, self._owners[face], -1),
            np.where(met, hit["tfar"], np.inf).astype(np.float32),
            np.where(met[:, None], self._colors[face], 0).astype(np.float32),
            np.where(met[:, None], normal, 0).astype(np.float32),
        )

    def _sample(
        self,
        width: int,
        height: int,
        view: View,
        lights: list[dict[str, Any]],
        quality: Quality,
        jitter: Any,
        random: Any,
    ) -> FloatArray:
        origins, directions = camera_rays(width, height, view, jitter)
        picture = np.tile(np.asarray(quality.background[:3], np.float32), (width * height, 1))
        if self._scene is None:
            return picture
        hit = self._scene.run(origins, directions, output=True)
        seen = np.flatnonzero(hit["primID"] >= 0)
        if not len(seen):
            return picture
        face = hit["primID"][seen]
        u, v = hit["u"][seen, None], hit["v"][seen, None]
        corner = self._faces[face]
        normal = (
            self._normals[corner[:, 0]] * (1 - u - v)
            + self._normals[corner[:, 1]] * u
            + self._normals[corner[:, 2]] * v
        )
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
        away = directions[seen]
        normal = np.where((normal * away).sum(1, keepdims=True) > 0, -normal, normal).astype(np.float32)
        point = origins[seen] + away * hit["tfar"][seen, None] + normal * self._scale * _BOUNCES_EPSILON
        color = self._colors[face]
        light_sum = np.zeros_like(color)
        shine = np.zeros_like(color)
        for light in lights:
            strength = np.asarray(light.get("color", (1, 1, 1)), np.float32) * float(light.get("intensity", 1.0))
            if light["kind"] == "ambient":
                light_sum += strength * self._open_sky(point, normal, quality.ao_samples, random)[:, None]
                continue
            toward, share = _toward(light, point)
            facing = np.maximum((normal * toward).sum(1), 0) * share
            if quality.shadows:
                facing = facing * (self._blocked(point, toward) < 0)
            light_sum += strength * facing[:, None] / np.pi
            half = toward - away
            half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-20)
            glint = np.power(np.maximum((normal * half).sum(1), 0), 30) * (facing > 0) * share
            shine += 0.03 * strength * glint[:, None]
        # A part of the light comes back white: fitted to the colours of the recorded pictures.
        picture[seen] = (color * _COLORED + _WHITE) * light_sum + shine
        return picture

    def _open_sky(self, point: FloatArray, normal: FloatArray, samples: int, random: Any) -> FloatArray:
        if not samples:
            return np.ones(len(point), np.float32)
        seen = np.zeros(len(point), np.float32)
        for _ in range(samples):
            spread = random.normal(size=point.shape).astype(np.float32)
            spread /= np.maximum(np.linalg.norm(spread, axis=1, keepdims=True), 1e-20)
            seen += self._blocked(point, (normal + spread * 0.999).astype(np.float32)) < 0
        return np.asarray(seen / samples, np.float32)

    def _blocked(self, point: FloatArray, toward: FloatArray) -> Any:
        return self._scene.run(np.ascontiguousarray(point, np.float32), np.ascontiguousarray(toward), query="OCCLUDED")


def _unclipped(models: list[Model], middles: FloatArray) -> npt.NDArray[np.bool_]:
    """Which triangles are left by the clippers that are on."""
    kept = np.ones(len(middles), bool)
    for model in models:
        if model.content.clipper is not None and model.visible:
            kept &= ~model.content.clipper.takes(middles)
    return kept


def _toward(light: dict[str, Any], point: FloatArray) -> tuple[FloatArray, Any]:
    """The directions from some points to a light, and how much of it arrives there.

    A quad and a sphere shine from their middle: their light grows less with the square of the distance.
    """
    if light["kind"] == "directional":
        toward = -np.asarray(light["direction"], np.float32)
        toward = toward / max(float(np.linalg.norm(toward)), 1e-20)
        return np.tile(toward, (len(point), 1)), 1.0
    place = np.asarray(light["position"], np.float32)
    if light["kind"] == "quad":
        edges = np.asarray([light["edge1"], light["edge2"]], np.float32)
        place = place + edges.sum(0) / 2
    way = place - point
    distance = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
    toward = np.asarray(way / distance, np.float32)
    share = 1 / distance[:, 0] ** 2
    if light["kind"] == "quad":
        share = share * np.abs(toward @ np.cross(edges[0], edges[1]))
    return toward, share


def _pixel_offset(sample: int, samples: int) -> Any:
    """Where in a pixel a sample is taken. OSPRay's Gaussian filter reaches past the pixel's edge, and a picture of one
    sample is taken a pixel to the left (both fitted to the recorded pictures)."""
    if samples == 1:
        return np.array([-1.0, 0.0])
    spread = NormalDist(0.5, _FILTER_SIGMA)
    return np.array([spread.inv_cdf(_halton(sample + 1, base)) for base in (2, 3)])


def _halton(index: int, base: int) -> float:
    """Evenly spread numbers between 0 and 1."""
    result, share = 0.0, 1.0
    while index:
        share /= base
        result += share * (index % base)
        index //= base
    return result


def camera_rays(
    width: int, height: int, view: View, jitter: Any, aspect: float | None = None
) -> tuple[FloatArray, FloatArray]:
    """Origins and directions of the rays through the same place in each pixel, row by row from the top."""
    position = np.asarray(view.position, np.float32)
    front = np.asarray(view.target, np.float32) - position
    front /= max(float(np.linalg.norm(front)), 1e-20)
    right = np.cross(front, np.asarray(view.up, np.float32))
    right /= max(float(np.linalg.norm(right)), 1e-20)
    up = np.cross(right, front)
    left, top, right_end, bottom = view.region
    x = ((left + (np.arange(width) + jitter[0]) / width * (right_end - left)) * 2 - 1) * (aspect or width / height)
    y = (top + (np.arange(height) + jitter[1]) / height * (bottom - top)) * 2 - 1
    across, upward = (grid.reshape(-1, 1).astype(np.float32) for grid in np.meshgrid(x, y))
    if view.kind == "orthographic":
        origins = position + (across * right + upward * up) * (view.height / 2)
        return np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(
            np.broadcast_to(front, origins.shape), np.float32
        )
    reach = np.tan(np.radians(view.fovy) / 2)
    directions = front + (across * right + upward * up) * reach
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.ascontiguousarray(np.broadcast_to(position, directions.shape), np.float32), np.ascontiguousarray(
        directions, np.float32
    )


def ray_through(place: list[float], size: tuple[int, int], view: View) -> tuple[FloatArray, FloatArray]:
    """The one ray through a point of the picture, x to the right and y downwards from 0 to 1."""
    left, top, right, bottom = view.region
    x, y = left + (right - left) * place[0], top + (bottom - top) * place[1]
    aspect = size[0] / size[1]
    return camera_rays(1, 1, replace(view, region=(x, y, x, y)), (0.5, 0.5), aspect)


def developed(light: FloatArray) -> npt.NDArray[np.uint8]:
    """8-bit sRGB of linear light."""
    linear = np.clip(light, 0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.power(linear, 1 / 2.4) - 0.055)
    return np.asarray((encoded * 255 + 0.5).astype(np.uint8))


def encode(picture: npt.NDArray[np.uint8], image_format: str, quality: int = 100) -> bytes:
    """PNG or JPEG bytes of a picture."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if image_format == "png":
        image.save(buffer, "PNG", compress_level=3)
    else:
        image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
