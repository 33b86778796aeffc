"""Rays of the cameras: perspective (with depth of field), orthographic and cylindric, each from its near clipping distance on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from airflow_brayns.emulator.scene import FloatArray

_FILTER_SIGMA = 0.6


@dataclass(frozen=True)
class View:
    """Where the camera stands and what it sees.

    :param fovy: in degrees; `height` for the orthographic one.
    :param region: the part of the whole picture: start and end, x to the right and y upwards from 0 to 1.
    :param near: how far along its ray the camera begins to see.
    :param aperture: the lens's radius: what is not `focus` in front of the camera is blurred, by one point of the lens for
        each pixel and sample. 0 sees all sharp.
    """

    position: tuple[float, ...]
    target: tuple[float, ...]
    up: tuple[float, ...]
    kind: str = "perspective"
    fovy: float = 45.0
    height: float = 1.0
    region: tuple[float, ...] = (0, 1, 1, 0)
    near: float = 0.0
    aperture: float = 0.0
    focus: float = 1.0


def pixel_offset(sample: int, samples: int) -> Any:
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
    width: int, height: int, view: View, jitter: Any, aspect: float | None = None, random: Any = None
) -> tuple[FloatArray, FloatArray]:
    """Origins and directions of the rays through the same place in each pixel, row by row from the top.

    :param aspect: The picture's width by its height where the pixels are not all of it.
    :param random: Chooses the points of the lens; without one the camera sees all sharp.
    """
    position = np.asarray(view.position, np.float32)
    front = _unit(np.asarray(view.target, np.float32) - position)
    right = _unit(np.cross(front, np.asarray(view.up, np.float32)))
    up = np.cross(right, front)
    left, top, right_end, bottom = view.region
    across = left + (np.arange(width) + jitter[0]) / width * (right_end - left)
    upward = top + (np.arange(height) + jitter[1]) / height * (bottom - top)
    x, y = (grid.reshape(-1, 1).astype(np.float32) for grid in np.meshgrid(across * 2 - 1, upward * 2 - 1))
    origins: Any = position
    if view.kind == "cylindric":  # half a turn from left to right (OsprayCylindricCamera.ispc of 3.10.1)
        turn = (x + 1) * np.float32(np.pi / 2)
        directions = np.sin(turn) * front - np.cos(turn) * right + y * _reach(view) * _unit(np.asarray(view.up))
    elif view.kind == "orthographic":
        origins = position + (x * (aspect or width / height) * right + y * up) * (view.height / 2)
        directions = np.broadcast_to(front, origins.shape)
    else:
        directions = front + (x * (aspect or width / height) * right + y * up) * _reach(view)
        if view.aperture and random is not None:
            lens = _lens(len(directions), view.aperture, random)
            lens = lens[:, :1] * right + lens[:, 1:] * up
            origins, directions = position + lens, directions * view.focus - lens
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    origins = np.broadcast_to(origins, directions.shape) + directions * view.near
    return np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(directions, np.float32)


def _unit(direction: Any) -> Any:
    return np.asarray(direction / max(float(np.linalg.norm(direction)), 1e-20), np.float32)


def _reach(view: View) -> Any:
    return np.float32(np.tan(np.radians(view.fovy) / 2))


def _lens(count: int, radius: float, random: Any) -> Any:
    """Points of a disc, evenly spread."""
    turn, reach = random.random((2, count), np.float32)
    return (np.sqrt(reach) * radius * np.stack([np.cos(turn * 2 * np.pi), np.sin(turn * 2 * np.pi)])).T


def ray_through(place: list[float], size: tuple[int, int], view: View) -> tuple[FloatArray, FloatArray]:
    """The one ray through a point of the picture, x to the right and y downwards from 0 to 1."""
    left, top, right, bottom = view.region
    x, y = left + (right - left) * place[0], top + (bottom - top) * place[1]
    aspect = size[0] / size[1]
    return camera_rays(1, 1, replace(view, region=(x, y, x, y)), (0.5, 0.5), aspect)
