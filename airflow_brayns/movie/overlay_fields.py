"""The overlays of a specification: what is drawn over the frames when they are encoded."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from airflow_brayns.movie.camera_fields import Size
from airflow_brayns.movie.fields import Color, Part, is_path, path_problem
from airflow_brayns.movie.model import Model

Problem = tuple[tuple[str | int, ...], str]


def _one_line(text: str) -> str:
    if any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in text):
        raise ValueError("must be one line of text, without tabs, line ends and half characters")
    return text


def _path(text: str) -> str:
    if not is_path(text) or not text.lower().endswith((".png", ".jpg", ".jpeg")):
        raise ValueError("must be the path of a PNG or JPEG file")
    if problem := path_problem(text):
        raise ValueError(problem)
    return text


Line = Annotated[str, Field(max_length=500), AfterValidator(_one_line)]
_Unit = Annotated[str, Field(min_length=1, max_length=20), AfterValidator(_one_line)]
_Picture = Annotated[str, Field(min_length=1), AfterValidator(_path)]


def _or_switch(schema: dict[str, Any]) -> None:
    """`true` is the usual one, and `false` none."""
    schema["anyOf"].insert(0, {"type": "boolean"})


class ScaleBar(Part):
    """A bar that tells how long something in the picture is: with an orthographic camera anywhere, with a perspective at
    the depth of the camera's target.

    :param unit: the unit of the scene. Lengths in `nm`, `um`, `mm`, `cm` and `m` are told in that of nm, µm, mm and m which
        suits; any other word stands as it is.
    :param length: how long the bar is, in the scene's units; None for 1, 2 or 5 times a power of ten, about a fifth of the
        picture's width at most.
    """

    unit: _Unit = "um"
    length: Size | None = None


class Legend(Part):
    """The colours of a model's values, and the range that they stand for, from its `color_ramp`.

    :param model: the model's number, the first is 0; None for the only one that has a ramp.
    :param label: what the values are, such as `mV`, above the colours.
    """

    model: int | None = Field(default=None, ge=0)
    label: Line = ""


class Overlays(Part):
    """What is drawn over the frames when the movie is encoded. The frames stay clean, so that a change of it renders
    nothing anew.

    :param title: a line of text, at the top; each of several `shots` may have its own.
    :param logo: the path of a PNG or JPEG file as the worker sees it, shown at the top right; a relative one is taken from
        the specification's own folder.
    :param scale_bar: a scale bar, at the bottom right; true for one of a scene in micrometres, as Brayns' circuits are.
    :param legend: the colours of a model's report or volume with their range, on the right; true for that of the only
        model that has a `color_ramp`.
    :param time: whether the simulated time is shown, at the bottom left.
    :param frame_number: whether the frame's number is shown, at the bottom left.
    :param color: the colour of texts and bar; they have an outline in black or white, so that they can be read on any
        picture.
    :param size: the height of the texts, as a share of the picture's height.
    """

    title: Line = ""
    logo: _Picture | None = None
    scale_bar: ScaleBar | None = Field(default=None, json_schema_extra=_or_switch)
    legend: Legend | None = Field(default=None, json_schema_extra=_or_switch)
    time: bool = False
    frame_number: bool = False
    color: Color = (1.0, 1.0, 1.0)
    size: float = Field(default=0.035, ge=0.005, le=0.2)

    @model_validator(mode="before")
    @classmethod
    def _switched(cls, value: Any) -> Any:
        """A switch in place of a part that may be without words."""
        if not isinstance(value, Mapping):
            return value
        switched: dict[bool, Any] = {True: {}, False: None}
        return {
            name: switched[one] if name in ("scale_bar", "legend") and isinstance(one, bool) else one
            for name, one in value.items()
        }


def overlay_problems(
    overlays: Overlays | None, models: Sequence[Model], *, simulated: bool, python: bool
) -> Iterator[Problem]:
    """What cannot be drawn over a movie's frames: where, and what would be right.

    :param simulated: whether the movie shows a simulation.
    :param python: whether its scene and its camera are Python, of which only a service knows what they show.
    """
    if overlays is None:
        return
    if python:
        for name in ("scale_bar", "legend", "time"):
            if getattr(overlays, name):
                told = "cannot be known: camera, scene and time of this movie are Python's. Leave it out"
                yield ("overlays", name), told
        return
    if overlays.time and not simulated:
        yield ("overlays", "time"), "there is no `simulation` whose time could be shown; leave it out, or give one"
    if overlays.legend is not None:
        yield from _legend_problems(overlays.legend, models)


def _legend_problems(legend: Legend, models: Sequence[Model]) -> Iterator[Problem]:
    having = [number for number, one in enumerate(models) if one.color_ramp is not None]
    number, where = legend.model, ("overlays", "legend", "model")
    if not having:
        told = "no model has a `color_ramp` that it could show: give one with `range` and `colors`, or leave it out"
        yield ("overlays", "legend"), told
    elif number is None and len(having) > 1:
        told = f"say which: models {' and '.join(map(str, having))} have a `color_ramp` each"
        yield where, told
    elif number is not None and number not in having:
        told = f"model {number} has no `color_ramp`" if number < len(models) else f"there is no model {number}"
        yield where, f"{told}; take {' or '.join(map(str, having))}"
    else:
        number = having[0] if number is None else number
        ramp = models[number].color_ramp
        for name in ("range", "colors"):
            if getattr(ramp, name) is None:
                told = f"missing: a legend shows `range` and `colors`. Give `{name}`, or leave the legend out"
                yield ("models", number, "color_ramp", name), told


def shown_in_legend(legend: Legend, models: Sequence[Model]) -> int:
    """The number of the model that a legend is about."""
    if legend.model is not None:
        return legend.model
    return next(number for number, one in enumerate(models) if one.color_ramp is not None)
