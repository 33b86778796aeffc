"""Brayns' loaders and the properties that each takes: `get-loaders` of 3.10.1 with all five plugins (recorded)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]
Location = tuple[str | int, ...]
# Loaders that refuse a file by its ending, whatever is in it (3.10.1, recorded).
_ONLY_BY_ENDING = {
    "mesh": ("obj", "ply", "stl", "off"),
    "Neuron Morphology loader": ("swc", "h5", "asc"),
    "SONATA loader": ("json",),
}
_OF_CIRCUITS = ("SONATA loader", "BBP loader")
_SECTIONS = ("load_soma", "load_axon", "load_dendrites")
_WITHOUT_NAME = ("spikes",)  # there is one of them in a simulation
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "object": ((dict,), "a mapping"),
    "array": ((list, tuple), "a list"),
    "string": ((str,), "a text"),
    "boolean": ((bool,), "true or false"),
    "integer": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
}


@dataclass(frozen=True)
class Problem:
    """A mistake in a loader's property.

    :param location: the keys and indices that lead to it.
    :param text: what is wrong, and what would be right.
    """

    location: Location
    text: str


@cache
def _shipped() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((Path(__file__).parent / "loaders.json").read_text())
    return found


@cache
def _schemas() -> dict[str, Schema]:
    return {loader["name"]: loader["input_parameters_schema"] for loader in _shipped()}


def loaders_of(file: str) -> list[str]:
    """The loaders that say they take a file of some name, by its ending or as a whole; none where none does."""
    return [one["name"] for one in _shipped() if any(_ends(file, ending) for ending in one["extensions"])]


def plugin_of(loader: str) -> str:
    """The plugin that a loader comes with, as a service is told to load it; empty for one that every service has, and for one that
    is not known here.
    """
    name = next((one["plugin"] for one in _shipped() if one["name"] == loader), "Core")
    return "" if name == "Core" else f"brayns{name.replace(' ', '')}"


def _ends(file: str, ending: str) -> bool:
    return f".{file}".endswith(f".{ending.removeprefix('.')}")


def other_spelling(loader: str) -> str:
    """The loader that is meant by another spelling of its name, such as `SonataLoader`; empty where none is."""
    if loader in _schemas():
        return ""
    return next((one for one in _schemas() if _letters(one) == _letters(loader)), "")


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower()).removesuffix("loader")


def property_problem(loader: str, properties: Mapping[str, Any]) -> Problem | None:
    """The first property that a loader would refuse; None where it takes all, or where the loader is a site's own that
    is not known here.
    """
    schema = _schemas().get(loader)
    if schema is None:
        return None
    return next(
        chain(_problems(schema, properties, ()), _report_problems(properties, ()), _none_problems(loader, properties)),
        None,
    )


def _none_problems(loader: str, properties: Mapping[str, Any]) -> Iterator[Problem]:
    """A cell of which nothing is to be loaded is refused (3.10.1, recorded)."""
    if loader == "Neuron Morphology loader" and not any(properties.get(name) for name in _SECTIONS):
        told = "nothing of the cell would be loaded; let one of them be true"
        yield Problem((_SECTIONS[0],), f"is false, and so are {' and '.join(_SECTIONS[1:])}: {told}")


def _report_problems(properties: Mapping[str, Any], at: Location) -> Iterator[Problem]:
    """A report needs its name and its kind, of the whole circuit or of each population; a service loads the circuit
    without it, and shows no simulation.
    """
    kind, name = properties.get("report_type", "none"), properties.get("report_name")
    if kind not in ("none", *_WITHOUT_NAME) and not name:
        yield Problem((*at, "report_type"), f"{kind!r} needs `report_name`: the report's name in the simulation's file")
    if name and kind == "none":
        yield Problem(
            (*at, "report_name"), f"needs `report_type`: what kind of report {str(name)[:60]!r} is, such as compartment"
        )
    for index, one in enumerate(properties.get("node_population_settings", ())):
        yield from _report_problems(one, (*at, "node_population_settings", index))


def asks_for_no_section(loader: str, properties: Mapping[str, Any]) -> bool:
    """Tell whether nothing of the cells of a circuit is asked for: neither soma nor axon nor dendrites of any population."""
    if loader not in _OF_CIRCUITS:
        return False
    asked = [
        one.get("neuron_morphology_parameters", {})
        for one in properties.get("node_population_settings", None) or [properties]
    ]
    return not any(one.get(name) for one in asked for name in _SECTIONS)


def endings(loader: str) -> tuple[str, ...]:
    """The endings of which a file must have one, or its loader refuses it; none where the loader takes any."""
    return _ONLY_BY_ENDING.get(loader, ())


def _problems(schema: Schema, value: Any, at: Location) -> Iterator[Problem]:
    if kind := schema.get("type"):
        python, word = _KINDS[kind]
        if not isinstance(value, python) or (isinstance(value, bool) and kind != "boolean"):
            yield Problem(at, f"must be {word}, not {str(value)[:60]!r}")
            return
    if "enum" in schema and value not in schema["enum"]:
        yield Problem(at, f"{str(value)[:60]!r} is none of {', '.join(schema['enum'])}")
    if "minimum" in schema and value < schema["minimum"]:
        yield Problem(at, f"{value} is below {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        yield Problem(at, f"{value} is above {schema['maximum']}")
    if isinstance(value, list | tuple):
        yield from _of_list(schema, value, at)
    elif isinstance(value, dict) and "properties" in schema:
        yield from _of_mapping(schema, value, at)


def _of_list(schema: Schema, value: list[Any] | tuple[Any, ...], at: Location) -> Iterator[Problem]:
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
    if not least <= len(value) <= most:
        yield Problem(at, f"has {len(value)} values instead of {least}")
    for index, item in enumerate(value):
        yield from _problems(schema.get("items", {}), item, (*at, index))


def _of_mapping(schema: Schema, value: Mapping[str, Any], at: Location) -> Iterator[Problem]:
    known, needed = schema["properties"], schema.get("required", ())
    told = ", ".join(f"{name} (needed)" if name in needed else name for name in known)
    for name, item in value.items():
        if name not in known:
            yield Problem((*at, name), f"there is no such property; known: {told}")
        else:
            yield from _problems(known[name], item, (*at, name))
    for name in needed:
        if name not in value:
            yield Problem((*at, name), f"missing; known: {told}")
