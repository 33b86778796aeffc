"""How the scene is looked at: camera, region, near clip, renderer, framebuffer, size, and the simulation's frame."""

from __future__ import annotations

from typing import Any

from airflow_brayns.emulator.engine import (
    CAMERAS,
    RENDERERS,
    Engine,
    Part,
    check_near_clip,
    check_projection,
    check_view,
)
from airflow_brayns.emulator.rpc import Call, Method, invalid_request


class Optics:
    """The methods that set and tell these.

    :param version: Generation 2 does not tell its plugins.
    """

    def __init__(self, engine: Engine, version: tuple[int, int, int]) -> None:
        self._engine, self._version = engine, version

    def methods(self) -> dict[str, Method]:
        """Each method by its name."""
        result: dict[str, Method] = {
            "get-camera-type": lambda call: self._engine.camera.name,
            "get-camera-view": lambda call: self._engine.view,
            "set-camera-view": self._set_view,
            "get-camera-near-clip": lambda call: {"distance": self._engine.near_clip},
            "set-camera-near-clip": self._set_near_clip,
            "get-camera-region": lambda call: self._engine.region,
            "set-camera-region": lambda call: self._engine.change("region", call.params),
            "get-renderer-type": lambda call: self._engine.renderer.name,
            "set-framebuffer-static": lambda call: self._engine.frame.begin_anew(),
            "set-framebuffer-progressive": lambda call: self._engine.frame.begin_anew(),
            "get-application-parameters": self._get_application,
            "set-application-parameters": self._set_application,
            "get-simulation-parameters": self._get_simulation,
            "set-simulation-parameters": self._set_simulation,
        }
        for name in CAMERAS:
            result[f"get-camera-{name}"] = self._getter("camera", name)
            result[f"set-camera-{name}"] = self._setter("camera", name, CAMERAS[name])
        for name in RENDERERS:
            result[f"get-renderer-{name}"] = self._getter("renderer", name)
            result[f"set-renderer-{name}"] = self._setter("renderer", name, RENDERERS[name])
        return result

    def _getter(self, part: str, name: str) -> Method:
        def get(call: Call) -> Any:
            current: Part = getattr(self._engine, part)
            if current.name != name:
                raise invalid_request(f"Invalid {part} type (should be '{current.name}')")
            return current.params

        return get

    def _setter(self, part: str, name: str, defaults: dict[str, Any]) -> Method:
        def change(call: Call) -> None:
            current: Part = getattr(self._engine, part)
            before = current.params if current.name == name else defaults
            chosen = Part(name, {**before, **call.params})
            if part == "camera":
                check_projection(chosen)
            setattr(self._engine, part, chosen)
            self._engine.frame.begin_anew()  # even with the values it had

        return change

    def _set_view(self, call: Call) -> None:
        check_view(call.params)
        self._engine.change("view", call.params)

    def _set_near_clip(self, call: Call) -> None:
        check_near_clip(call.params["distance"])
        self._engine.change("near_clip", call.params["distance"])

    def _get_application(self, call: Call) -> dict[str, Any]:
        loaded = {"plugins": list(self._engine.plugins)} if self._version >= (3, 0, 0) else {}
        return {**loaded, "viewport": self._engine.viewport}

    def _set_application(self, call: Call) -> None:
        self._engine.viewport = call.params.get(
            "viewport", self._engine.viewport
        )  # looked at when the next pass begins

    def _get_simulation(self, call: Call) -> dict[str, Any]:
        first = next(iter(self._engine.simulations()), None)
        emulated = 0.1 if self._engine.faults.simulation_frames else 0
        return {
            "current": self._engine.current_frame,
            "dt": first.dt if first else emulated,
            "end_frame": self._engine.last_frame(),
            "start_frame": 0,
            "unit": first.unit if first else "ms",
        }

    def _set_simulation(self, call: Call) -> None:
        number = call.params.get("current", self._engine.current_frame)
        self._engine.check_frame(number)
        self._engine.change("current_frame", number)
