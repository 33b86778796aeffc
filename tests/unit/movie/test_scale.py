from __future__ import annotations

import pytest

from airflow_brayns.movie.camera import Pose
from airflow_brayns.movie.scale import friendly, length_text, units_per_pixel


def test_with_an_orthographic_camera_a_pixel_shows_the_same_everywhere() -> None:
    pose = Pose((0, 0, 777), (0, 0, 0), (0, 1, 0), 45, height=540)
    assert units_per_pixel(pose, 1080) == 0.5


def test_with_a_perspective_it_is_what_a_pixel_shows_at_the_targets_depth() -> None:
    pose = Pose((0, 0, 900), (0, 0, -100), (0, 1, 0), 90)
    assert units_per_pixel(pose, 1000) == pytest.approx(2.0)  # at 90 degrees as high as twice the distance


@pytest.mark.parametrize(
    ("most", "found"),
    [
        (1, 1), (1.99, 1), (2, 2), (4.9, 2), (5, 5), (9.99, 5), (10, 10), (237.8, 200), (0.037, 0.02), (6e-7, 5e-7), (1e12, 1e12),
        (0.3 - 0.1, 0.2),
    ],
)  # fmt: skip
def test_a_friendly_length_is_one_two_or_five(most: float, found: float) -> None:
    assert friendly(most) == found


def test_no_length_is_too_long_and_none_shorter_than_two_fifths() -> None:
    for power in range(-90, 110):
        most = 1.0731 * 10 ** (power / 9)
        assert most * 0.4 <= friendly(most) <= most
        assert f"{friendly(most):e}"[:8] in ("1.000000", "2.000000", "5.000000")


@pytest.mark.parametrize(
    ("length", "unit", "text"),
    [
        (20, "um", "20 µm"), (1000, "um", "1 mm"), (2000, "µm", "2 mm"), (0.5, "um", "500 nm"), (5, "cm", "50 mm"), (0.2, "nm", "0.2 nm"),
        (500, "mm", "500 mm"), (5000, "m", "5000 m"), (50, "voxels", "50 voxels"), (1e-3, "Å", "0.001 Å"), (25.4, "mm", "25.4 mm"),
        (1, "m", "1 m"), (1000, "\u00b5m", "1 mm"), (1000, "\u03bcm", "1 mm"),  # a keyboard's sign of micro, and the Greek letter
    ],
)  # fmt: skip
def test_a_length_is_told_in_the_unit_that_suits(length: float, unit: str, text: str) -> None:
    assert length_text(length, unit) == text
