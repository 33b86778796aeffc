"""Numbers as braynsService keeps and prints them: its floats have 32 bits, and a whole one has no point."""

from __future__ import annotations

import struct
from typing import Any

_LARGEST_WHOLE = 1e15


def single(value: float) -> float:
    """The nearest 32-bit float, in the fewest digits that tell it from its neighbours; infinite where it is too large."""
    try:
        narrow = _narrow(float(value))
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    for digits in range(6, 9):
        short = float(f"{narrow:.{digits}g}")
        if _narrow(short) == narrow:
            return short
    return float(f"{narrow:.9g}")


def _narrow(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def singles(values: Any) -> list[float]:
    """Each of some numbers as a 32-bit float."""
    return [single(value) for value in values]


def spelt(value: float) -> str:
    """A number as it stands in a message."""
    return str(int(value)) if abs(value) < _LARGEST_WHOLE and value == int(value) else repr(value)


def printed(value: Any) -> Any:
    """A result with whole floats as integers, as the service prints them."""
    if isinstance(value, float) and abs(value) < _LARGEST_WHOLE and value == int(value):
        return int(value)
    if isinstance(value, dict):
        return {key: printed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [printed(item) for item in value]
    return value
