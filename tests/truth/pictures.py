"""How like a recorded picture ours is: where something is seen, in which shape, in which colours, and how much of it is transparent.

Pixels are not compared one by one: samples lie elsewhere in each pixel, and branches are thinner than a pixel.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_SEEN = 24  # of 255: so far from the background's colour in any channel
_BOX, _NEAR, _COLOR, _ALPHA = 4, 0.96, 8.0, 0.5


@dataclass(frozen=True)
class Likeness:
    """Ours beside a recorded one.

    :param box: By how many pixels an edge of the bounding box of what is seen is elsewhere, at most.
    :param near: How much of what is seen in one lies within a pixel of what is seen in the other; the less of both ways.
    :param color: By how much of 255 the mean colour where both see something differs, in the worst channel.
    :param alpha: The same of the mean opacity of the whole pictures.
    """

    name: str
    box: float
    near: float
    color: float
    alpha: float

    def __str__(self) -> str:
        return f"{self.name:<32} box {self.box:3.0f}  shape {self.near:.3f}  colour {self.color:4.1f}  alpha {self.alpha:.2f}"

    def differences(self) -> list[str]:
        """What is beyond the bounds."""
        bounds = (
            ("box", self.box <= _BOX, f"{self.box} pixels away, at most {_BOX}"),
            ("shape", self.near >= _NEAR, f"{self.near:.3f} within a pixel, at least {_NEAR}"),
            ("colour", self.color <= _COLOR, f"{self.color:.1f} of 255 away, at most {_COLOR}"),
            ("alpha", self.alpha <= _ALPHA, f"{self.alpha:.2f} of 255 away, at most {_ALPHA}"),
        )
        return [f"picture {self.name}: {what} {told}" for what, holds, told in bounds if not holds]


def likeness(ours: bytes, recorded: Path) -> Likeness:
    """Compare a picture's bytes with a recorded picture's file.

    :raises ValueError: where they are not of the same size and mode.
    """
    one, other = Image.open(io.BytesIO(ours)), Image.open(recorded)
    if (one.size, one.mode) != (other.size, other.mode):
        raise ValueError(f"{recorded.name}: {one.size} {one.mode}, recorded {other.size} {other.mode}")
    pixels, wanted = (np.asarray(picture).astype(float) for picture in (one, other))
    # the background is the recorded one for both: another one in ours is seen everywhere
    seen, right = (np.abs(picture - wanted[0, 0]).max(2) > _SEEN for picture in (pixels, wanted))
    both = seen & right
    color = np.abs(pixels[both].mean(0) - wanted[both].mean(0))[:3].max() if both.any() else 0.0
    near = min(_within(seen, right), _within(right, seen))
    alpha = abs(pixels[..., 3].mean() - wanted[..., 3].mean())
    return Likeness(recorded.stem, _box_distance(seen, right), near, float(color), float(alpha))


def _within(seen: Any, other: Any) -> float:
    """The share of what is seen that has something of the other within a pixel; 1 where nothing is seen."""
    wide = np.zeros_like(other)
    padded = np.pad(other, 1)
    for down in range(3):
        for right in range(3):
            wide |= padded[down : down + other.shape[0], right : right + other.shape[1]]
    return float((seen & wide).sum() / seen.sum()) if seen.any() else 1.0


def _box_distance(seen: Any, other: Any) -> float:
    if not seen.any() or not other.any():
        return 0.0 if seen.any() == other.any() else float("inf")
    return float(max(abs(a - b) for a, b in zip(_box(seen), _box(other), strict=True)))


def _box(seen: Any) -> tuple[int, ...]:
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
