"""What a scene holds: models with their geometry and colours, lights, camera and renderer settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    IntArray = npt.NDArray[np.int32]

FLOAT_MAX = 3.4028235e38
SECTIONS = {1: "soma", 2: "axon", 3: "dendrite", 4: "apical_dendrite"}
DEFAULT_COLOR = (0.8, 0.8, 0.8, 1.0)


@dataclass
class Geometry:
    """Triangles with a normal at each corner and the section each triangle belongs to."""

    vertices: FloatArray
    faces: IntArray
    normals: FloatArray
    sections: IntArray
    low: FloatArray
    high: FloatArray


@dataclass
class Model:
    """One entry of `get-scene`."""

    model_id: int
    model_type: str
    info: dict[str, Any]
    geometry: Geometry | None = None
    section_names: dict[int, str] = field(default_factory=dict)
    section_colors: dict[int, tuple[float, ...]] = field(default_factory=dict)
    color: tuple[float, ...] = DEFAULT_COLOR
    material: str = "phong"
    visible: bool = True
    light: dict[str, Any] | None = None
    frames: tuple[int, int] = (0, 0)
    transform: dict[str, list[float]] = field(
        default_factory=lambda: {"rotation": [0, 0, 0, 1], "scale": [1, 1, 1], "translation": [0, 0, 0]}
    )

    def placed(self) -> FloatArray:
        """The vertices with the model's transformation applied."""
        import numpy as np  # here: most of a service's start would be its import

        assert self.geometry is not None
        points = self.geometry.vertices * np.asarray(self.transform["scale"], np.float32)
        points = points @ _rotation(self.transform["rotation"]).T
        return np.asarray(points + np.asarray(self.transform["translation"], np.float32), np.float32)

    def bounds(self) -> tuple[list[float], list[float]]:
        """Lowest and highest corner; the real service's inverted box for what has no geometry."""
        if self.geometry is None:
            return [FLOAT_MAX] * 3, [-FLOAT_MAX] * 3
        identity = self.transform == {"rotation": [0, 0, 0, 1], "scale": [1, 1, 1], "translation": [0, 0, 0]}
        if identity:
            low, high = self.geometry.low, self.geometry.high
        else:
            points = self.placed()
            low, high = points.min(0), points.max(0)
        return _numbers(low), _numbers(high)

    def describe(self) -> dict[str, Any]:
        """The model as `get-model` tells it."""
        low, high = self.bounds()
        return {
            "bounds": {"max": high, "min": low},
            "info": self.info,
            "is_visible": self.visible,
            "model_id": self.model_id,
            "model_type": self.model_type,
            "transform": {key: _numbers(value) for key, value in self.transform.items()},
        }

    def color_methods(self) -> list[str]:
        if self.model_type == "morphology":
            return ["morphology section", "morphology section geometry", "solid"]
        return ["solid"] if self.geometry is not None else []

    def color_values(self, method: str) -> list[str]:
        if method == "solid":
            return ["color"]
        return sorted(set(self.section_names.values()))

    def face_colors(self) -> FloatArray:
        """One linear RGB colour a triangle."""
        import numpy as np

        assert self.geometry is not None
        table = np.tile(np.asarray(self.color[:3], np.float32), (max(SECTIONS) + 2, 1))
        for section, color in self.section_colors.items():
            table[section] = color[:3]
        return np.asarray(table[self.geometry.sections], np.float32)


def _numbers(values: Any) -> list[float]:
    """Floats as the service prints them: six to eight digits, whole ones without a point."""
    rounded = [float(f"{float(value):.8g}") for value in values]
    return [int(value) if value == int(value) and abs(value) < 1e9 else value for value in rounded]


def _rotation(quaternion: list[float]) -> FloatArray:
    import numpy as np

    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        np.float32,
    )
