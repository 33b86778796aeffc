"""Ray tracing of a scene with embree: one call, one picture."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from airflow_brayns.emulator.lights import lamps_seen, strength, toward
from airflow_brayns.emulator.rays import View, camera_rays, pixel_offset
from airflow_brayns.emulator.scene import Model
from airflow_brayns.emulator.surfaces import surface

if TYPE_CHECKING:
    from airflow_brayns.emulator.scene import FloatArray

_EPSILON = 1e-4  # of the scene's size: how far from a surface a ray goes on
_LAYERS = 24  # so many surfaces behind each other are seen, as long as more than _LEAST of the light comes through
_LEAST = 0.005
_BAND = 1 << 19  # so many pixels are traced at once
_BRIGHTEST, _STEPS = 6.3704, 1 << 16  # what is brighter is white


@dataclass(frozen=True)
class Quality:
    """The renderer's settings; production traces soft ambient light, and shows materials and lamps."""

    samples: int
    shadows: bool
    ao_samples: int
    background: tuple[float, ...]
    production: bool = False


@dataclass(frozen=True)
class Seen:
    """What rays meet: the number of the model among those shown (-1: none), how far away, its colour and normal."""

    model: npt.NDArray[np.int64]
    distance: FloatArray
    color: FloatArray
    normal: FloatArray


@dataclass
class _Met:
    """For each ray the triangle that it meets (-1: none), how far away, and where in the triangle."""

    face: Any
    distance: Any
    u: Any
    v: Any


@dataclass(frozen=True)
class _Looks:
    """The surfaces of all triangles: opacity of each, and by model how light comes back and what light is its own."""

    opacity: FloatArray
    diffuse: FloatArray
    white: FloatArray
    glow: FloatArray
    opaque: bool


