"""Easing: how what changes from one value to another begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

Easing = Literal["linear", "ease-in", "ease-out", "ease-in-out"]
# By name: the share of the change at a share of the time, both from 0 to 1.
EASINGS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda share: share,
    "ease-in": lambda share: share * share,
    "ease-out": lambda share: share * (2 - share),
    "ease-in-out": lambda share: share * share * (3 - 2 * share),
}
