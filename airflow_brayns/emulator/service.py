"""What braynsService does with each JSON-RPC request: the scene, the settings, the pictures."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_brayns.emulator.faults import Faults
from airflow_brayns.emulator.pictures import Cancelled, Studio, Wanted
from airflow_brayns.emulator.scene import (
    FLOAT_MAX,
    SECTIONS,
    Model,
)
from airflow_brayns.emulator.validation import Schema, numbers, problems, record

PARSE_ERROR, INVALID_REQUEST = -32700, -32600
METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR, CANCELLED = -32601, -32602, -32603, 20
PLUGIN_NAMES = {
    "braynsCircuitExplorer": "Circuit Explorer",
    "braynsAtlasExplorer": "Atlas Explorer",
    "braynsCylindricCamera": "Cylindric Camera",
    "braynsDTI": "DTI",
    "braynsMoleculeExplorer": "Molecule Explorer",
    "braynsCircuitInfo": "Circuit Info",
}

Progress = Callable[[str, float], None]


class RpcError(Exception):
    """An error reply."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


@dataclass
class Call:
    """One request as a handler sees it."""

    params: Any
    binary: bytes
    progress: Progress
    cancelled: Callable[[], bool]


@dataclass
class Reply:
    """A result and, for pictures, the bytes that follow it."""

    result: Any
    binary: bytes = b""


@dataclass(frozen=True)
class _Entry:
    handler: Callable[[Call], Any]
    schema: Schema | None
    asynchronous: bool = False
    plugin: str = "Core"


_INTERACTIVE: dict[str, Any] = {
    "samples_per_pixel": 1,
    "max_ray_bounces": 3,
    "ao_samples": 0,
    "enable_shadows": True,
    "background_color": [0.004, 0.016, 0.102, 0],
}
_PRODUCTION: dict[str, Any] = {
    "samples_per_pixel": 128,
    "max_ray_bounces": 7,
    "background_color": [0.004, 0.016, 0.102, 0],
}
_RENDERER_SCHEMA = {
    "samples_per_pixel": {"type": "integer", "minimum": 1},
    "max_ray_bounces": {"type": "integer", "minimum": 1},
    "background_color": numbers(4),
}
_CAMERAS: dict[str, tuple[dict[str, Any], Schema]] = {
    "perspective": (
        {"fovy": 45, "aperture_radius": 0, "focus_distance": 1},
        record(
            {"fovy": {"type": "number"}, "aperture_radius": {"type": "number"}, "focus_distance": {"type": "number"}}
        ),
    ),
    "orthographic": ({"height": 0}, record({"height": {"type": "number"}})),
}
_VIEW_SCHEMA = record({name: numbers(3) for name in ("position", "target", "up")}, ("position", "target", "up"))
_LIGHT_SCHEMA: dict[str, Schema] = {"intensity": {"type": "number", "minimum": 0}, "color": numbers(3)}
_MATERIALS: dict[str, dict[str, Any]] = {
    "carpaint": {"flake_density": 0},
    "emissive": {"intensity": 1, "color": [1, 1, 1]},
    "ghost": {},
    "glass": {"index_of_refraction": 1.5},
    "matte": {"opacity": 1},
    "metal": {"roughness": 1},
    "phong": {"opacity": 1},
    "plastic": {"opacity": 1},
}
_ID = record({"id": {"type": "integer", "minimum": 0}}, ("id",))


