"""Circuits in SONATA form: cells with a morphology each, and a compartment report that colours them.

Source of the form: https://sonata-extension.readthedocs.io
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from airflow_brayns.emulator.floats import single
from airflow_brayns.emulator.loaders import load_morphology
from airflow_brayns.emulator.rpc import internal
from airflow_brayns.emulator.scene import Content, Geometry, Simulation, rotation

COLOR_METHODS = (
    "etype", "id", "layer", "morphology", "morphology class", "morphology section", "mtype", "region", "solid",
    "synapse class",
)  # fmt: skip
_DEFAULT_COLOR = (0.41, 0.41, 1.0, 1.0)  # fitted to the recorded pictures
_ATTRIBUTES = {"morphology class": "morph_class", "synapse class": "synapse_class"}


@dataclass
class _Population:
    """A population of cells: where its files are, and one value a cell of each attribute."""

    name: str
    morphologies: Path
    attributes: dict[str, Any]

    def __len__(self) -> int:
        return len(self.attributes["x"])


def sonata_circuit(path: str, properties: dict[str, Any]) -> list[tuple[Content, dict[str, str]]]:
    """The populations asked for, each with what `get-model` tells of it.

    :param path: The circuit's or the simulation's configuration, in JSON.
    :param properties: The loader's, checked.
    """
    config = _config(Path(path))
    circuit = _config(Path(path).parent / config["network"]) if "network" in config else config
    return [_population(Path(path), config, circuit, asked) for asked in properties["node_population_settings"]]


def _config(path: Path) -> dict[str, Any]:
    """A configuration with the names of its manifest written out."""
    if not path.is_file():
        raise internal(f"File {path} does not exists")
    try:
        text = path.read_text()
        for name, folder in json.loads(text).get("manifest", {}).items():
            text = text.replace(name, str(path.parent / folder))
        config: dict[str, Any] = json.loads(text)
    except (ValueError, AttributeError) as error:
        raise internal(f"The emulator cannot read {path}: {error}") from None
    return config


def _population(
    path: Path, config: dict[str, Any], circuit: dict[str, Any], asked: dict[str, Any]
) -> tuple[Content, dict[str, str]]:
    population = _read_population(circuit, asked["node_population"])
    ids = _chosen(config, circuit, path, population, asked)
    if not ids:
        raise internal(f"No cells are left of the population '{population.name}'")
    parts = asked.get("neuron_morphology_parameters", {})
    cells = [_cell(population, number, parts) for number in ids]
    content = Content(
        "neurons",
        _together([geometry for geometry, _ in cells]),
        section_names={key: name for _, names in cells for key, name in names.items()},
        color_methods=COLOR_METHODS,
        color_groups=_groups(population, ids),
        color=_DEFAULT_COLOR,
        material=("phong", {"opacity": 1}),
        ids=ids,
    )
    if asked.get("report_type", "none") != "none":
        content.simulation = _report(path, config, population, ids, asked)
        content.color_ramp = default_ramp()
    told = {"loaded_neuron_count": str(len(ids)), "population_name": population.name, "population_type": "node"}
    return content, told


def _h5() -> Any:
    try:
        import h5py
    except ImportError:
        raise internal("SONATA wants the library h5py, which the extra airflow-brayns[emulator] brings") from None
    return h5py


def _read_population(circuit: dict[str, Any], name: str) -> _Population:
    for nodes in circuit.get("networks", {}).get("nodes", []):
        if name not in nodes.get("populations", {}):
            continue
        with _h5().File(nodes["nodes_file"]) as file:
            group = file[f"nodes/{name}/0"]
            attributes = {
                key: value.asstr()[()] if value.dtype == object else value[()] for key, value in group.items()
            }
        return _Population(name, Path(nodes["populations"][name]["morphologies_dir"]), attributes)
    raise internal(f"The emulator finds no population '{name}' in the circuit")


def _chosen(
    config: dict[str, Any], circuit: dict[str, Any], path: Path, population: _Population, asked: dict[str, Any]
) -> list[int]:
    """The cells asked for: by id or set, then evenly so many of a hundred, then the first so many."""
    ids = list(range(len(population)))
    if asked.get("node_ids"):
        return [number for number in ids if number in set(asked["node_ids"])]
    if asked.get("node_sets"):
        wanted = {number for name in asked["node_sets"] for number in _node_set(path, {**circuit, **config}, name)}
        ids = [number for number in ids if number in wanted]
    count = round(len(ids) * asked.get("node_percentage", 0.01))
    ids = [ids[index * len(ids) // count] for index in range(count)]
    return ids[: asked["node_count_limit"]] if "node_count_limit" in asked else ids


def _node_set(path: Path, config: dict[str, Any], name: str) -> set[int]:
    sets = _config(path.parent / config.get("node_sets_file", "node_sets.json"))
    if name not in sets:
        raise internal(f"The emulator finds no node set '{name}'")
    return set(sets[name].get("node_id", []))


def _cell(population: _Population, number: int, parts: dict[str, Any]) -> tuple[Geometry, dict[int, str]]:
    name = population.attributes["morphology"][number]
    geometry, names = _morphology(str(population.morphologies / f"{name}.swc"), json.dumps(parts))
    turn = rotation([float(population.attributes[f"orientation_{axis}"][number]) for axis in "xyzw"])
    place = np.array([population.attributes[axis][number] for axis in "xyz"], np.float32)
    assert geometry.axes is not None
    assert geometry.hull is not None
    axis, hull_axis = (points @ turn.T + place for points in geometry.axes)
    hull = hull_axis + (geometry.hull - geometry.axes[1])
    moved = Geometry(
        (axis + (geometry.vertices - geometry.axes[0]) @ turn.T).astype(np.float32),
        geometry.faces,
        (geometry.normals @ turn.T).astype(np.float32),
        geometry.sections,
        hull.min(0),
        hull.max(0),
        hull,
        (axis, hull_axis),
    )
    return moved, names


@cache
def _morphology(path: str, parts: str) -> tuple[Geometry, dict[int, str]]:
    return load_morphology(path, json.loads(parts))


def _together(cells: list[Geometry]) -> Geometry:
    counts = np.cumsum([0, *(len(cell.vertices) for cell in cells)])
    axes = [cell.axes for cell in cells if cell.axes is not None]
    return Geometry(
        np.concatenate([cell.vertices for cell in cells]),
        np.concatenate([cell.faces + count for cell, count in zip(cells, counts, strict=False)]).astype(np.int32),
        np.concatenate([cell.normals for cell in cells]),
        np.concatenate([cell.sections for cell in cells]),
        np.min([cell.low for cell in cells], axis=0),
        np.max([cell.high for cell in cells], axis=0),
        np.concatenate([cell.hull for cell in cells if cell.hull is not None]),
        (np.concatenate([one for one, _ in axes]), np.concatenate([two for _, two in axes])),
        np.concatenate([np.full(len(cell.faces), number) for number, cell in enumerate(cells)]).astype(np.int32),
    )


def _groups(population: _Population, ids: list[int]) -> dict[str, list[str]]:
    """What each method of the circuit's own colours by: one name a cell."""
    methods = [method for method in COLOR_METHODS if method not in ("id", "morphology section", "solid")]
    attributes = {method: _ATTRIBUTES.get(method, method) for method in methods}
    groups = {
        method: [str(population.attributes[key][number]) for number in ids]
        for method, key in attributes.items()
        if key in population.attributes
    }
    return {**groups, "id": [str(number) for number in ids]}


