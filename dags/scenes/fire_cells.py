"""Writes when the cells of `dags/movies/spikes.yaml` fire, as their colours: `python fire_cells.py > ../movies/spikes.csv`.

Seven cells in a row excite their neighbours: each spike makes a neighbour's likelier three frames later. What is drawn of a
spike is a flash that fades within half a second. Always the same ones.
"""

from __future__ import annotations

import math
import random

CELLS, FRAMES = 7, 96
REST, FLASH = (0.16, 0.24, 0.42), (1.0, 0.86, 0.35)
DELAY, DEAD, FADES = 3, 14, 5.0  # frames


def spikes() -> list[list[int]]:
    """The frames in which each cell fires."""
    chance = random.Random(5)
    fired: list[list[int]] = [[] for _ in range(CELLS)]
    for frame in range(FRAMES):
        for cell in range(CELLS):
            if fired[cell] and frame - fired[cell][-1] < DEAD:
                continue
            around = [fired[one] for one in (cell - 1, cell + 1) if 0 <= one < CELLS]
            excited = any(frame - DELAY in other for other in around)
            if chance.random() < (0.75 if excited else 0.012):
                fired[cell].append(frame)
    return fired


def colour(frame: int, fired: list[int]) -> str:
    """What a cell looks like: brightest in the frame of its spike."""
    since = min((frame - one for one in fired if one <= frame), default=FRAMES)
    share = math.exp(-since / FADES)
    parts = (rest + share * (flash - rest) for rest, flash in zip(REST, FLASH, strict=True))
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


if __name__ == "__main__":
    fired = spikes()
    print("frame," + ",".join(f"models.{cell}.color" for cell in range(CELLS)))
    for frame in range(FRAMES):
        print(f"{frame}," + ",".join(colour(frame, one) for one in fired))
