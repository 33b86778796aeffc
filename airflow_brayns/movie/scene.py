"""Scenes on services: a service loads the models once, and colours and lights them as the specification says."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.brayns.words import NO_FILE
from airflow_brayns.errors import BraynsError, InvalidSetting, RenderingFailed, RpcFailed
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.fields import Color
from airflow_brayns.movie.loaders import asks_for_no_section
from airflow_brayns.movie.plan import LOOKS as _LOOKS
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.scene_calls import (
    SceneCall,
    clipping_calls,
    color_call,
    light_calls,
    model_calls,
    primitive_calls,
    ramp_call,
)
from airflow_brayns.movie.scene_facts import SceneFacts
from airflow_brayns.movie.specification import Coloring, Model, MovieSpecification
from airflow_brayns.movie.surface import ColorRamp

# A function that is told how far a model is: the model's number, what the service is at, and a share between 0 and 1.
Loading = Callable[[int, str, float], None]
Kind = TypeVar("Kind")
_SECTION_COLORS = {
    "soma": (1.0, 0.82, 0.35),
    "dendrite": (0.95, 0.42, 0.16),
    "apical_dendrite": (0.9, 0.2, 0.35),
    "axon": (0.25, 0.6, 1.0),
}
_METHOD_NOT_FOUND, _INVALID_PARAMS = -32601, -32602
# The methods that empty a scene, in all versions; each version knows some of them.
_EMPTYING = ("clear-models", "clear-renderables", "clear-lights", "clear-clip-planes", "clear-clipping-geometries")


async def call_where_known(
    client: BraynsClient, method: str, params: Any = None, *, timeout: float | None = None
) -> None:
    """Call a method that an older braynsService may lack; what such a service cannot set, nobody has set there.

    :param timeout: seconds; None for the client's.
    :raises RpcFailed: the service refuses for another reason.
    """
    try:
        await client.call(method, params, timeout=timeout)
    except RpcFailed as error:
        if error.code != _METHOD_NOT_FOUND:
            raise


async def prepare(
    client: BraynsClient,
    specification: MovieSpecification,
    *,
    timeout: float = 3600,
    loading: Loading = lambda number, operation, amount: None,
) -> SceneFacts:
    """Empty the service, load the models, colour and light them.

    :param timeout: seconds that a model may take to load, and that the service may still be at what it was asked
        before, since a request that was given up goes on there.
    :param loading: a function that is told how far each model is.
    :raises InvalidSetting: the service cannot load, colour or light what is asked for; the error names the key.
    """
    fits_models, specification = specification.fits_models, specification.at(0)
    await empty(client, timeout)
    ids = [await _load(client, model, index, timeout, loading) for index, model in enumerate(specification.models)]
    for call in (*primitive_calls(specification.primitives), *clipping_calls(specification.clipping)):
        await _send(client, call)
    # a quad light has bounds, and is not to be fitted into the picture
    scene = as_kind(dict, "get-scene", (await client.call("get-scene")).result)
    for call in light_calls(specification.all_lights()):
        await _send(client, call)
    method = "get-simulation-parameters"
    facts = SceneFacts.read(scene.get("bounds", {}), as_kind(dict, method, (await client.call(method)).result))
    facts = replace(facts, loaded=tuple(tuple(one) for one in ids))
    return replace(facts, models=_boxes(scene, ids)) if fits_models else facts


def _boxes(scene: dict[str, Any], ids: list[list[int]]) -> tuple[Bounds, ...]:
    """The box that each model of the specification fills.

    :param scene: the result of `get-scene`.
    :param ids: what the service calls each model: one that is loaded may be several there.
    """
    models = [one for one in as_kind(list, "get-scene", scene.get("models")) if isinstance(one, dict)]
    told = {number: one for one in models if isinstance(number := one.get("model_id"), int)}
    boxes = []
    for number, each in enumerate(ids):
        try:
            facts = [
                SceneFacts.read(as_kind(dict, "get-scene", told.get(one)).get("bounds", {}), {}).bounds for one in each
            ]
        except InvalidSetting:
            facts = []
        if not facts:
            remedy = "fit another model, or give a camera of your own."
            raise InvalidSetting(
                f"models.{number}", "it fills no room, so the camera cannot be fitted to it", remedy=remedy
            )
        low, high = zip(*((one.low, one.high) for one in facts), strict=True)
        (x, y, z), (far_x, far_y, far_z) = map(min, zip(*low, strict=True)), map(max, zip(*high, strict=True))
        boxes.append(Bounds((x, y, z), (far_x, far_y, far_z)))
    return tuple(boxes)


async def empty(client: BraynsClient, timeout: float) -> None:
    """Empty the service: models, lights and clipping.

    :param timeout: seconds that the service may still be at what it was asked before.
    """
    for method in _EMPTYING:
        await call_where_known(client, method, timeout=timeout)


async def facts_of(client: BraynsClient) -> tuple[dict[str, Any], dict[str, Any]]:
    """The bounds and the simulation that a service tells of its scene, for `SceneFacts.read`."""
    scene = as_kind(dict, "get-scene", (await client.call("get-scene")).result)
    method = "get-simulation-parameters"
    return scene.get("bounds", {}), as_kind(dict, method, (await client.call(method)).result)


async def scene_models(client: BraynsClient) -> list[dict[str, Any]]:
    """What a service says of each thing in its scene; lights are among them."""
    scene = as_kind(dict, "get-scene", (await client.call("get-scene")).result)
    return [one for one in as_kind(list, "get-scene", scene.get("models")) if isinstance(one, dict)]


async def scene_of(client: BraynsClient, plan: Plan) -> str:
    """The text that a service says of its scene, without what a frame of the plan sets anew; it is the same as long as
    nobody else has changed the scene.

    :raises RpcFailed: the service does not say.
    """
    scene = (await client.call("get-scene")).result
    if isinstance(scene, dict) and isinstance(models := scene.get("models"), list) and (kinds := plan.sets_anew()):
        kept = [one for one in models if isinstance(one, dict) and str(one.get("model_type")) not in kinds]
        if _LOOKS in kinds:
            kept = [{name: one[name] for name in one.keys() - {"transform", "is_visible", "bounds"}} for one in kept]
        scene = {"models": kept}
    return json.dumps(scene, sort_keys=True)


def as_kind(kind: type[Kind], method: str, result: Any) -> Kind:
    """Check that a reply is of the kind that it must be, and return it.

    :raises RenderingFailed: the reply is of another kind.
    """
    if not isinstance(result, kind):
        raise RenderingFailed(
            f"{method} answered {reprlib.repr(result)}, which is not braynsService's answer",
            remedy="See that a braynsService answers there, and none of another kind.",
        )
    return result


async def _load(client: BraynsClient, model: Model, number: int, timeout: float, loading: Loading) -> list[int]:
    """Load a model, and make it look as it should; return what the service calls it, which may be several there."""
    where = f"models.{number}"
    request = {"path": model.path, "loader_name": model.loader_name, "loader_properties": model.loader_properties}

    def progress(operation: str, amount: float) -> None:
        loading(number, operation, amount)

    try:
        loaded = (await client.call("add-model", request, timeout=timeout, progress=progress)).result
    except RpcFailed as error:
        raise _not_loaded(model, where, error, await _loaders(client)) from error
    ids = [
        as_kind(int, "add-model", as_kind(dict, "add-model", one).get("model_id"))
        for one in as_kind(list, "add-model", loaded)
    ]
    for model_id in ids:
        await _color(client, model, model_id, where)
        for call in model_calls(model, model_id, where):
            await _send(client, call)
    if model.color_ramp is not None:
        await _set_ramp(client, model.color_ramp, ids, f"{where}.color_ramp")
    return ids


async def _set_ramp(client: BraynsClient, ramp: ColorRamp, ids: list[int], where: str) -> None:
    """Set the colours of a report. Of what one file is loaded as, cells and their synapses, some may have none."""
    refused: RpcFailed | None = None
    done = 0
    for model_id in ids:
        try:
            has = as_kind(dict, "get-color-ramp", (await client.call("get-color-ramp", {"id": model_id})).result)
            await client.call("set-color-ramp", ramp_call(ramp, model_id, has))
            done += 1
        except RpcFailed as error:
            refused = error
    if not done:
        why = f"{refused.said.rstrip('.')}. " if refused else ""
        told = "Only what is loaded with a report or a volume has colours of values."
        remedy = "give `report_type` and `report_name`, or leave it out."
        raise InvalidSetting(where, f"{why}{told}", remedy=remedy) from refused


async def _send(client: BraynsClient, call: SceneCall) -> None:
    try:
        await client.call(call.method, call.params)
    except RpcFailed as error:
        hint = f" This braynsService has no {call.method}." if error.code == _METHOD_NOT_FOUND else ""
        remedy = "correct it as the service says, or leave it out."
        raise InvalidSetting(call.field, f"{str(error).rstrip('.')}.{hint}", remedy=remedy) from error


async def _loaders(client: BraynsClient) -> set[str] | None:
    """The names of a service's loaders; None where it does not tell."""
    try:
        known = (await client.call("get-loaders")).result
    except BraynsError:
        return None
    names = [one.get("name") for one in known if isinstance(one, dict)] if isinstance(known, list) else []
    return {str(name) for name in names if name} or None


