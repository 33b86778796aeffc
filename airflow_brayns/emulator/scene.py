"""What a scene holds: models with their geometry, colours and material, lights, clippers; each shown by one or more instances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_brayns.emulator.floats import singles
from airflow_brayns.emulator.rpc import internal, invalid_params

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from airflow_brayns.emulator.clipping import Clipper

    FloatArray = npt.NDArray[np.float32]
    IntArray = npt.NDArray[np.int32]

FLOAT_MAX = 3.4028235e38
SECTIONS = {1: "soma", 2: "axon", 3: "dendrite", 4: "apical_dendrite"}
DEFAULT_COLOR = (1.0, 1.0, 1.0, 1.0)

Transform = dict[str, list[float]]


def identity() -> Transform:
    """Where a model stands that nobody has moved; the rotation is a quaternion x, y, z, w."""
    return {"rotation": [0, 0, 0, 1], "scale": [1, 1, 1], "translation": [0, 0, 0]}


@dataclass
class Geometry:
    """Triangles with a normal at each corner and the section each triangle belongs to.

    :param hull: The points that bound it where these are not the vertices: a sphere's are its centre less and plus the
        radius, whichever way it is turned (Capsule.cpp of 3.10.1).
    :param axes: For what has radii: the point on the axis that each vertex, and each point of the hull, lies around.
    :param cells: For a circuit: the number, among those loaded, of the cell that each triangle belongs to.
    """

    vertices: FloatArray
    faces: IntArray
    normals: FloatArray
    sections: IntArray
    low: FloatArray
    high: FloatArray
    hull: FloatArray | None = None
    axes: tuple[FloatArray, FloatArray] | None = None
    cells: IntArray | None = None

    def thickened(self, factor: float) -> Geometry:
        """The same with every radius so much larger; itself where it has no radii."""
        if self.axes is None or self.hull is None:
            return self
        vertices, hull = (
            axis + (points - axis) * factor for axis, points in zip(self.axes, (self.vertices, self.hull), strict=True)
        )
        return replace(self, vertices=vertices, hull=hull, low=hull.min(0), high=hull.max(0))


@dataclass
class Simulation:
    """A report that a model's colours follow. `dt` in `unit`s.

    :param values: One row a frame.
    :param stopped_at: The frame whose colours stay while the simulation is off; None where none was shown before.
    :param columns: For each cell of the circuit where its value stands in a row; -1 where the report does not hold it.
    """

    frames: int
    dt: float
    unit: str = "ms"
    enabled: bool = True
    values: Any = None
    columns: Any = None
    stopped_at: int | None = None

    def colors(self, frame: int, ramp: dict[str, Any]) -> tuple[Any, Any]:
        """Which cells the report holds, and the linear RGBA colour of each of these in a frame."""
        import numpy as np

        held = self.columns >= 0
        low, high = ramp["range"]
        table = np.asarray(ramp["colors"], np.float32)
        values = self.values[min(frame, self.frames - 1), self.columns[held]]
        share = np.clip((values - low) / (high - low), 0, 1)
        below = np.minimum((share * len(table)).astype(int), len(table) - 1)
        above = np.minimum(below + 1, len(table) - 1)
        # Between two colours by the value's share of the whole range, not of their part of it (recorded; ColorRamp.cpp of 3.10.1)
        return held, table[below] * (1 - share[:, None]) + table[above] * share[:, None]


@dataclass
class Content:
    """What all instances of a model share.

    :param corners: The points that bound it, where there is no geometry to tell.
    :param material: Name and parameters; None for what has no surface.
    :param color_groups: For a circuit: by colour method the name that each cell has.
    :param group_colors: The method that was chosen last of these, and the colours by name.
    :param ids: The cells of a circuit; None for what is none.
    :param drawn: False for what a picture would have to show and the emulator cannot.
    """

    model_type: str
    geometry: Geometry | None = None
    corners: list[list[float]] = field(default_factory=list)
    section_names: dict[int, str] = field(default_factory=dict)
    section_colors: dict[int, tuple[float, ...]] = field(default_factory=dict)
    color: tuple[float, ...] = DEFAULT_COLOR
    color_methods: tuple[str, ...] = ()
    color_groups: dict[str, list[str]] = field(default_factory=dict)
    group_colors: tuple[str, dict[str, tuple[float, ...]]] = ("", {})
    material: tuple[str, dict[str, Any]] | None = None
    light: dict[str, Any] | None = None
    volume: bool = False
    drawn: bool = True
    clipper: Clipper | None = None
    color_ramp: dict[str, Any] | None = None
    ids: list[int] | None = None
    simulation: Simulation | None = None

    def color_values(self, method: str) -> list[str]:
        """What `color-model` takes a colour for with this method; raises the service's error for one it has not."""
        if method not in self.color_methods:
            raise internal(f"Color method '{method}' not found")
        if method == "solid":
            return ["color"]
        names = self.section_names.values() if method == "morphology section" else self.color_groups.get(method, [])
        return sorted(set(names))

    def face_colors(self, frame: int = 0) -> FloatArray:
        """One linear RGBA colour a triangle, in a frame of the simulation."""
        import numpy as np  # here: most of a service's start would be its import

        assert self.geometry is not None
        last = max([max(SECTIONS), *self.section_colors])
        table = np.tile(np.asarray(self.color, np.float32), (last + 2, 1))
        for section, color in self.section_colors.items():
            table[section] = color
        faces = np.asarray(table[self.geometry.sections], np.float32)
        if self.geometry.cells is not None:
            self._color_cells(faces, frame)
        return faces

    def _color_cells(self, faces: FloatArray, frame: int) -> None:
        """What colours whole cells: a method of the circuit's own, and above it the report."""
        import numpy as np

        assert self.geometry is not None
        assert self.geometry.cells is not None
        method, colors = self.group_colors
        for number, name in enumerate(self.color_groups.get(method, [])):
            if name in colors:
                faces[self.geometry.cells == number] = colors[name]
        simulation = self.simulation
        if simulation is not None and not simulation.enabled:
            frame = -1 if simulation.stopped_at is None else simulation.stopped_at
        if simulation is not None and self.color_ramp is not None and frame >= 0:
            held, shown = simulation.colors(frame, self.color_ramp)
            table = np.zeros((len(held), 4), np.float32)
            table[held] = shown
            reported = held[self.geometry.cells]
            faces[reported] = table[self.geometry.cells[reported]]


