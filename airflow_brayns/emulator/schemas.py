"""What braynsService 3.10.1 tells of its methods and loaders, as data.

`data/loaders.json` and 30 of the 90 entries of `data/methods.json` are what a running service answered; the others are
their siblings (a light beside a light, a getter beside its setter), as the released source composes them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

PLUGIN_NAMES = {
    "braynsCircuitExplorer": "Circuit Explorer",
    "braynsAtlasExplorer": "Atlas Explorer",
    "braynsCylindricCamera": "Cylindric Camera",
    "braynsDTI": "DTI",
    "braynsMoleculeExplorer": "Molecule Explorer",
    "braynsCircuitInfo": "Circuit Info",
}
_SINCE = {"get-camera-region": (3, 9, 0), "set-camera-region": (3, 9, 0)}


@cache
def _entries(file: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / file).read_text())
    return entries


def _of(file: str, plugins: list[str]) -> list[dict[str, Any]]:
    chosen = {"Core", *(PLUGIN_NAMES.get(plugin, plugin) for plugin in plugins)}
    return [entry for entry in _entries(file) if entry["plugin"] in chosen]


def methods(plugins: list[str], version: tuple[int, int, int]) -> dict[str, dict[str, Any]]:
    """Each method of a service with these plugins, as `schema` tells it, but for the description.

    :param version: Of the service: what is known to have come with a later one is not there.
    """
    known = (entry for entry in _of("methods.json", plugins) if version >= _SINCE.get(entry["title"], version))
    return {entry["title"]: entry for entry in known}


def loaders(plugins: list[str]) -> list[dict[str, Any]]:
    """What `get-loaders` tells of a service with these plugins."""
    return _of("loaders.json", plugins)


def params_of(method: str) -> dict[str, Any]:
    """The schema of a method's parameters."""
    schema: dict[str, Any] = next(entry for entry in _entries("methods.json") if entry["title"] == method)["params"]
    return schema
