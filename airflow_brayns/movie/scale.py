"""Scale: how long something is in a picture, and lengths that read well."""

from __future__ import annotations

import math

from airflow_brayns.movie.camera import Pose

# The units of a scene that can be told in one another, in metres; any other word stands as it is.
_METRES = {"nm": 1e-9, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}
_TOLD = (("m", 0), ("mm", -3), ("µm", -6), ("nm", -9))  # largest first


def units_per_pixel(pose: Pose, height: int) -> float:
    """The length that one pixel shows: of an orthographic camera everywhere, of a perspective at the target's depth.

    :param height: the picture's, in pixels.
    """
    if pose.height is not None:
        return pose.height / height
    return 2 * math.dist(pose.position, pose.target) * math.tan(math.radians(pose.fovy) / 2) / height


def friendly(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above a length.

    :param most: more than 0.
    """
    exponent = math.floor(math.log10(most))
    steps = (float(f"{digit}e{power}") for power in (exponent + 1, exponent, exponent - 1) for digit in (5, 2, 1))
    return next(step for step in steps if step <= most * (1 + 1e-9))


def length_text(length: float, unit: str) -> str:
    """A length in words: where its unit is a known one, in that of nm, µm, mm and m which gives the shortest number.

    :param unit: the unit that it is counted in.
    """
    metres = _METRES.get(unit)
    if metres is None:
        return f"{length:g} {unit}"
    exact = float(f"{length * metres:.9g}")
    name, power = next((one for one in _TOLD if exact >= float(f"1e{one[1]}")), _TOLD[-1])
    number = float(f"{exact * 10**-power:.9g}")
    return f"{number:g} {name}"
