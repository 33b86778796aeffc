"""What braynsService renders with: the scene, one camera, one renderer, and the frame that passes are gathered in.

Which change begins a frame anew was recorded: any that makes a difference, and a camera's projection or a renderer even
with the values it had (shared facts, 'When one pass begins anew').
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_brayns.emulator.faults import Faults
from airflow_brayns.emulator.floats import single
from airflow_brayns.emulator.pictures import Studio
from airflow_brayns.emulator.rpc import internal, invalid_params
from airflow_brayns.emulator.scene import Model, Scene, Simulation
from airflow_brayns.emulator.schemas import params_of
from airflow_brayns.emulator.validation import problems, read

CAMERAS: dict[str, dict[str, Any]] = {
    "perspective": {"fovy": 45, "aperture_radius": 0, "focus_distance": 1},
    "orthographic": {"height": 0},
    "cylindric": {"fovy": 48.549},
}
RENDERERS: dict[str, dict[str, Any]] = {
    "interactive": {
        "samples_per_pixel": 1,
        "max_ray_bounces": 3,
        "ao_samples": 0,
        "enable_shadows": True,
        "background_color": [0.004, 0.016, 0.102, 0],
    },
    "production": {"samples_per_pixel": 128, "max_ray_bounces": 7, "background_color": [0.004, 0.016, 0.102, 0]},
}
_POSITIVE = {
    "perspective": ("fovy", "Perspective fovy must be greater than 0"),
    "orthographic": ("height", "Orthographic height must be greater than 0"),
    "cylindric": ("fovy", "Fovy must be greater than 0"),
}
_SMALLEST_FRAME = 64


@dataclass(frozen=True)
class Part:
    """A camera's projection or a renderer: its name and parameters."""

    name: str
    params: Mapping[str, Any]


def check_projection(part: Part) -> None:
    """What the engine asks of a projection's values."""
    key, message = _POSITIVE[part.name]
    if part.params[key] <= 0:
        raise internal(message)


def check_view(view: Mapping[str, list[float]]) -> None:
    """What the engine asks of a view."""
    if view["position"] == view["target"]:
        raise internal("View position cannot be equal to view target")
    if not any(view["up"]):
        raise internal("View up cannot be zero length")
    ahead = [target - position for target, position in zip(view["target"], view["position"], strict=True)]
    cosine = sum(a * b for a, b in zip(ahead, view["up"], strict=True)) / (math.hypot(*ahead) * math.hypot(*view["up"]))
    if abs(single(cosine)) == 1:
        raise internal("View direction and up cannot be aligned")


def check_near_clip(distance: float) -> None:
    """What the engine asks of a near clipping distance."""
    if distance < 0:
        raise internal("Near clipping distance cannot be < 0")


@dataclass
class Engine:
    """The state of a running service that pictures are made of."""

    faults: Faults
    plugins: list[str]
    viewport: list[int] = field(default_factory=lambda: [800, 600])
    near_clip: float = 1e-6
    camera: Part = field(default_factory=lambda: Part("perspective", CAMERAS["perspective"]))
    renderer: Part = field(default_factory=lambda: Part("interactive", RENDERERS["interactive"]))
    current_frame: int = 0

    def __post_init__(self) -> None:
        self.view: dict[str, Any] = {"position": [0, 0, 0], "target": [0, 0, 1], "up": [0, 1, 0]}
        self.region: dict[str, Any] = {"image_end": [1, 0], "image_start": [0, 1]}
        self.studio = Studio(self.faults)
        self.frame = self.studio.frame
        self.scene = Scene(self.studio.scene_changed)

    def check_frame_size(self, size: list[int]) -> None:
        """The real service throws here where nothing catches it: a frame under 64 x 64 is its end."""
        if min(size) < _SMALLEST_FRAME:
            self.faults.abort("Frame size must be greather than or equal to 64x64")

    def change(self, name: str, value: Any) -> None:
        """Set something of which the same value makes no difference."""
        if getattr(self, name) != value:
            setattr(self, name, value)
            self.frame.begin_anew()

    # ---- parts -----------------------------------------------------------------------------------------------------
    def cameras(self) -> dict[str, dict[str, Any]]:
        """Projections that this service knows, with their defaults."""
        known = dict(CAMERAS)
        if "braynsCylindricCamera" not in self.plugins:
            del known["cylindric"]
        return known

    def camera_from(self, asked: Mapping[str, Any] | None) -> Part:
        """The projection a request brings with it; the service's own where it brings none."""
        part = _part(asked, self.camera, self.cameras(), "set-camera-")
        check_projection(part)
        return part

    def renderer_from(self, asked: Mapping[str, Any] | None) -> Part:
        """The same for the renderer."""
        return _part(asked, self.renderer, RENDERERS, "set-renderer-")

    # ---- simulation ------------------------------------------------------------------------------------------------
    def simulations(self) -> list[Simulation]:
        """The reports of the models there are."""
        return [model.content.simulation for model in self.scene.models if model.content.simulation is not None]

    def last_frame(self) -> int:
        """The last frame of any simulation; 0 without one."""
        return max((simulation.frames - 1 for simulation in self.simulations()), default=self.faults.simulation_frames)

    def check_frame(self, number: int) -> None:
        """Refuse a frame that no simulation has."""
        if not 0 <= number <= self.last_frame():
            raise internal("Simulation frame out of range")

    def models_gone(self) -> None:
        """The current frame stays within what is left."""
        self.current_frame = min(self.current_frame, self.last_frame())

    def lights(self) -> list[Model]:
        """The lights that are on."""
        return [model for model in self.scene.models if model.light is not None and model.visible]


def _part(asked: Mapping[str, Any] | None, current: Part, known: dict[str, dict[str, Any]], method: str) -> Part:
    name = (asked or {}).get("name", "")
    if not name:
        return current
    if name not in known:
        raise internal(f"Unknown type name {name}")
    schema, params = params_of(method + name), (asked or {}).get("params")
    found = problems(schema, params)
    if found:
        raise invalid_params("Invalid engine JSON schema", found)
    return Part(name, {**known[name], **read(schema, params)})
