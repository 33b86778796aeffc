"""What the scene is made of: models from files, their instances, primitives, clippers and lights."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from airflow_brayns.emulator.engine import Engine
from airflow_brayns.emulator.rpc import Call, Method, internal, invalid_params, without_code
from airflow_brayns.emulator.scene import Content, Model, Transform, identity
from airflow_brayns.emulator.validation import problems, read

_SHAPES = ("spheres", "boxes", "capsules", "planes", "bounded-planes")
_LIGHTS = ("ambient", "directional", "quad", "sphere")
_EMPTY = "OSPData: shared buffer is NULL"


class Models:
    """The methods that fill, change and tell the scene.

    :param loaders: As `get-loaders` tells them.
    :param sandbox: The only folder that files are read from; None for any.
    """

    def __init__(self, engine: Engine, loaders: list[dict[str, Any]], sandbox: Path | None) -> None:
        self._engine, self._scene = engine, engine.scene
        self._loaders, self._sandbox = loaders, sandbox

    def methods(self) -> dict[str, Method]:
        """Each method by its name."""
        result: dict[str, Method] = {
            "get-loaders": lambda call: self._loaders,
            "get-scene": lambda call: self._scene.describe(),
            "get-model": lambda call: self._scene.get(call.params["id"]).describe(),
            "add-model": self._add_model,
            "upload-model": self._upload_model,
            "update-model": self._update_model,
            "instantiate-model": self._instantiate,
            "remove-model": self._remove,
            "clear-models": self._clear,
            "clear-lights": lambda call: self._scene.remove_where(lambda content: content.light is not None),
            "clear-renderables": self._clear_renderables,
            "clear-clipping-geometries": lambda call: self._scene.remove_where(
                lambda content: content.clipper is not None
            ),
            "clear-clip-planes": lambda call: self._scene.remove_where(lambda content: content.clipper is not None),
            "add-clip-plane": lambda call: self._add_clipper("clipping_geometry", "planes", [call.params]),
            "enable-simulation": self._enable_simulation,
            "get-circuit-ids": self._circuit_ids,
            "set-circuit-thickness": self._thickness,
            "get-available-atlas-usecases": self._atlas,
            "visualize-atlas-usecase": self._atlas,
        }
        for kind in _SHAPES:
            result[f"add-{kind}"] = self._primitive_adder(kind)
            result[f"add-clipping-{kind}"] = self._clipper_adder(kind)
        for kind in _LIGHTS:
            result[f"add-light-{kind}"] = self._light_adder(kind)
        return result

    # ---- files -----------------------------------------------------------------------------------------------------
    def _add_model(self, call: Call) -> list[dict[str, Any]]:
        path = call.params["path"]
        if not path:
            raise invalid_params("Missing model path")
        name = Path(path).name
        extension = (Path(path).suffix[1:] or name).lower()
        loader = self._loader(call, extension)
        if self._sandbox is not None and not Path(path).resolve().is_relative_to(self._sandbox):
            raise internal(f"Cannot read {path}: outside of the sandbox path")
        return [model.describe() for model in self._load(call, loader, path, path, extension)]

    def _upload_model(self, call: Call) -> list[dict[str, Any]]:
        if not call.params["type"]:
            raise invalid_params("No model type")
        if not call.binary:
            raise invalid_params("Mo model binary data")
        call.progress("Model uploaded", 0.5)
        loader = self._loader(call, call.params["type"])
        if not loader["binary"]:
            raise invalid_params(f"Loader '{loader['name']}' cannot load binary")
        half = Call(call.params, call.binary, lambda what, part: call.progress(what, 0.5 + 0.5 * part), call.cancelled)
        return [model.describe() for model in self._load(half, loader, call.binary, "", call.params["type"])]

    def _loader(self, call: Call, extension: str) -> dict[str, Any]:
        name = call.params["loader_name"]
        for loader in self._loaders:
            if (name and loader["name"] == name) or (not name and extension in loader["extensions"]):
                found = problems(loader["input_parameters_schema"], call.params["loader_properties"])
                if found:
                    raise invalid_params("Invalid loader params schema", found)
                return loader
        raise invalid_params(f"Invalid loader name: '{name}'" if name else f"Unsupported file format: '{extension}'")

    def _load(self, call: Call, loader: dict[str, Any], source: str | bytes, path: str, extension: str) -> list[Model]:
        from airflow_brayns.emulator.loaders import LoadError

        time.sleep(self._engine.faults.load_seconds)
        try:
            loaded = self._content(call, loader["name"], source, extension)
        except LoadError as error:
            raise internal(str(error)) from None
        properties = call.params["loader_properties"]
        origin = {
            "load_parameters": properties,
            "loader_name": call.params["loader_name"],
            "path": path,
            "source": "from_file" if isinstance(source, str) else "from_blob",
        }
        return [
            self._scene.add(content, {"load_info": origin, **({"metadata": metadata} if metadata else {})})
            for content, metadata in loaded
        ]

    def _content(
        self, call: Call, loader: str, source: str | bytes, extension: str
    ) -> list[tuple[Content, dict[str, str]]]:
        from airflow_brayns.emulator.loaders import load_mesh, load_morphology
        from airflow_brayns.emulator.volumes import mhd_volume, raw_volume

        properties = call.params["loader_properties"] or {}
        surface = ("phong", {"opacity": 1})
        if loader == "mesh":
            geometry, metadata = load_mesh(source, extension)
            mesh = Content("mesh", geometry, color_methods=("solid", "triangle"), material=surface)
            return [(mesh, metadata)]
        if loader == "raw-volume":
            return [(raw_volume(source, properties, call.progress), {})]
        if loader == "mhd-volume" and isinstance(source, str):
            return [(mhd_volume(source, call.progress), {})]
        if loader == "Neuron Morphology loader" and isinstance(source, str):
            if not any(properties.get(part) for part in ("load_soma", "load_axon", "load_dendrites")):
                raise invalid_params("Nothing to load on the morphology")
            call.progress(f"Loading {source}", 0)
            geometry, names = load_morphology(source, properties)
            methods = ("morphology section", "morphology section geometry", "solid")
            neuron = Content("morphology", geometry, section_names=names, color_methods=methods, material=surface)
            return [(neuron, {})]
        if loader == "SONATA loader" and isinstance(source, str):
            from airflow_brayns.emulator.circuits import sonata_circuit

            return sonata_circuit(source, read(self._schema_of(loader), properties))
        raise internal(f"The emulator has no {loader}")

    def _schema_of(self, name: str) -> dict[str, Any]:
        schemas: dict[str, dict[str, Any]] = {one["name"]: one["input_parameters_schema"] for one in self._loaders}
        return schemas[name]

    # ---- instances -------------------------------------------------------------------------------------------------
    def _update_model(self, call: Call) -> dict[str, Any]:
        model = self._scene.get(call.params["model_id"])
        changes = call.params["model"]
        before = (model.visible, model.transform)
        if changes.get("transform") is not None:
            # what a transform leaves out is as it was made, not as it was
            model.move(_moved(model.content, changes["transform"]))
        model.visible = changes.get("is_visible", model.visible)
        if before != (model.visible, model.transform):
            self._scene.touch()
        return model.describe()

    def _instantiate(self, call: Call) -> list[dict[str, Any]]:
        transforms = call.params["transforms"]
        if not transforms:
            raise without_code("transforms list cannot be empty")
        source = self._scene.instance(call.params["model_id"])
        places = [_moved(source.content, transform) for transform in transforms]
        added = [self._scene.add(source.content, source.info, place) for place in places]
        return [model.describe() for model in added]

    def _remove(self, call: Call) -> None:
        self._scene.remove(call.params["ids"])
        self._engine.models_gone()

    def _clear(self, call: Call) -> None:
        self._scene.clear()
        self._engine.models_gone()

    def _clear_renderables(self, call: Call) -> None:
        self._scene.remove_where(lambda content: content.geometry is not None or content.volume)
        self._engine.models_gone()

    # ---- primitives, clippers, lights ------------------------------------------------------------------------------
    def _primitive_adder(self, kind: str) -> Method:
        def add(call: Call) -> dict[str, Any]:
            if not call.params:
                raise internal(_EMPTY)
            from airflow_brayns.emulator.primitives import primitives

            return self._scene.add(primitives(kind, call.params)).describe()

        return add

    def _clipper_adder(self, kind: str) -> Method:
        def add(call: Call) -> dict[str, Any]:
            if not call.params["primitives"]:
                raise internal(_EMPTY)
            return self._add_clipper("clip_geometry", kind, call.params["primitives"], call.params["invert_normals"])

        return add

    def _add_clipper(
        self, told: str, kind: str, primitives: list[dict[str, Any]], inverted: bool = False
    ) -> dict[str, Any]:
        from airflow_brayns.emulator.clipping import Clipper

        return self._scene.add(Content(told, clipper=Clipper(kind, primitives, inverted))).describe()

    def _light_adder(self, kind: str) -> Method:
        def add(call: Call) -> dict[str, Any]:
            light = {"kind": kind, **call.params}
            return self._scene.add(Content("light", corners=_light_corners(light), light=light)).describe()

        return add

    # ---- circuits and atlases --------------------------------------------------------------------------------------
    def _enable_simulation(self, call: Call) -> None:
        simulation = self._scene.get(call.params["model_id"]).content.simulation
        if simulation is None:
            raise without_code("The model does not have simulation")
        if simulation.enabled and not call.params["enabled"]:
            simulation.stopped_at = self._engine.current_frame
        simulation.enabled = call.params["enabled"]
        self._scene.touch()

    def _circuit_ids(self, call: Call) -> list[int]:
        ids = self._scene.get(call.params["model_id"]).content.ids
        if ids is None:
            raise without_code("The model does not have a list of Ids")
        return ids

    def _thickness(self, call: Call) -> None:
        if call.params["radius_multiplier"] == 1:
            return
        model = self._scene.get(call.params["model_id"])
        if model.geometry is not None:
            model.content.geometry = model.geometry.thickened(call.params["radius_multiplier"])
            model.compute_bounds()
            self._scene.touch()

    def _atlas(self, call: Call) -> Any:
        self._scene.get(call.params["model_id"])
        raise invalid_params("The requested model does not have an Atlas component")


def _moved(content: Content, transform: dict[str, Any]) -> Transform:
    """Where something is to stand; a light or a clipper stays, since what a transform makes of it was not recorded."""
    place = {**identity(), **transform}
    if place != identity() and (content.light is not None or content.clipper is not None):
        raise internal("The emulator moves no lights and clippers: remove it, and add another")
    return place


def _light_corners(light: dict[str, Any]) -> list[list[float]]:
    """Only a quad has an extent."""
    if light["kind"] != "quad":
        return []
    place, one, two = light["position"], light["edge1"], light["edge2"]
    return [[place[axis] + a * one[axis] + b * two[axis] for axis in range(3)] for a in (0, 1) for b in (0, 1)]
