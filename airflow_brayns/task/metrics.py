"""Metrics, which docs/how-to/metrics.rst lists."""

from __future__ import annotations

from collections.abc import Mapping

from airflow.sdk.observability import stats


def count(name: str, number: int = 1) -> None:
    """Count something."""
    stats.incr(name, number)


def level(name: str, value: float) -> None:
    """Record a value as it is now."""
    stats.gauge(name, value)


def record(waits: Mapping[str, float]) -> None:
    """Record several durations, in seconds."""
    for name, seconds in waits.items():
        took(name, seconds)


def took(name: str, seconds: float) -> None:
    """Record a duration."""
    stats.timing(name, seconds * 1000)
