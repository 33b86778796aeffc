"""The models of a specification: each a file, its loader and its colours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from airflow_brayns.movie.fields import Color, Part, is_path, misplaced, path_problem
from airflow_brayns.movie.loaders import endings, loaders_of, other_spelling, property_problem
from airflow_brayns.movie.surface import ColorRamp, Material, Transform

MORPHOLOGY_LOADER = "Neuron Morphology loader"
LOADERS = {
    "obj": "mesh", "ply": "mesh", "stl": "mesh", "off": "mesh",
    "swc": MORPHOLOGY_LOADER, "asc": MORPHOLOGY_LOADER, "h5": MORPHOLOGY_LOADER,
}  # fmt: skip
_MORPHOLOGY = {
    "radius_multiplier": 1.0,
    "load_soma": True,
    "load_axon": True,
    "load_dendrites": True,
    "geometry_type": "smooth",
}


def _as_words(values: Any) -> Any:
    """Ids, layers and the like, which YAML reads as numbers, as the words that they are to Brayns."""
    if not isinstance(values, dict):
        return values
    return {str(one) if isinstance(one, int) and not isinstance(one, bool) else one: values[one] for one in values}


class Coloring(Part):
    """The colours of a model by a method of Brayns' `color-model`.

    :param method: the method's name, such as `solid` or `morphology section`.
    :param values: a colour for each of the method's values.
    """

    method: str
    values: Annotated[dict[str, Color], Field(min_length=1), BeforeValidator(_as_words)]


class Model(Part):
    """A model to load.

    :param path: the file's path as the services see it; a relative one is taken from the specification's own folder.
    :param loader: Brayns' name of the loader; None to tell it by the path's ending.
    :param properties: the loader's properties; those left out keep the loader's usual values. They are checked against
        what the loaders of 3.10.1 take; those of a loader that is not known here go out as they are.
    :param color: one colour for the whole model; a morphology that has none is coloured by section.
    :param colors: colours by a method of Brayns' instead.
    :param transform: where it stands; None for where its file says.
    :param visible: whether it is shown.
    :param material: its material; None for Brayns' own, `phong`.
    :param color_ramp: the colours of its report's or volume's values; None for Brayns' own.
    """

    path: str = Field(min_length=1)
    loader: str | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
    color: Color | None = None
    colors: Coloring | None = None
    transform: Transform | None = None
    visible: bool = True
    material: Material | None = None
    color_ramp: ColorRamp | None = None

    @property
    def extension(self) -> str:
        """The path's ending, without the dot."""
        return Path(self.path).suffix.removeprefix(".").lower()

    @property
    def loader_name(self) -> str:
        """The name of the loader that the service is asked for."""
        return self.loader or LOADERS[self.extension]

    @property
    def loader_properties(self) -> dict[str, Any]:
        """The properties that are sent to the loader."""
        return {**(_MORPHOLOGY if self.loader_name == MORPHOLOGY_LOADER else {}), **self.properties}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not is_path(self.path):
            raise ValueError("path holds a NUL character or half a character, or is longer than 4095 bytes")
        if problem := path_problem(self.path):
            raise misplaced(("path",), problem)
        try:
            names = list(self.colors.values) if self.colors else []
            json.dumps([self.properties, names], allow_nan=False, sort_keys=True, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise ValueError(
                "properties or colors hold something that JSON does not have: a date, NaN, half a character, keys that are no words"
            ) from None
        if not self.loader and self.extension not in LOADERS:
            kind = f"'.{self.extension}' files" if self.extension else "files without an ending"
            takes = loaders_of(Path(self.path).name)
            such = f" (such as {' or '.join(takes)})" if takes else ""
            raise ValueError(
                f"no loader is known for {kind}; give `loader`{such}, or one of {', '.join(sorted(LOADERS))}"
            )
        if self.color is not None and self.colors is not None:
            raise ValueError("give `color` or `colors`, not both")
        self._check_loader()
        return self

    def _check_loader(self) -> None:
        name = self.loader_name
        if meant := other_spelling(name):
            raise misplaced(("loader",), f"did you mean {meant!r}? braynsService takes its exact name only")
        if problem := property_problem(name, self.loader_properties):
            told = "" if self.loader else f", by the ending .{self.extension}; give `loader` for another"
            raise misplaced(("properties", *problem.location), f"{problem.text} (of the {name}{told})")
        if (takes := endings(name)) and self.extension not in takes:
            told = "the circuit's or simulation's JSON file" if takes == ("json",) else f"{', '.join(takes)} files"
            raise misplaced(("path",), f"{self.path!r} is not for the {name}, which takes {told}")
