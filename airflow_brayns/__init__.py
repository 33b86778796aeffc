"""Brayns on Slurm as a dependable part of Apache Airflow.

The public names are imported on first use, so `import airflow_brayns` costs no Airflow time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_brayns.endpoint import open_endpoint
    from airflow_brayns.operators.cluster import AllocateNodesOperator, ReleaseNodesOperator
    from airflow_brayns.operators.movie import BraynsMovieOperator, EncodeMovieOperator, RenderFramesOperator
    from airflow_brayns.operators.reaper import ReapNodesOperator
    from airflow_brayns.operators.service import (
        BraynsServiceOperator,
        StartBraynsServiceOperator,
        StopBraynsServiceOperator,
        brayns_service,
    )
    from airflow_brayns.sensors.service import BraynsServiceSensor

__version__ = "0.2.0"

_HOMES = {
    "AllocateNodesOperator": "operators.cluster",
    "ReapNodesOperator": "operators.reaper",
    "ReleaseNodesOperator": "operators.cluster",
    "BraynsServiceOperator": "operators.service",
    "StartBraynsServiceOperator": "operators.service",
    "StopBraynsServiceOperator": "operators.service",
    "brayns_service": "operators.service",
    "BraynsServiceSensor": "sensors.service",
    "RenderFramesOperator": "operators.movie",
    "EncodeMovieOperator": "operators.movie",
    "BraynsMovieOperator": "operators.movie",
    "open_endpoint": "endpoint",
}

__all__ = [
    "AllocateNodesOperator",
    "BraynsMovieOperator",
    "BraynsServiceOperator",
    "BraynsServiceSensor",
    "EncodeMovieOperator",
    "ReapNodesOperator",
    "ReleaseNodesOperator",
    "RenderFramesOperator",
    "StartBraynsServiceOperator",
    "StopBraynsServiceOperator",
    "brayns_service",
    "open_endpoint",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"airflow_brayns.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'airflow_brayns' has no attribute {name!r}")