@dataclass
class Model:
    """One entry of `get-scene`: an instance, with a place of its own, of what it may share with others."""

    model_id: int
    content: Content
    info: dict[str, Any] = field(default_factory=dict)
    visible: bool = True
    transform: Transform = field(default_factory=identity)
    bounds: tuple[list[float], list[float]] = field(init=False)

    def __post_init__(self) -> None:
        self.compute_bounds()

    def move(self, transform: Transform) -> None:
        """Stand somewhere else."""
        if transform != self.transform:
            self.transform = transform
            self.compute_bounds()

    @property
    def geometry(self) -> Geometry | None:
        return self.content.geometry

    @property
    def light(self) -> dict[str, Any] | None:
        return self.content.light

    def face_colors(self, frame: int = 0) -> FloatArray:
        return self.content.face_colors(frame)

    def placed(self, points: Any = None) -> FloatArray:
        """Points, by default the geometry's vertices, with the model's transformation applied."""
        import numpy as np

        if points is None:
            assert self.geometry is not None
            points = self.geometry.vertices
        points = np.asarray(points, np.float32) * np.asarray(self.transform["scale"], np.float32)
        points = points @ rotation(self.transform["rotation"]).T
        return np.asarray(points + np.asarray(self.transform["translation"], np.float32), np.float32)

    def placed_normals(self) -> FloatArray:
        """The geometry's normals, turned as the model is; their length does not matter."""
        import numpy as np

        assert self.geometry is not None
        if self.transform == identity():
            return self.geometry.normals
        scale = np.asarray(self.transform["scale"], np.float32)
        flat = np.where(scale == 0, 0, 1 / np.where(scale == 0, 1, scale))
        return np.asarray((self.geometry.normals * flat) @ rotation(self.transform["rotation"]).T, np.float32)

    def compute_bounds(self) -> None:
        """Look anew where the model ends. As in the real service, what changes the content asks it of one instance only."""
        self.bounds = self._bounds()

    def _bounds(self) -> tuple[list[float], list[float]]:
        """Lowest and highest corner; the real service's inverted box for what has no extent."""
        geometry, corners = self.geometry, self.content.corners
        if self.transform == identity():
            if geometry is not None and not corners:
                return singles(geometry.low), singles(geometry.high)
            if not corners:
                return [FLOAT_MAX] * 3, [-FLOAT_MAX] * 3
            axes = list(zip(*corners, strict=True))
            return singles(min(axis) for axis in axes), singles(max(axis) for axis in axes)
        hull: Any = corners
        if geometry is not None and not corners:
            hull = geometry.vertices if geometry.hull is None else geometry.hull
        if not len(hull):
            return [FLOAT_MAX] * 3, [-FLOAT_MAX] * 3
        points = self.placed(hull)
        return singles(points.min(0)), singles(points.max(0))

    def describe(self) -> dict[str, Any]:
        """The model as `get-model` tells it."""
        low, high = self.bounds
        return {
            "bounds": {"max": high, "min": low},
            "info": self.info,
            "is_visible": self.visible,
            "model_id": self.model_id,
            "model_type": self.content.model_type,
            "transform": self.transform,
        }


