"""Grows the neuron of the example DAGs: `python grow_neuron.py > neuron.swc`. Always the same one.

A pyramidal cell of the usual build: a soma, five basal dendrites, an apical dendrite with oblique branches and a tuft, an axon
with collaterals. Branches wander, taper and fork as random walks with persistence do. Lengths in micrometres.
"""

from __future__ import annotations

import math
import random
import sys
from dataclasses import dataclass, field

SOMA, AXON, BASAL, APICAL = 1, 2, 3, 4
Vector = tuple[float, float, float]


def unit(vector: Vector) -> Vector:
    length = math.sqrt(sum(part * part for part in vector)) or 1.0
    return vector[0] / length, vector[1] / length, vector[2] / length


@dataclass
class Cell:
    chance: random.Random
    samples: list[tuple[int, int, Vector, float, int]] = field(default_factory=list)

    def add(self, kind: int, point: Vector, radius: float, parent: int) -> int:
        number = len(self.samples) + 1
        self.samples.append((number, kind, point, radius, parent))
        return number

    def grow(
        self, kind: int, start: Vector, way: Vector, radius: float, length: float, parent: int, forks: int, pull: Vector,
        wander: float = 0.28,
    ) -> None:  # fmt: skip
        """One branch of `length`, then two smaller ones, `forks` times over."""
        step = 6.0
        point, travelled = start, 0.0
        thin = radius * 0.62
        while travelled < length:
            noise = (self.chance.gauss(0, wander), self.chance.gauss(0, wander), self.chance.gauss(0, wander))
            way = unit((way[0] + noise[0] + pull[0], way[1] + noise[1] + pull[1], way[2] + noise[2] + pull[2]))
            point = (point[0] + way[0] * step, point[1] + way[1] * step, point[2] + way[2] * step)
            travelled += step
            taper = radius + (thin - radius) * min(1.0, travelled / length)
            parent = self.add(kind, point, round(taper * self.chance.uniform(0.93, 1.07), 3), parent)
        if forks:
            for side in (-1, 1):
                lean = (
                    self.chance.gauss(0, 0.55) + 0.45 * side,
                    self.chance.gauss(0, 0.35),
                    self.chance.gauss(0, 0.55) - 0.45 * side,
                )
                new = unit((way[0] + lean[0], way[1] + lean[1], way[2] + lean[2]))
                shorter = length * self.chance.uniform(0.6, 0.95)
                self.grow(kind, point, new, thin, shorter, parent, forks - 1, pull, wander)


def pyramidal(seed: int = 11) -> Cell:
    cell = Cell(random.Random(seed))
    soma = cell.add(SOMA, (0, 0, 0), 11.0, -1)
    for index in range(6):
        turn = 2 * math.pi * index / 6 + cell.chance.uniform(-0.3, 0.3)
        way = unit((math.cos(turn), -0.55, math.sin(turn)))
        start = (way[0] * 8, way[1] * 8, way[2] * 8)
        cell.grow(BASAL, start, way, 2.9, 92, cell.add(BASAL, start, 2.9, soma), 3, (0, -0.012, 0))
    trunk, point = cell.add(APICAL, (0, 9, 0), 4.6, soma), (0.0, 9.0, 0.0)
    for number in range(34):
        point = (point[0] + cell.chance.gauss(0, 0.7), point[1] + 6.5, point[2] + cell.chance.gauss(0, 0.7))
        trunk = cell.add(APICAL, point, round(4.4 - 0.06 * number, 3), trunk)
        if number in (6, 10, 14, 18, 23, 27):
            turn = number * 2.4
            cell.grow(APICAL, point, unit((math.cos(turn), 0.4, math.sin(turn))), 2.0, 100, trunk, 2, (0, 0.01, 0))
    for index in range(4):
        turn = 2 * math.pi * index / 4 + 0.4
        cell.grow(APICAL, point, unit((math.cos(turn), 0.8, math.sin(turn))), 2.3, 80, trunk, 3, (0, 0.015, 0))
    axon, point = cell.add(AXON, (0, -10, 0), 1.6, soma), (0.0, -10.0, 0.0)
    for number in range(22):
        point = (point[0] + cell.chance.gauss(0, 1.6), point[1] - 6.0, point[2] + cell.chance.gauss(0, 1.6))
        axon = cell.add(AXON, point, 1.15, axon)
        if number in (5, 9, 13, 17, 21):
            turn = number * 1.9
            cell.grow(AXON, point, unit((math.cos(turn), -0.2, math.sin(turn))), 1.1, 110, axon, 1, (0, -0.01, 0), 0.2)
    return cell


def main() -> None:
    print("# A pyramidal cell, grown by grow_neuron.py; micrometres\n# id type x y z r parent")
    for number, kind, (x, y, z), radius, parent in pyramidal().samples:
        sys.stdout.write(f"{number} {kind} {x:.3f} {y:.3f} {z:.3f} {radius:.3f} {parent}\n")


if __name__ == "__main__":
    main()