class Tracer:
    """The embree structure of the visible models, built once for as long as they do not change."""

    def __init__(self, models: list[Model], frame: int = 0) -> None:
        from embreex import rtcore_scene
        from embreex.mesh_construction import TriangleMesh

        self._shown = [model for model in models if model.visible and model.geometry is not None]
        self._clippers = [model.content.clipper for model in models if model.content.clipper and model.visible]
        self._looks: dict[bool, _Looks] = {}
        self._scene: Any = None
        if not self._shown:
            return
        vertices, faces, normals, colors, owners, count = [], [], [], [], [], 0
        for number, model in enumerate(self._shown):
            assert model.geometry is not None
            points = model.placed()
            vertices.append(points)
            faces.append(model.geometry.faces + count)
            normals.append(model.placed_normals())
            colors.append(model.face_colors(frame))
            owners.append(np.full(len(model.geometry.faces), number))
            count += len(points)
        self._vertices = np.ascontiguousarray(np.concatenate(vertices), np.float32)
        self._faces = np.ascontiguousarray(np.concatenate(faces), np.int32)
        self._normals = np.concatenate(normals)
        self._colors = np.concatenate(colors)
        self._owners = np.concatenate(owners)
        self._epsilon = _EPSILON * _extent(self._shown)
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
        """One pass, linear: (height, width, 4), the fourth how much hides what is behind the picture.

        `number` counts the passes before it, whose samples lie elsewhere.
        """
        width, height = size
        total = np.zeros((height, width, 4), np.float32)
        random = np.random.default_rng(7 + number)
        first = number * quality.samples
        for sample in range(quality.samples):
            jitter = pixel_offset(first + sample, quality.samples)
            for rows, part in _bands(width, height, view):
                light = self._sample(width, len(rows), part, lights, quality, jitter, random, width / height)
                total[rows.start : rows.stop] += light.reshape(len(rows), width, 4)
            progress((sample + 1) / quality.samples)
        total /= quality.samples
        return total

    def seen(self, origins: FloatArray, directions: FloatArray) -> Seen:
        """What each ray meets first."""
        count = len(origins)
        nothing = np.zeros((count, 3), np.float32)
        if self._scene is None:
            return Seen(np.full(count, -1), np.full(count, np.inf, np.float32), nothing, nothing)
        hit = self._meet(origins, directions)
        met = hit.face >= 0
        face = np.where(met, hit.face, 0)
        normal = self._normals[self._faces[face, 0]]
        return Seen(
            np.where(met, self._owners[face], -1),
            np.where(met, hit.distance, np.inf).astype(np.float32),
            np.where(met[:, None], self._colors[face, :3], 0).astype(np.float32),
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
        aspect: float,
    ) -> FloatArray:
        start, way = camera_rays(width, height, view, jitter, aspect, random)
        background = np.asarray(quality.background, np.float32)
        picture = np.tile(background, (width * height, 1))  # each surface takes its share of it away
        through = np.ones(width * height, np.float32)
        left, passed = np.arange(width * height), np.zeros(width * height, np.float32)
        lamps, lamplight = lamps_seen(lights if quality.production else [], start, way)
        for _ in range(_LAYERS if self._scene is not None else 0):
            if not len(left):
                break
            hit = self._meet(start, way)
            met = np.flatnonzero((hit.face >= 0) & (passed + hit.distance < lamps[left]))
            hit = _Met(hit.face[met], hit.distance[met], hit.u[met], hit.v[met])
            left, start, way = left[met], start[met], way[met]
            share = through[left] * self._look(quality).opacity[hit.face]
            light = self._shaded(start, way, hit, lights, quality, random)
            picture[left] += share[:, None] * (_opaque(light) - background)
            through[left] -= share
            on = np.flatnonzero(through[left] > _LEAST)
            step = hit.distance[on] + self._epsilon
            left, way, passed = left[on], way[on], passed[met][on] + step
            start = start[on] + way * step[:, None]
        bright = np.flatnonzero(np.isfinite(lamps))
        picture[bright] += through[bright, None] * (_opaque(lamplight[bright]) - background)
        return picture

    def _meet(self, origins: FloatArray, directions: FloatArray, reach: Any = None) -> _Met:
        """The first triangle on each ray's way that no clipper has taken away, no farther than `reach`."""
        hit = self._scene.run(origins, directions, dists=reach, output=True)
        met = _Met(hit["primID"], hit["tfar"], hit["u"], hit["v"])
        gone = self._clipped(met, origins, directions, np.arange(len(origins)))
        while len(gone):
            passed = met.distance[gone] + self._epsilon
            start = np.ascontiguousarray(origins[gone] + directions[gone] * passed[:, None], np.float32)
            limit = None if reach is None else np.maximum(reach[gone] - passed, 0)
            hit = self._scene.run(start, np.ascontiguousarray(directions[gone]), dists=limit, output=True)
            met.face[gone], met.u[gone], met.v[gone] = hit["primID"], hit["u"], hit["v"]
            met.distance[gone] = passed + hit["tfar"]
            gone = self._clipped(met, origins, directions, gone)
        return met

    def _clipped(self, met: _Met, origins: FloatArray, directions: FloatArray, among: Any) -> Any:
        """Which of some rays meet what the clippers take away."""
        if not self._clippers:
            return among[:0]
        among = among[met.face[among] >= 0]
        points = origins[among] + directions[among] * met.distance[among, None]
        taken = np.zeros(len(among), bool)
        for clipper in self._clippers:
            taken |= clipper.takes(points)
        return among[taken]

    def _shaded(
        self,
        origins: FloatArray,
        directions: FloatArray,
        hit: _Met,
        lights: list[dict[str, Any]],
        quality: Quality,
        random: Any,
    ) -> FloatArray:
        """The light that comes from where rays meet triangles."""
        u, v = hit.u[:, None], hit.v[:, None]
        corner = self._faces[hit.face]
        normal = (
            self._normals[corner[:, 0]] * (1 - u - v)
            + self._normals[corner[:, 1]] * u
            + self._normals[corner[:, 2]] * v
        )
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
        normal = np.where((normal * directions).sum(1, keepdims=True) > 0, -normal, normal).astype(np.float32)
        point = origins + directions * hit.distance[:, None] + normal * self._epsilon
        looks, owner = self._look(quality), self._owners[hit.face]
        arriving = np.zeros_like(normal)
        for light in lights:
            if light["kind"] == "ambient":
                open_sky = self._open_sky(point, normal, quality, random)
                arriving += strength(light) * open_sky[:, None]
                continue
            way, share, reach = toward(light, point)
            facing = np.maximum((normal * way).sum(1), 0) * share
            if quality.shadows:
                facing = facing * self._passing(point, way, quality, reach)
            arriving += strength(light) * facing[:, None] / np.pi
        color = self._colors[hit.face, :3] * looks.diffuse[owner, None] + looks.white[owner, None]
        return np.asarray(color * arriving + looks.glow[owner], np.float32)

    def _open_sky(self, point: FloatArray, normal: FloatArray, quality: Quality, random: Any) -> FloatArray:
        if not quality.ao_samples:
            return np.ones(len(point), np.float32)
        seen = np.zeros(len(point), np.float32)
        for _ in range(quality.ao_samples):
            spread = random.normal(size=point.shape).astype(np.float32)
            spread /= np.maximum(np.linalg.norm(spread, axis=1, keepdims=True), 1e-20)
            seen += self._passing(point, (normal + spread * 0.999).astype(np.float32), quality, None)
        return np.asarray(seen / quality.ao_samples, np.float32)

    def _passing(self, point: FloatArray, way: FloatArray, quality: Quality, reach: Any) -> FloatArray:
        """How much light gets to some points from a direction, past what lies between (as far as `reach`, a distance each)."""
        looks = self._look(quality)
        point, way = np.ascontiguousarray(point, np.float32), np.ascontiguousarray(way, np.float32)
        far = np.full(len(point), 1e37, np.float32) if reach is None else np.asarray(reach, np.float32)
        if looks.opaque and not self._clippers:
            free = self._scene.run(point, way, dists=far, query="OCCLUDED") < 0
            return np.asarray(free, np.float32)
        passing = np.ones(len(point), np.float32)
        left = np.arange(len(point))
        for _ in range(_LAYERS):
            hit = self._meet(point, way, far)
            met = hit.face >= 0
            left, step = left[met], hit.distance[met] + self._epsilon
            passing[left] *= 1 - looks.opacity[hit.face[met]]
            point, way, far = point[met] + way[met] * step[:, None], way[met], np.maximum(far[met] - step, 0)
            if not len(left):
                break
        return passing

    def _look(self, quality: Quality) -> _Looks:
        """The surfaces as a renderer shows them."""
        if quality.production not in self._looks:
            surfaces = [surface(model.content.material, quality.production) for model in self._shown]
            alpha = np.where(np.array([one.clear for one in surfaces])[self._owners], self._colors[:, 3], 1)
            opacity = np.asarray(np.array([one.opacity for one in surfaces])[self._owners] * alpha, np.float32)
            diffuse, white, glow = (
                np.array([getattr(one, name) for one in surfaces], np.float32) for name in ("diffuse", "white", "glow")
            )
            self._looks[quality.production] = _Looks(opacity, diffuse, white, glow, bool((opacity >= 1).all()))
        return self._looks[quality.production]


