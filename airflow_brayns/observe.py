"""Metrics; see the documentation's list."""

from __future__ import annotations

from airflow.sdk.observability import stats


def count(name: str, number: int = 1) -> None:
    """Count something."""
    stats.incr(name, number)


def took(name: str, seconds: float) -> None:
    """Record a duration."""
    stats.timing(name, seconds * 1000)