def _texts(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The names in a loader's properties, such as a population's, each with where it is."""
    if isinstance(value, str) and value:
        yield at, value
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _texts(one, (*at, str(key)))


def _length(named: tuple[tuple[str, ...], str]) -> int:
    return len(named[1])


def _not_loaded(model: Model, where: str, error: RpcFailed, loaders: set[str] | None) -> InvalidSetting:
    """The error for a model that a service could not load: what the service said, at the field that it is about.

    :param where: the model's key in the specification, such as `models.0`.
    :param loaders: the names of the loaders that the service has; None where it does not tell.
    """
    field, hint, remedy = "path", "", "look at the file: is it whole, and of the kind that its ending says?"
    # the list tells what is wrong with the properties
    if error.code == _INVALID_PARAMS and isinstance(error.data, list):
        field, hint = "properties", " This braynsService takes others than 3.10.1, which they are right for."
        remedy = "correct them as the list tells."
    elif error.code == _INVALID_PARAMS or (loaders is not None and model.loader_name not in loaders):
        field = "loader"
        remedy = (
            "name its plugin, too: loaders come with them (the Neuron Morphology loader with braynsCircuitExplorer)."
        )
        hint = f" This service has {', '.join(sorted(loaders))[:500]}." if loaders else ""
    elif NO_FILE.search(error.message):
        whose = "the path" if model.path in error.message else "what it names"
        remedy = f"{whose} must exist on the nodes that render."
    elif named := max(
        (one for one in _texts(model.loader_properties) if one[1] in error.message), key=_length, default=None
    ):
        field, remedy = ".".join(["properties", *named[0]]), f"name what the file has in place of {named[1]!r}."
    elif asks_for_no_section(model.loader_name, model.loader_properties):
        hint = " Nothing of its cells is asked for: load_soma, load_axon and load_dendrites are false where they are not given."
        remedy = "let one of them be true, in `neuron_morphology_parameters`; and look at the file."
    return InvalidSetting(
        f"{where}.{field}", f"{model.path} cannot be loaded: {error.said.rstrip('.')}.{hint}", remedy=remedy
    )


async def _color(client: BraynsClient, model: Model, model_id: int, where: str) -> None:
    try:
        result = (await client.call("get-color-methods", {"id": model_id})).result
        methods = [str(method)[:80] for method in as_kind(list, "get-color-methods", result)[:100]]
    except RpcFailed:
        methods = []
    if model.colors is not None:
        if model.colors.method not in methods:
            remedy = f"take one of {', '.join(methods)}."
            raise InvalidSetting(
                f"{where}.colors.method", f"{model.colors.method!r} is none of this model's.", remedy=remedy
            )
    elif model.color is not None:
        if "solid" not in methods:
            remedy = f"use `colors`, with a method of {', '.join(methods)}."
            raise InvalidSetting(f"{where}.color", "this model takes no single colour.", remedy=remedy)
    elif "morphology section" in methods:
        method = "morphology section"
        known = (await client.call("get-color-values", {"id": model_id, "method": method})).result
        names = as_kind(list, "get-color-values", known)
        values: dict[str, Color] = {name: color for name, color in _SECTION_COLORS.items() if name in names}
        model = model.model_copy(update={"colors": Coloring(method=method, values=values)} if values else {})
    if (call := color_call(model, model_id, where)) is not None:
        await _send(client, call)
