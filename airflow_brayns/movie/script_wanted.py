"""What a frame function returns, as requests to a service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_brayns.brayns.official import official_client
from airflow_brayns.movie.script_service import Refused, other_size
from airflow_brayns.movie.script_traceback import cut

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
    if not isinstance(value, brayns.Camera | brayns.Snapshot):
        raise Refused(f"frame returned {type(value).__name__}; return a brayns.Camera, a brayns.Snapshot or None")
    kind = f"a {type(value).__name__}"
    try:
        found = _camera(value) if isinstance(value, brayns.Camera) else _of_snapshot(value, size, strict=strict)
    except (TypeError, AttributeError) as error:
        raise Refused(f"frame returned {kind} which cannot be read, {error}: {cut(repr(value))}") from None
    try:
        found = Wanted(**json.loads(json.dumps(vars(found), allow_nan=False, default=_plain_number)))
    except (ValueError, TypeError) as error:
        told = f"frame returned {kind} which holds something that is no number, {error}"
        raise Refused(f"{told}: {cut(repr(value))}") from None
    frame: Any = found.simulation
    if isinstance(frame, float) and frame.is_integer():  # of np.floor
        frame = int(frame)
    if frame is not None and (isinstance(frame, bool) or not isinstance(frame, int) or frame < 0):
        raise Refused(f"frame returned a Snapshot whose frame is {frame!r}; it is a whole number from 0 on")
    return replace(found, simulation=frame)


def _of_snapshot(value: Any, size: tuple[int, int], *, strict: bool) -> Wanted:
    asked = None if value.resolution is None else tuple(value.resolution)
    if strict and asked not in (None, size):
        raise Refused(f"frame {other_size(asked or (), size)}")
    _check_is_made(value.renderer)
    renderer = None if value.renderer is None else _named(value.renderer.get_properties_with_name())
    camera = Wanted() if value.camera is None else _camera(value.camera)
    return Wanted(camera.view, camera.projection, camera.near_clip, camera.region, renderer, value.frame)


def _check_is_made(value: Any) -> None:
    """Refuse a class in place of what it makes: the official client's examples have brackets in some places only.

    :raises Refused: it is one.
    """
    if isinstance(value, type):
        raise Refused(f"frame returned the class {value.__name__} itself; write brayns.{value.__name__}()")


def _plain_number(value: Any) -> Any:
    """A number of numpy as Python's.

    :raises TypeError: it is none.
    """
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        number = value.item()
        return number if isinstance(number, int | float | str) else float(number)  # np.longdouble's item is itself
    raise TypeError(f"{type(value).__name__} is no number")


def _camera(camera: Any) -> Wanted:
    _check_is_made(camera.projection)
    view = {name: list(getattr(camera.view, name)) for name in ("position", "target", "up")}
    region = {"image_start": list(camera.image_start), "image_end": list(camera.image_end)}
    return Wanted(view, _named(camera.projection.get_properties_with_name()), camera.near_clipping_distance, region)


def _named(properties: Mapping[str, Any]) -> Named:
    return str(properties["name"]), dict(properties["params"])