@dataclass
class BraynsState:
    """A running service's scene and settings, with one handler for each method."""

    version: tuple[int, int, int]
    plugins: list[str]
    faults: Faults
    sandbox: Path | None = None
    quit: Callable[[], None] = lambda: None
    models: dict[int, Model] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.viewport = [800, 600]
        self.view: dict[str, Any] = {"position": [0, 0, 0], "target": [0, 0, 1], "up": [0, 1, 0]}
        self.camera = "perspective"
        self.cameras = {name: dict(defaults) for name, (defaults, _) in _CAMERAS.items()}
        self.near_clip = 1e-6
        self.region: dict[str, Any] = {"image_start": [0, 1], "image_end": [1, 0]}
        self.renderer = "interactive"
        self.renderers = {"interactive": dict(_INTERACTIVE), "production": dict(_PRODUCTION)}
        self.frame = 0
        self.materials: dict[int, dict[str, dict[str, Any]]] = {}
        self._free_ids: list[int] = []
        self._next_id = 0
        self._studio = Studio(self.faults)
        self.loaders: list[dict[str, Any]] = [
            loader
            for loader in json.loads((Path(__file__).parent / "data" / "loaders.json").read_text())
            if loader["plugin"] in {"Core", *(PLUGIN_NAMES.get(name, name) for name in self.plugins)}
        ]
        self.entries = self._entries()

    # ---- requests ------------------------------------------------------------------------------------------------
    def handle(self, method: str, call: Call) -> Reply:
        """Answer one request; raises `RpcError`."""
        entry = self.entries.get(method)
        if entry is None:
            raise RpcError(METHOD_NOT_FOUND, f"Method '{method}' not found")
        if entry.schema is not None:
            found = problems(entry.schema, {} if call.params is None else call.params)
            if found:
                raise RpcError(INVALID_PARAMS, "Invalid params schema", found)
        call.params = {} if call.params is None else call.params
        result = entry.handler(call)
        return result if isinstance(result, Reply) else Reply(result)

    def _entries(self) -> dict[str, _Entry]:
        entries: dict[str, _Entry] = {
            "get-version": _Entry(self._get_version, None),
            "registry": _Entry(lambda call: list(self.entries), None),
            "schema": _Entry(self._schema, record({"endpoint": {"type": "string"}}, ("endpoint",))),
            "quit": _Entry(self._quit, None),
            "get-loaders": _Entry(lambda call: self.loaders, None),
            "get-scene": _Entry(self._get_scene, None),
            "get-model": _Entry(lambda call: self._model(call.params["id"]).describe(), _ID),
            "update-model": _Entry(self._update_model, record({"model_id": {"type": "integer"}, "model": {"type": "object"}}, ("model_id", "model"))),
            "remove-model": _Entry(self._remove_model, record({"ids": {"type": "array", "items": {"type": "integer"}}}, ("ids",))),
            "clear-models": _Entry(lambda call: self._clear(lambda model: True), None),
            "clear-renderables": _Entry(lambda call: self._clear(lambda model: model.geometry is not None), None),
            "clear-lights": _Entry(lambda call: self._clear(lambda model: model.light is not None), None),
            "add-model": _Entry(self._add_model, record({"path": {"type": "string"}, "loader_name": {"type": "string"}, "loader_properties": {"type": "object"}}, ("path",)), True),
            "upload-model": _Entry(self._upload_model, record({"type": {"type": "string"}, "loader_name": {"type": "string"}, "loader_properties": {"type": "object"}}, ("type",)), True),
            "get-color-methods": _Entry(lambda call: self._model(call.params["id"]).color_methods(), _ID),
            "get-color-values": _Entry(self._color_values, record({"id": {"type": "integer"}, "method": {"type": "string"}}, ("id", "method"))),
            "color-model": _Entry(self._color_model, record({"id": {"type": "integer"}, "method": {"type": "string"}, "values": {"type": "object"}}, ("id", "method"))),
            "get-material-type": _Entry(lambda call: self._model(call.params["id"]).material, _ID),
            "get-camera-type": _Entry(lambda call: self.camera, None),
            "get-camera-view": _Entry(lambda call: self.view, None),
            "set-camera-view": _Entry(self._set_view, _VIEW_SCHEMA),
            "get-camera-near-clip": _Entry(lambda call: {"distance": self.near_clip}, None),
            "set-camera-near-clip": _Entry(self._set_near_clip, record({"distance": {"type": "number", "minimum": 0}}, ("distance",))),
            "get-camera-region": _Entry(lambda call: self.region, None),
            "set-camera-region": _Entry(self._set_region, record({"image_start": numbers(2), "image_end": numbers(2)})),
            "get-renderer-type": _Entry(lambda call: self.renderer, None),
            "get-application-parameters": _Entry(self._get_application, None),
            "set-application-parameters": _Entry(self._set_viewport, record({"viewport": {**numbers(2), "items": {"type": "integer", "minimum": 0}}})),
            "get-simulation-parameters": _Entry(self._get_simulation, None),
            "set-simulation-parameters": _Entry(self._set_simulation, record({"current": {"type": "integer"}})),
            "snapshot": _Entry(self._snapshot, _SNAPSHOT_SCHEMA, True),
            "render-image": _Entry(self._render_image, _RENDER_IMAGE_SCHEMA),
            "cancel": _Entry(_cancel_unknown, _ID),
        }  # fmt: skip
        for kind in ("ambient", "directional"):
            properties = {**_LIGHT_SCHEMA, **({"direction": numbers(3)} if kind == "directional" else {})}
            entries[f"add-light-{kind}"] = _Entry(self._light_adder(kind), record(properties))
        for name, (_, schema) in _CAMERAS.items():
            entries[f"get-camera-{name}"] = _Entry(self._getter(self.cameras[name]), None)
            entries[f"set-camera-{name}"] = _Entry(self._camera_setter(name), schema)
        interactive = {
            **_RENDERER_SCHEMA,
            "enable_shadows": {"type": "boolean"},
            "ao_samples": {"type": "integer", "minimum": 0},
        }
        for name, properties in (("interactive", interactive), ("production", _RENDERER_SCHEMA)):
            entries[f"get-renderer-{name}"] = _Entry(self._getter(self.renderers[name]), None)
            entries[f"set-renderer-{name}"] = _Entry(self._renderer_setter(name), record(properties))
        for name in _MATERIALS:
            entries[f"get-material-{name}"] = _Entry(self._material_getter(name), _ID)
            entries[f"set-material-{name}"] = _Entry(
                self._material_setter(name), record({"model_id": {"type": "integer"}, "material": {"type": "object"}}, ("model_id", "material"))
            )  # fmt: skip
        return entries

    # ---- system --------------------------------------------------------------------------------------------------
    def _get_version(self, call: Call) -> dict[str, Any]:
        major, minor, patch = self.version
        return {"major": major, "minor": minor, "patch": patch, "revision": "emulated"}

    def _schema(self, call: Call) -> dict[str, Any]:
        method = call.params["endpoint"]
        entry = self.entries.get(method)
        if entry is None:
            raise RpcError(INVALID_PARAMS, f"Invalid endpoint: '{method}'")
        schema: dict[str, Any] = {
            "async": entry.asynchronous,
            "deprecated": False,
            "description": f"See the Brayns documentation of '{method}'",
            "plugin": entry.plugin,
            "returns": _RETURNS.get(method, {}),
            "title": method,
        }
        if entry.schema is not None:
            schema["params"] = entry.schema
        return schema

    def _quit(self, call: Call) -> None:
        self.quit()

    def _get_application(self, call: Call) -> dict[str, Any]:
        loaded = {"plugins": list(self.plugins)} if self.version >= (3, 0, 0) else {}
        return {**loaded, "viewport": self.viewport}

    def _set_viewport(self, call: Call) -> None:
        self.viewport = call.params.get("viewport", self.viewport)

    # ---- models --------------------------------------------------------------------------------------------------
    def _model(self, model_id: int) -> Model:
        if model_id not in self.models:
            raise RpcError(INVALID_PARAMS, f"No model found with ID {model_id}")
        return self.models[model_id]

    def _add(self, **values: Any) -> Model:
        model_id = self._free_ids.pop() if self._free_ids else self._next_id
        if model_id == self._next_id:
            self._next_id += 1
        self.models[model_id] = Model(model_id, **values)
        self._touch()
        return self.models[model_id]

    def _touch(self) -> None:
        self._studio.scene_changed()

    def _get_scene(self, call: Call) -> dict[str, Any]:
        boxes = [model.bounds() for model in self.models.values() if model.geometry is not None]
        low = [min(box[0][axis] for box in boxes) for axis in range(3)] if boxes else [FLOAT_MAX] * 3
        high = [max(box[1][axis] for box in boxes) for axis in range(3)] if boxes else [-FLOAT_MAX] * 3
        return {"bounds": {"max": high, "min": low}, "models": [model.describe() for model in self.models.values()]}

    def _update_model(self, call: Call) -> dict[str, Any]:
        model = self._model(call.params["model_id"])
        changes = call.params["model"]
        before = (model.visible, model.transform)
        model.visible = changes.get("is_visible", model.visible)
        model.transform = changes.get("transform", model.transform)
        if (model.visible, model.transform) != before:
            self._touch()
        return model.describe()

    def _remove_model(self, call: Call) -> None:
        for model_id in call.params["ids"]:
            if model_id not in self.models:
                raise RpcError(INTERNAL_ERROR, f"No instance with id {model_id} was found")
            del self.models[model_id]
            self._free_ids.append(model_id)
        self._touch()

    def _clear(self, chosen: Callable[[Model], bool]) -> None:
        gone = [model_id for model_id, model in self.models.items() if chosen(model)]
        for model_id in gone:
            del self.models[model_id]
        self._free_ids += gone
        self._touch()

    def _loader(self, call: Call, extension: str) -> dict[str, Any]:
        name = call.params.get("loader_name", "")
        for loader in self.loaders:
            if (name and loader["name"] == name) or (not name and extension in loader["extensions"]):
                found = problems(loader["input_parameters_schema"], call.params.get("loader_properties", {}))
                if found:
                    raise RpcError(INVALID_PARAMS, "Invalid params schema", found)
                return loader
        raise RpcError(INVALID_PARAMS, f"Invalid loader name: '{name}'")

    def _add_model(self, call: Call) -> list[dict[str, Any]]:
        path = call.params["path"]
        extension = path.rpartition(".")[2].lower()
        loader = self._loader(call, extension)
        if self.sandbox is not None and not Path(path).resolve().is_relative_to(self.sandbox):
            raise RpcError(INTERNAL_ERROR, f"Cannot read {path}: outside of the sandbox path")
        if loader["name"] != "Neuron Morphology loader" and not Path(path).exists():  # that one has its own words
            raise RpcError(INTERNAL_ERROR, f"File {path} does not exists")
        return [self._load(call, loader, path, path, extension, "from_file").describe()]

    def _upload_model(self, call: Call) -> list[dict[str, Any]]:
        extension = call.params["type"].lstrip(".").lower()
        loader = self._loader(call, extension)
        call.progress("Model uploaded", 0.5)
        return [self._load(call, loader, call.binary, "", extension, "from_blob").describe()]

    def _load(
        self, call: Call, loader: dict[str, Any], data: str | bytes, path: str, extension: str, source: str
    ) -> Model:
        properties = call.params.get("loader_properties", {})
        info = {
            "load_info": {"load_parameters": properties, "loader_name": loader["name"], "path": path, "source": source}
        }
        from airflow_brayns.emulator.loaders import LoadError, load_mesh, load_morphology

        time.sleep(self.faults.load_seconds)
        try:
            if loader["name"] == "mesh":
                geometry, metadata = load_mesh(data, extension)
                return self._add(model_type="mesh", info={**info, "metadata": metadata}, geometry=geometry)
            if loader["name"] == "Neuron Morphology loader" and isinstance(data, str):
                call.progress(f"Loading {path}", 0)
                neuron, names = load_morphology(data, properties)
                return self._add(model_type="morphology", info=info, geometry=neuron, section_names=names)
        except LoadError as error:
            raise RpcError(INTERNAL_ERROR, str(error)) from error
        raise RpcError(INTERNAL_ERROR, f"The emulator has no {loader['name']} for '.{extension}' files")

    # ---- colours and materials -----------------------------------------------------------------------------------
    def _color_values(self, call: Call) -> list[str]:
        model = self._model(call.params["id"])
        if call.params["method"] not in model.color_methods():
            raise RpcError(INVALID_PARAMS, f"Invalid color method: '{call.params['method']}'")
        return model.color_values(call.params["method"])

    def _color_model(self, call: Call) -> None:
        values, method = call.params.get("values", {}), call.params["method"]
        if not values:
            raise RpcError(INVALID_PARAMS, "Color values cannot be empty")
        model = self._model(call.params["id"])
        if method not in model.color_methods():
            raise RpcError(INVALID_PARAMS, f"Invalid color method: '{method}'")
        if method == "solid":
            model.color = tuple(values.get("color", model.color))
            model.section_colors = {}
        else:
            number = {name: section for section, name in SECTIONS.items()}
            model.section_colors.update({number[name]: tuple(rgba) for name, rgba in values.items() if name in number})
        self._touch()

    def _material_getter(self, name: str) -> Callable[[Call], Any]:
        def get(call: Call) -> Any:
            model = self._model(call.params["id"])
            if model.material != name:
                raise RpcError(INVALID_PARAMS, f"Invalid material type: the model has '{model.material}'")
            return self.materials.get(model.model_id, {}).get(name, _MATERIALS[name])

        return get

    def _material_setter(self, name: str) -> Callable[[Call], None]:
        def change(call: Call) -> None:
            model = self._model(call.params["model_id"])
            model.material = name
            self.materials.setdefault(model.model_id, {})[name] = {**_MATERIALS[name], **call.params["material"]}
            self._studio.frame.begin_anew()

        return change

    # ---- camera, renderer, lights, simulation --------------------------------------------------------------------
    def _getter(self, values: dict[str, Any]) -> Callable[[Call], dict[str, Any]]:
        return lambda call: values

    def _camera_setter(self, name: str) -> Callable[[Call], None]:
        def change(call: Call) -> None:
            self.camera = name
            self.cameras[name].update(call.params)
            self._studio.frame.begin_anew()

        return change

    def _renderer_setter(self, name: str) -> Callable[[Call], None]:
        def change(call: Call) -> None:
            self.renderer = name
            self.renderers[name].update(call.params)
            self._studio.frame.begin_anew()

        return change

    def _set_view(self, call: Call) -> None:
        self.view = call.params

    def _set_near_clip(self, call: Call) -> None:
        self.near_clip = call.params["distance"]

    def _set_region(self, call: Call) -> None:
        self.region.update(call.params)

    def _light_adder(self, kind: str) -> Callable[[Call], dict[str, Any]]:
        defaults: dict[str, Any] = {"kind": kind, "intensity": 1, "color": [1, 1, 1], "direction": [-1, -1, 0]}

        def add(call: Call) -> dict[str, Any]:
            return self._add(model_type="light", info={}, light={**defaults, **call.params}).describe()

        return add

    def _last_frame(self) -> int:
        return self.faults.simulation_frames

    def _get_simulation(self, call: Call) -> dict[str, Any]:
        dt = 0.1 if self._last_frame() else 0
        return {"current": self.frame, "dt": dt, "end_frame": self._last_frame(), "start_frame": 0, "unit": "ms"}

    def _check_frame(self, frame: int) -> None:
        if not 0 <= frame <= self._last_frame():
            raise RpcError(INTERNAL_ERROR, "Simulation frame out of range")

    def _set_simulation(self, call: Call) -> None:
        frame = call.params.get("current", self.frame)
        self._check_frame(frame)
        self.frame = frame

    # ---- pictures ------------------------------------------------------------------------------------------------
    def _picture(
        self,
        size: list[int],
        view: dict[str, Any],
        camera: tuple[str, dict[str, Any]],
        renderer: tuple[str, dict[str, Any]],
        image: tuple[str, int, int],
        progress: Callable[[float], None],
    ) -> bytes:
        """`image`: format, quality and the simulation's frame."""
        image_format, quality, frame = image
        wanted = Wanted((size[0], size[1]), view, camera, renderer, frame, image_format, quality)
        return self._studio.take(list(self.models.values()), wanted, progress)

    @contextmanager
    def _whole_periods(self, period: float, call: Call) -> Iterator[None]:
        """`snapshot` looks for its own end and for `cancel` once a second, so it takes whole seconds."""
        began = time.monotonic()
        yield
        taken = time.monotonic() - began
        end = began + (math.ceil(taken / period) * period if period else taken)
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.02))
            if call.cancelled():
                raise RpcError(CANCELLED, "Task has been cancelled")

    def _snapshot(self, call: Call) -> Reply:
        params = call.params
        settings = params["image_settings"]
        self._check_frame(params.get("simulation_frame", self.frame))
        camera = self._named(params.get("camera"), self.camera, self.cameras)
        renderer = self._named(params.get("renderer"), self.renderer, self.renderers)
        call.progress("Rendering snapshot ...", 0)
        if settings["format"] not in ("png", "jpg"):
            raise RpcError(INTERNAL_ERROR, f"Format not supported: '{settings['format']}'")
        last = time.monotonic()

        def progress(amount: float) -> None:
            nonlocal last
            if call.cancelled():
                raise Cancelled
            if time.monotonic() - last >= 1 and amount < 1:
                last = time.monotonic()
                call.progress("Rendering snapshot ...", amount)

        with self._whole_periods(self.faults.snapshot_seconds, call):
            try:
                data = self._picture(
                    settings.get("size", self.viewport),
                    params.get("camera_view", self.view),
                    camera,
                    renderer,
                    (settings["format"], settings.get("quality", 100), params.get("simulation_frame", self.frame)),
                    progress,
                )
            except Cancelled:
                raise RpcError(CANCELLED, "Task has been cancelled") from None
        path = params.get("file_path", "")
        if not path:
            return Reply({"color_buffer": {"offset": 0, "size": len(data)}}, data)
        try:
            Path(path).write_bytes(data)
        except OSError as error:
            raise RpcError(INTERNAL_ERROR, f"Failed to write {path}: {error.strerror}") from error
        return Reply({"color_buffer": {"offset": 0, "size": 0}})

    def _named(
        self, asked: dict[str, Any] | None, current: str, known: dict[str, dict[str, Any]]
    ) -> tuple[str, dict[str, Any]]:
        if asked is None:
            return current, known[current]
        name = asked["name"]
        if name not in known:
            raise RpcError(INVALID_PARAMS, f"Invalid name: '{name}'")
        defaults = {"interactive": _INTERACTIVE, "production": _PRODUCTION}.get(name, {})
        return name, {**defaults, **asked.get("params", {})}

    def _render_image(self, call: Call) -> Reply:
        params = call.params
        send, force = params.get("send", True), params.get("force", False)
        image_format = params.get("format", "jpg")
        if force and not send:
            raise RpcError(INVALID_PARAMS, "Cannot force sending if send is disabled")
        wanted = Wanted(
            (self.viewport[0], self.viewport[1]),
            self.view,
            (self.camera, self.cameras[self.camera]),
            (self.renderer, self.renderers[self.renderer]),
            self.frame,
            image_format,
            params.get("jpeg_quality", 100),
            (self.near_clip, self.region),
        )
        frame, rendered = self._studio.frame, False
        if params.get("render", True):
            rendered = frame.render(list(self.models.values()), wanted, params.get("accumulate", True))
        data = frame.picture(wanted) if send and (rendered or force) else b""
        samples = self.renderers[self.renderer]["samples_per_pixel"]
        return Reply({"accumulation": frame.accumulation, "max_accumulation": samples}, data)


