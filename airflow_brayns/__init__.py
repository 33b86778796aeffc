"""Brayns on Slurm as a dependable part of Apache Airflow.

The public names are imported on first use, so `import airflow_brayns` costs no Airflow time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from airflow_brayns.version import __version__ as __version__

if TYPE_CHECKING:
    from airflow_brayns.hooks.endpoint import open_endpoint
    from airflow_brayns.operators.cluster import AllocateNodesOperator, ReapNodesOperator, ReleaseNodesOperator
    from airflow_brayns.operators.estimate import EstimateMovieOperator
    from airflow_brayns.operators.movie import BraynsMovieOperator, EncodeMovieOperator, RenderFramesOperator
    from airflow_brayns.operators.preview import PreviewMovieOperator
    from airflow_brayns.operators.service import (
        BraynsServiceOperator,
        StartBraynsServiceOperator,
        StopBraynsServiceOperator,
        brayns_service,
    )
    from airflow_brayns.operators.session import ExtendSessionOperator
    from airflow_brayns.sensors.service import BraynsServiceSensor
    from airflow_brayns.sensors.session import BraynsSessionSensor

# The module in which each public name is defined.
_HOMES = {
    "AllocateNodesOperator": "operators.cluster",
    "ReapNodesOperator": "operators.cluster",
    "ReleaseNodesOperator": "operators.cluster",
    "BraynsServiceOperator": "operators.service",
    "StartBraynsServiceOperator": "operators.service",
    "StopBraynsServiceOperator": "operators.service",
    "brayns_service": "operators.service",
    "ExtendSessionOperator": "operators.session",
    "BraynsServiceSensor": "sensors.service",
    "BraynsSessionSensor": "sensors.session",
    "RenderFramesOperator": "operators.movie",
    "EncodeMovieOperator": "operators.movie",
    "BraynsMovieOperator": "operators.movie",
    "EstimateMovieOperator": "operators.estimate",
    "PreviewMovieOperator": "operators.preview",
    "open_endpoint": "hooks.endpoint",
}

# Modules of 0.2.0 that DAGs may name, and where what they held is now.
_MOVED = {
    "booking": ("services.booking",),
    "endpoint": ("hooks.endpoint",),
    "movie.store": ("movie.frame_store", "movie.frame_folder"),
    "operators.base": ("task.operator", "task.fields", "task.guard"),
    "operators.blocking": ("task.blocking",),
    "operators.check": ("task.movie_fields",),
    "operators.fields": ("task.movie_fields", "task.fields"),
    "operators.file_values": ("task.file_values",),
    "operators.reaper": ("operators.cluster",),
    "operators.report": ("task.report",),
    "plain": ("errors.plain",),
    "settings": ("services.settings",),
}

__all__ = [
    "AllocateNodesOperator",
    "BraynsMovieOperator",
    "BraynsServiceOperator",
    "BraynsServiceSensor",
    "BraynsSessionSensor",
    "EncodeMovieOperator",
    "EstimateMovieOperator",
    "ExtendSessionOperator",
    "PreviewMovieOperator",
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


class _Moved(MetaPathFinder, Loader):
    """An importer that finds a moved module under its former name, too; what the module holds is the same."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.removeprefix(f"{__name__}.") in _MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        for home in _MOVED[module.__name__.removeprefix(f"{__name__}.")]:
            found = vars(import_module(f"{__name__}.{home}"))
            vars(module).update({name: value for name, value in found.items() if not name.startswith("__")})


sys.meta_path.append(_Moved())
