"""The facts of a scene, as a service tells them: how large it is, and how long its simulation."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.camera import Bounds

_LARGEST = 1e15  # the largest coordinate of a scene; beyond it a float has no room for a camera's way
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class SceneFacts:
    """The facts that a service tells of the loaded scene; all services of a movie tell the same.

    :param bounds: the box that the models fill.
    :param first, last: the first and the last frame of the simulation.
    :param dt: the simulated seconds between two of them; 0 where there is no simulation.
    :param models: the box that each model fills, in the specification's order; empty where the camera fits no one model.
    :param loaded: what this service calls each model, which may be several there; other services may call them otherwise.
    """

    bounds: Bounds
    first: int = 0
    last: int = 0
    dt: float = 0.0
    models: tuple[Bounds, ...] = ()
    loaded: tuple[tuple[int, ...], ...] = field(default=(), compare=False)

    @classmethod
    def read(cls, bounds: Mapping[str, Any], simulation: Mapping[str, Any]) -> SceneFacts:
        """Read the facts from the results of `get-scene` and `get-simulation-parameters`.

        :raises InvalidSetting: the scene is empty.
        :raises RenderingFailed: the results describe no scene.
        """
        try:
            low, high = _vector(bounds["min"]), _vector(bounds["max"])
            if any(a > b for a, b in zip(low, high, strict=True)):
                raise InvalidSetting(
                    "models",
                    "the scene is empty: the models that were loaded fill no room.",
                    remedy="look into the files, and at what is hidden or clipped.",
                )
            dt = _number(simulation.get("dt") or 0) * _SECONDS.get(str(simulation.get("unit") or "ms"), 1e-3)
            first, last = (int(_number(simulation.get(key) or 0)) for key in ("start_frame", "end_frame"))
            return cls(_bounds(low, high), first, last, dt)
        except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise _no_scene(bounds, simulation) from error
        except ValueError as error:
            if isinstance(error, InvalidSetting):
                raise
            raise _no_scene(bounds, simulation) from error

    def plain(self) -> dict[str, Any]:
        """The facts as plain values, for the manifest."""
        return {
            "low": self.bounds.low,
            "high": self.bounds.high,
            "first": self.first,
            "last": self.last,
            "dt": self.dt,
            **({"models": [[one.low, one.high] for one in self.models]} if self.models else {}),
        }

    def of_model(self, number: int | None) -> Bounds:
        """The box of one model; of the whole scene for None.

        :raises RenderingFailed: nobody has asked a service for it.
        """
        if number is None:
            return self.bounds
        if number >= len(self.models):
            why = f"nothing tells how large model {number} is"
            raise RenderingFailed(
                why, remedy="leave it out, or give a camera of your own.", retry=False, field="camera.fit"
            )
        return self.models[number]

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> SceneFacts:
        """Read what `plain` gave.

        :raises ValueError: the value is anything else.
        """
        try:
            low, high = _vector(value["low"]), _vector(value["high"])
            first, last = int(_number(value["first"])), int(_number(value["last"]))
            models = tuple(_bounds(_vector(one), _vector(other)) for one, other in value.get("models", ()))
            return cls(_bounds(low, high), first, last, _number(value["dt"]), models)
        except (KeyError, TypeError, ArithmeticError) as error:
            raise ValueError("these are no facts of a scene") from error

    def agrees_with(self, other: SceneFacts) -> bool:
        """Tell whether two services have loaded the same scene."""
        same = self.bounds.agrees_with(other.bounds) and (self.first, self.last) == (other.first, other.last)
        return same and all(one.agrees_with(its) for one, its in zip(self.models, other.models, strict=False))


def _number(value: Any) -> float:
    """Check that a value is a number which can be reckoned with. The bounds of an empty scene are the largest floats
    there are (3.10.1, source read).
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def _vector(value: Any) -> tuple[float, float, float]:
    x, y, z = value if isinstance(value, list | tuple) else ()
    return _number(x), _number(y), _number(z)


def _bounds(low: tuple[float, float, float], high: tuple[float, float, float]) -> Bounds:
    if any(abs(part) > _LARGEST for part in (*low, *high)):
        raise ValueError("a scene of that size cannot be looked at")
    return Bounds(low, high)


def _no_scene(bounds: Any, simulation: Any) -> RenderingFailed:
    return RenderingFailed(
        f"get-scene and get-simulation-parameters answered {reprlib.repr(bounds)} and {reprlib.repr(simulation)}, which is no scene",
        remedy="See that a braynsService answers there, and none of another kind.",
    )