def _cancel_unknown(call: Call) -> None:
    # The server takes a `cancel` for a running request before it comes here. The real one prints its client's
    # handle instead of the id asked for.
    raise RpcError(INVALID_PARAMS, f"No requests found with ID {id(call)}.")


_NAMED = record({"name": {"type": "string"}, "params": {"type": "object"}}, ("name",))
_SNAPSHOT_SCHEMA = record(
    {
        "image_settings": record(
            {
                "format": {"type": "string"},
                "quality": {"type": "integer", "minimum": 0, "maximum": 100},
                "size": {**numbers(2), "items": {"type": "integer", "minimum": 0}},
            },
            ("format",),
        ),
        "camera": _NAMED,
        "camera_view": _VIEW_SCHEMA,
        "camera_near_clip": {"type": "number", "minimum": 0},
        "image_start": numbers(2),
        "image_end": numbers(2),
        "renderer": _NAMED,
        "simulation_frame": {"type": "integer", "minimum": 0},
        "file_path": {"type": "string"},
        "metadata": {"type": "object"},
    },
    ("image_settings",),
)
_RENDER_IMAGE_SCHEMA = record(
    {
        "send": {"type": "boolean"},
        "force": {"type": "boolean"},
        "accumulate": {"type": "boolean"},
        "render": {"type": "boolean"},
        "format": {"type": "string", "enum": ["png", "jpg"]},
        "jpeg_quality": {"type": "integer", "minimum": 0, "maximum": 100},
    }
)
_RETURNS: dict[str, Schema] = {
    "get-version": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **{name: {"type": "integer", "readOnly": True} for name in ("major", "minor", "patch")},
            "revision": {"type": "string", "readOnly": True},
        },
        "required": ["major", "minor", "patch", "revision"],
    }
}
