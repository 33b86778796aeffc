"""Where light comes from, and the lights that are seen themselves.

A quad shines to the side of edge1 x edge2 only, and a sphere's intensity is what goes out in each direction (recorded: under a
quad that faces upwards all is black, and a sphere of 200000 at 300 is a white disc that lights what is around it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from airflow_brayns.emulator.scene import FloatArray


def strength(light: dict[str, Any]) -> Any:
    """A light's intensity in linear RGB."""
    return np.asarray(light.get("color", (1, 1, 1)), np.float32) * float(light.get("intensity", 1.0))


def toward(light: dict[str, Any], point: FloatArray) -> tuple[FloatArray, Any, Any]:
    """The directions from some points to a light, how much of it arrives there, and how far away it is (None: endlessly).

    A quad and a sphere shine from their middle: their light grows less with the square of the distance.
    """
    if light["kind"] == "directional":
        direction = -np.asarray(light["direction"], np.float32)
        direction = direction / max(float(np.linalg.norm(direction)), 1e-20)
        return np.tile(direction, (len(point), 1)), 1.0, None
    place = np.asarray(light["position"], np.float32)
    if light["kind"] == "quad":
        edges = np.asarray([light["edge1"], light["edge2"]], np.float32)
        place = place + edges.sum(0) / 2
    way = place - point
    distance = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
    direction = np.asarray(way / distance, np.float32)
    share = 1 / distance[:, 0] ** 2
    if light["kind"] == "quad":
        share = share * np.maximum(-direction @ np.cross(edges[0], edges[1]), 0)
    return direction, share, distance[:, 0]


def lamps_seen(lights: list[dict[str, Any]], origins: FloatArray, directions: FloatArray) -> tuple[FloatArray, Any]:
    """How far away each ray meets a sphere or the bright side of a quad (infinite: not at all), and the light that it sees there."""
    nearest = np.full(len(origins), np.inf, np.float32)
    light = np.zeros((len(origins), 3), np.float32)
    for lamp in lights:
        if lamp["kind"] not in _MEET:
            continue
        distance, radiance = _MEET[lamp["kind"]](lamp, origins, directions)
        closer = distance < nearest
        nearest[closer], light[closer] = distance[closer], radiance
    return nearest, light


def _meet_sphere(lamp: dict[str, Any], origins: FloatArray, directions: FloatArray) -> tuple[Any, Any]:
    middle = np.asarray(lamp["position"], np.float32) - origins
    along = (middle * directions).sum(1)
    inside = lamp["radius"] ** 2 - ((middle * middle).sum(1) - along**2)
    met = (inside > 0) & (along > 0)
    distance = np.where(met, along - np.sqrt(np.maximum(inside, 0)), np.inf)
    return distance, strength(lamp) / (np.pi * max(lamp["radius"], 1e-9) ** 2)


def _meet_quad(lamp: dict[str, Any], origins: FloatArray, directions: FloatArray) -> tuple[Any, Any]:
    edges = np.asarray([lamp["edge1"], lamp["edge2"]], np.float64)
    normal = np.cross(*edges)
    facing = directions @ normal
    way = np.asarray(lamp["position"], np.float32) - origins
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (way @ normal) / facing
        places = (directions * distance[:, None] - way) @ np.linalg.pinv(edges)
    met = (facing < 0) & (distance > 0) & ((places >= 0) & (places <= 1)).all(1)
    return np.where(met, distance, np.inf), strength(lamp)


_MEET = {"sphere": _meet_sphere, "quad": _meet_quad}