def rotation(quaternion: list[float]) -> FloatArray:
    """The matrix of a quaternion that need not have length 1 (then it scales, too, as the real service's does)."""
    import numpy as np

    x, y, z, w = quaternion
    return np.array(
        [
            [w * w + x * x - y * y - z * z, 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), w * w - x * x + y * y - z * z, 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), w * w - x * x - y * y + z * z],
        ],
        np.float32,
    )


class Scene:
    """The models in the order they came, under ids that are given out again: the one given back last comes first.

    :param changed: Called after every change that a picture could show.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._models: dict[int, Model] = {}
        self._free: list[int] = []
        self._next = 0
        self._changed = changed

    @property
    def models(self) -> list[Model]:
        return list(self._models.values())

    def touch(self) -> None:
        """Something of a model was changed in place."""
        self._changed()

    def add(self, content: Content, info: dict[str, Any] | None = None, transform: Transform | None = None) -> Model:
        """A new instance of some content."""
        if not self._free:
            self._free.append(self._next)
            self._next += 1
        model = Model(self._free.pop(), content, info or {}, transform=transform or identity())
        self._models[model.model_id] = model
        self._changed()
        return model

    def get(self, model_id: int) -> Model:
        """A model that a request asks about by its id."""
        if model_id not in self._models:
            raise invalid_params(f"No model found with ID {model_id}")
        return self._models[model_id]

    def instance(self, model_id: int) -> Model:
        """The same in the words of the engine, which some requests reach without having looked."""
        if model_id not in self._models:
            raise internal(f"No instance with id {model_id} was found")
        return self._models[model_id]

    def remove(self, ids: list[int]) -> None:
        """Nothing is removed where one of them is not there."""
        for model_id in ids:
            self.instance(model_id)
        for model_id in ids:
            self.instance(model_id)  # one that is named twice has gone by now
            del self._models[model_id]
            self._free.append(model_id)
        if ids:
            self._changed()

    def remove_where(self, chosen: Callable[[Content], bool]) -> None:
        """Remove every instance of a kind."""
        self.remove([model.model_id for model in self.models if chosen(model.content)])

    def clear(self) -> None:
        """Remove all; ids begin at 0 again."""
        self._models, self._free, self._next = {}, [], 0
        self._changed()

    def describe(self) -> dict[str, Any]:
        """The scene as `get-scene` tells it."""
        boxes = [model.bounds for model in self.models]
        low = [min((box[0][axis] for box in boxes), default=FLOAT_MAX) for axis in range(3)]
        high = [max((box[1][axis] for box in boxes), default=-FLOAT_MAX) for axis in range(3)]
        return {"bounds": {"max": high, "min": low}, "models": [model.describe() for model in self.models]}
