"""Grows the column of cells of `../movies/column.yaml`: `python grow_column.py column`. Always the same one. Needs h5py.

A SONATA circuit of 220 small pyramidal cells in a cylinder, and a report of their somas' voltage: a wave that starts in the
middle and runs outwards, so that only a cut shows it whole. Lengths in micrometres, times in milliseconds.
"""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

BASAL, APICAL = 3, 4
Vector = tuple[float, float, float]
CELLS, RADIUS, HEIGHT = 220, 150.0, 380.0
STEPS, STEP = 48, 0.5
REST, PEAK, SPEED, WIDTH = -70.0, 30.0, 12.0, 2.2


def small_cell(seed: int = 5) -> list[str]:
    """The lines of an SWC file: a soma, five dendrites at its foot that fork once, one at its head with a tuft; few samples,
    since there are many of them.
    """
    chance, lines = random.Random(seed), ["1 1 0 0 0 10 -1"]

    def branch(
        kind: int, start: Vector, way: Vector, lengths: list[float], radius: float, parent: int
    ) -> tuple[Vector, int]:
        point = start
        for length in lengths:
            x, y, z = (one * length + chance.gauss(0, length / 6) for one in way)
            point, radius = (point[0] + x, point[1] + y, point[2] + z), 0.75 * radius
            lines.append(f"{len(lines) + 1} {kind} {point[0]:.2f} {point[1]:.2f} {point[2]:.2f} {radius:.2f} {parent}")
            parent = len(lines)
        return point, parent

    for index in range(5):
        turn = 2 * math.pi * index / 5 + chance.uniform(-0.3, 0.3)
        tip, parent = branch(BASAL, (0, 0, 0), (math.cos(turn), -0.5, math.sin(turn)), [14, 16], 4, 1)
        for side in (-0.6, 0.6):
            branch(BASAL, tip, (math.cos(turn + side), -0.6, math.sin(turn + side)), [24], 2.4, parent)
    tip, parent = branch(APICAL, (0, 0, 0), (0, 1, 0), [18, 34, 34], 5, 1)
    for index in range(4):
        turn = 2 * math.pi * index / 4 + chance.uniform(-0.3, 0.3)
        branch(APICAL, tip, (0.6 * math.cos(turn), 0.9, 0.6 * math.sin(turn)), [26], 2.4, parent)
    return lines


def places() -> list[Vector]:
    """Evenly spread by chance: each cell is as far from the others as the best of some tries."""
    chance, found = random.Random(7), list[Vector]()
    for _ in range(CELLS):
        tries = []
        for _ in range(12):
            turn, out = chance.uniform(0, 2 * math.pi), RADIUS * math.sqrt(chance.random())
            tries.append((out * math.cos(turn), chance.uniform(-HEIGHT / 2, HEIGHT / 2), out * math.sin(turn)))
        found.append(max(tries, key=lambda one: min((math.dist(one, other) for other in found), default=0.0)))
    return found


def voltage(place: Vector, time: float, chance: random.Random) -> float:
    """A spike where the wave is, and a slow way back to rest behind it."""
    behind = time - 1.5 - math.dist(place, (0, 0, 0)) / SPEED
    wave = math.exp(-((behind / WIDTH) ** 2)) if behind < 0 else math.exp(-behind / (2 * WIDTH))
    return round(REST + (PEAK - REST) * wave + chance.gauss(0, 1), 1)


def texts(number: int, value: str) -> Any:
    return np.array([value] * number, h5py.string_dtype())


def write_nodes(path: Path, found: list[Vector]) -> None:
    chance, number = random.Random(3), len(found)
    turns = [chance.uniform(0, math.pi) for _ in found]
    layers = [str(1 + int(3 * (0.5 - y / HEIGHT))) for _, y, _ in found]
    with h5py.File(path, "w") as file:
        nodes = file.create_group("nodes/All")
        nodes["node_type_id"] = np.full(number, -1, np.int64)
        group = nodes.create_group("0")
        for name, value in (
            ("etype", "cADpyr"), ("model_template", "hoc:x"), ("model_type", "biophysical"), ("morph_class", "PYR"),
            ("morphology", "cell"), ("region", "SSp"), ("synapse_class", "EXC"),
        ):  # fmt: skip
            group[name] = texts(number, value)
        group["layer"] = np.array(layers, h5py.string_dtype())
        group["mtype"] = np.array([f"L{one}_PC" for one in layers], h5py.string_dtype())
        for axis, values in zip("xyz", np.array(found, np.float32).T, strict=True):
            group[axis] = values
        for axis, turned in (
            ("w", np.cos(turns)),
            ("x", np.zeros(number)),
            ("y", np.sin(turns)),
            ("z", np.zeros(number)),
        ):
            group[f"orientation_{axis}"] = turned.astype(np.float32)


def write_report(path: Path, found: list[Vector]) -> None:
    chance, number = random.Random(9), len(found)
    values = [[voltage(place, step * STEP, chance) for place in found] for step in range(STEPS)]
    with h5py.File(path, "w") as file:
        report = file.create_group("report/All")
        data = report.create_dataset("data", data=np.array(values, np.float32), compression="gzip", shuffle=True)
        data.attrs["units"] = "mV"
        mapping = report.create_group("mapping")
        mapping["element_ids"] = np.zeros(number, np.uint32)
        mapping["index_pointers"] = np.arange(number + 1, dtype=np.uint64)
        mapping["node_ids"] = np.arange(number, dtype=np.uint64)
        mapping["node_ids"].attrs["sorted"] = np.uint8(1)
        mapping["time"] = np.array([0, STEPS * STEP, STEP])
        mapping["time"].attrs["units"] = "ms"


CIRCUIT = {
    "version": 2.3,
    "manifest": {"$BASE": "."},
    "node_sets_file": "$BASE/node_sets.json",
    "networks": {
        "nodes": [
            {
                "nodes_file": "$BASE/nodes.h5",
                "populations": {
                    "All": {
                        "type": "biophysical",
                        "morphologies_dir": "$BASE/morph",
                        "biophysical_neuron_models_dir": "$BASE/morph",
                    }
                },
            }
        ],
        "edges": [],
    },
}
SIMULATION = {
    "version": 2.3,
    "network": "circuit_config.json",
    "node_sets_file": "node_sets.json",
    "node_set": "Column",
    "target_simulator": "NEURON",
    "run": {"tstop": STEPS * STEP, "dt": 0.025, "random_seed": 1},
    "output": {"output_dir": "reports"},
    "conditions": {},
    "inputs": {},
    "reports": {
        "soma": {
            "sections": "soma", "type": "compartment", "variable_name": "v", "unit": "mV", "dt": STEP, "start_time": 0.0,
            "end_time": STEPS * STEP, "file_name": "soma.h5", "enabled": True, "cells": "Column",
        }
    },
}  # fmt: skip


def main(folder: Path) -> None:
    for one in (folder / "morph", folder / "reports"):
        one.mkdir(parents=True, exist_ok=True)
    found = places()
    sets = {"Column": {"population": "All"}}
    for name, value in (("circuit_config", CIRCUIT), ("simulation_config", SIMULATION), ("node_sets", sets)):
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")
    lines = ["# A small pyramidal cell, grown by grow_column.py; micrometres", "# id type x y z r parent"]
    lines += small_cell()
    (folder / "morph" / "cell.swc").write_text("\n".join(lines) + "\n")
    write_nodes(folder / "nodes.h5", found)
    write_report(folder / "reports" / "soma.h5", found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
