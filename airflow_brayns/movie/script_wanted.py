"""What a frame function returns, as requests to a service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_brayns.brayns.official import official_client
from airflow_brayns.movie.script_service import Refused, other_size

Named = tuple[str, Mapping[str, Any]]  # a name, and parameters


@dataclass(frozen=True)
class Wanted:
    """A frame as its function wants it; what is None is as the service stands.

    :param view: position, target and up of the camera.
    :param projection: the camera's projection with its parameters.
    :param near_clip: the camera's near clipping distance.
    :param region: the part of the picture, as `set-camera-region` takes it.
    :param renderer: the renderer with its parameters.
    :param simulation: the frame of the simulation.
    """

    view: Mapping[str, Any] | None = None
    projection: Named | None = None
    near_clip: float | None = None
    region: Mapping[str, Any] | None = None
    renderer: Named | None = None
    simulation: int | None = None


def wanted_of(value: Any, size: tuple[int, int], *, strict: bool) -> Wanted:
    """Read what a frame function has returned.

    :param size: width and height of the movie.
    :param strict: whether another size is refused; a preview, which is small, passes it over.
    :raises Refused: it is of another kind, of another size, or holds what is no number.
    """
    brayns = official_client()
    if value is None:
        return Wanted()
    if isinstance(value, brayns.Camera):
        found = _camera(value)
    elif isinstance(value, brayns.Snapshot):
        asked = None if value.resolution is None else tuple(value.resolution)
        if strict and asked not in (None, size):
            raise Refused(f"frame {other_size(asked or (), size)}")
        renderer = None if value.renderer is None else _named(value.renderer.get_properties_with_name())
        camera = Wanted() if value.camera is None else _camera(value.camera)
        found = Wanted(camera.view, camera.projection, camera.near_clip, camera.region, renderer, value.frame)
    else:
        raise Refused(f"frame returned {type(value).__name__}; return a brayns.Camera, a brayns.Snapshot or None")
    try:
        json.dumps(vars(found), allow_nan=False)
    except (ValueError, TypeError) as error:
        raise Refused(f"frame returned {value!r}, which holds something that is no number: {error}") from None
    return found


def _camera(camera: Any) -> Wanted:
    view = {name: list(getattr(camera.view, name)) for name in ("position", "target", "up")}
    region = {"image_start": list(camera.image_start), "image_end": list(camera.image_end)}
    return Wanted(view, _named(camera.projection.get_properties_with_name()), camera.near_clipping_distance, region)


def _named(properties: Mapping[str, Any]) -> Named:
    return str(properties["name"]), dict(properties["params"])