def _report(
    path: Path, config: dict[str, Any], population: _Population, ids: list[int], asked: dict[str, Any]
) -> Simulation:
    if asked["report_type"] != "compartment":
        raise internal(f"The emulator has no reports of type '{asked['report_type']}'")
    name = asked.get("report_name", "")
    if name not in config.get("reports", {}):
        raise internal(f"The emulator finds no report '{name}' in {path}")
    folder = path.parent / config.get("output", {}).get("output_dir", "")
    with _h5().File(folder / config["reports"][name].get("file_name", f"{name}.h5")) as file:
        group = file[f"report/{population.name}"]
        start, end, step = (float(value) for value in group["mapping/time"][()])
        reported, pointers = group["mapping/node_ids"][()], group["mapping/index_pointers"][()]
        values, unit = group["data"][()], group["mapping/time"].attrs.get("units", "ms")
    column = {int(node): int(pointers[index]) for index, node in enumerate(reported)}
    columns = np.array([column.get(number, -1) for number in ids])
    return Simulation(round((end - start) / step), step, str(unit), values=values, columns=columns)


def default_ramp() -> dict[str, Any]:
    """The colours that a report begins with, as recorded."""
    ramp = json.loads((Path(__file__).parent / "data" / "ramp.json").read_text())
    return {**ramp, "colors": [[single(part / 255) for part in color] for color in ramp["colors"]]}