def _bands(width: int, height: int, view: View) -> Iterator[tuple[range, View]]:
    """A picture's rows by so many that a huge one takes no more memory than its pixels, and the view of each."""
    left, top, right, bottom = view.region
    step = max(_BAND // width, 1)
    for first in range(0, height, step):
        rows = range(first, min(first + step, height))
        start, end = (top + (bottom - top) * row / height for row in (rows.start, rows.stop))
        yield rows, replace(view, region=(left, start, right, end))


def _opaque(light: FloatArray) -> Any:
    """With a fourth part that hides what is behind it."""
    return np.column_stack([light, np.ones(len(light), np.float32)])


def _extent(models: list[Model]) -> float:
    """How large a scene is, without planes that have no bounds."""
    low, high = (np.array([model.bounds[end] for model in models], np.float64) for end in (0, 1))
    bounded = (low <= high).all(1)
    if not bounded.any():
        return 1.0
    size = float(np.linalg.norm(high[bounded].max(0) - low[bounded].min(0)))
    return size if 0 < size < np.inf else 1.0


def developed(light: FloatArray) -> npt.NDArray[np.uint8]:
    """8 bits a channel of linear light: OSPRay's tone mapping as Brayns sets it, then a gamma of 2.2; the fourth part stays linear.

    Recorded: a background of 0.004, 0.016, 0.102 is 17, 35, 90, and a face in a light of 1.65 is 226.
    """
    picture = np.empty(light.shape, np.uint8)
    for row, shown in zip(light, picture, strict=True):
        steps = np.sqrt(np.clip(row[:, :3], 0, _BRIGHTEST)) * ((_STEPS - 1) / _BRIGHTEST**0.5)
        shown[:, :3] = _shown()[steps.astype(np.uint16)]
        shown[:, 3:] = np.clip(row[:, 3:], 0, 1) * 255 + 0.5
    return picture


@cache
def _shown() -> npt.NDArray[np.uint8]:
    """The eight bits of so much light, in even steps of its square root: a table is ten times as fast as the powers."""
    light = np.linspace(0, _BRIGHTEST**0.5, _STEPS) ** 2
    return np.asarray((np.minimum(np.power(_tone(light), 1 / 2.2), 1) * 255 + 0.5).astype(np.uint8))


def _tone(light: FloatArray) -> Any:
    """The film curve of OSPRay's `tonemapper` (ToneMapper.cpp of 2.10); 0.18 stays 0.18."""
    contrast, shoulder, middle, highest = 1.1759, 0.9746, 0.18, _BRIGHTEST
    top, shouldered = highest**contrast, highest ** (contrast * shoulder)
    low, low_shouldered = middle**contrast, middle ** (contrast * shoulder)
    slope = (top * middle - low) / ((shouldered - low_shouldered) * middle)
    base = (shouldered * low - top * low_shouldered * middle) / ((shouldered - low_shouldered) * middle)
    return np.power(light, contrast) / (np.power(light, contrast * shoulder) * slope + base)


def encode(picture: npt.NDArray[np.uint8], image_format: str, quality: int = 100) -> bytes:
    """PNG or JPEG bytes of a picture; a JPEG is never transparent."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if image_format == "png":
        image.save(buffer, "PNG", compress_level=3)
    else:
        image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
