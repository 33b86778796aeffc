"""The scene on one service: loaded once, coloured and lit as the specification says."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import InvalidSetting, RenderingFailed, RpcFailed
from airflow_brayns.movie.plan import SceneFacts
from airflow_brayns.movie.specification import Model, MovieSpecification

# Of a model, by its number: what the service is at, and a share between 0 and 1.
Loading = Callable[[int, str, float], None]
Kind = TypeVar("Kind")
_SECTION_COLORS = {
    "soma": (1.0, 0.82, 0.35),
    "dendrite": (0.95, 0.42, 0.16),
    "apical_dendrite": (0.9, 0.2, 0.35),
    "axon": (0.25, 0.6, 1.0),
}
_METHOD_NOT_FOUND, _INVALID_PARAMS = -32601, -32602
# Whatever a scene may hold, by the names that the versions have for it.
_EMPTYING = ("clear-models", "clear-renderables", "clear-lights", "clear-clip-planes", "clear-clipping-geometries")
# How a file that is not there is told of, by core loaders and by plugins (3.10.1, recorded).
_NO_FILE = re.compile(r"File:? .* does not exists?\b", re.DOTALL)


async def call_where_known(
    client: BraynsClient, method: str, params: Any = None, *, timeout: float | None = None
) -> None:
    """Call a method that an older braynsService may lack: what it cannot set, nobody has set there.

    :param timeout: seconds; None for the client's.
    :raises RpcFailed: it is refused for another reason.
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

    :param timeout: seconds that a model may take to load, and that the service may still be at what it was asked before:
        a request that was given up goes on there.
    :param loading: told how far each model is.
    :raises InvalidSetting: the service cannot load, colour or light what is asked for; naming the key.
    """
    for method in _EMPTYING:
        await call_where_known(client, method, timeout=timeout)
    for index, model in enumerate(specification.models):
        await _load(client, model, index, timeout, loading)
    for index, light in enumerate(specification.all_lights()):
        values = light.model_dump(mode="json", exclude={"kind"}, exclude_none=True)
        values["color"] = values["color"][:3]
        try:
            await client.call(f"add-light-{light.kind}", values)
        except RpcFailed as error:
            raise InvalidSetting(f"lights.{index}", str(error)) from error
    scene = _as(dict, "get-scene", (await client.call("get-scene")).result)
    method = "get-simulation-parameters"
    return SceneFacts.read(scene.get("bounds", {}), _as(dict, method, (await client.call(method)).result))


async def scene_of(client: BraynsClient) -> str:
    """What a service says of its scene: the same text as long as nobody has changed it.

    :raises RpcFailed: it does not say.
    """
    return json.dumps((await client.call("get-scene")).result, sort_keys=True)


def _as(kind: type[Kind], method: str, result: Any) -> Kind:
    """A reply of the kind that it must be.

    :raises RenderingFailed: it is of another one.
    """
    if not isinstance(result, kind):
        raise RenderingFailed(f"{method} answered {reprlib.repr(result)}, which is not braynsService's answer")
    return result


async def _load(client: BraynsClient, model: Model, number: int, timeout: float, loading: Loading) -> None:
    where = f"models.{number}"
    request = {"path": model.path, "loader_name": model.loader_name, "loader_properties": model.loader_properties}

    def progress(operation: str, amount: float) -> None:
        loading(number, operation, amount)

    try:
        loaded = (await client.call("add-model", request, timeout=timeout, progress=progress)).result
    except RpcFailed as error:
        raise _not_loaded(model, where, error) from error
    for one in _as(list, "add-model", loaded):
        model_id = _as(dict, "add-model", one).get("model_id")
        await _color(client, model, _as(int, "add-model", model_id), where)


def _not_loaded(model: Model, where: str, error: RpcFailed) -> InvalidSetting:
    """What the service said, at the field that it is about."""
    field, hint = "path", ""
    if error.code == _INVALID_PARAMS and isinstance(error.data, list):  # a list of what is wrong with the properties
        field, hint = "properties", " This braynsService takes others than 3.10.1, which they are right for."
    elif error.code == _INVALID_PARAMS and "loader name" in error.message:  # nothing but its words tells it from others
        field = "loader"
        hint = " Loaders come with plugins (the Neuron Morphology loader with braynsCircuitExplorer): is it among the plugins?"
    elif _NO_FILE.search(error.message):
        hint = " The path must exist on the nodes that render."
    return InvalidSetting(f"{where}.{field}", f"{model.path} cannot be loaded: {error.said.rstrip('.')}.{hint}")


async def _color(client: BraynsClient, model: Model, model_id: int, where: str) -> None:
    try:
        result = (await client.call("get-color-methods", {"id": model_id})).result
        methods = [str(method)[:80] for method in _as(list, "get-color-methods", result)[:100]]
    except RpcFailed:
        methods = []
    if model.colors is not None:
        method, values = model.colors.method, dict(model.colors.values)
        if method not in methods:
            raise InvalidSetting(f"{where}.colors.method", f"{method!r} is none of this model's: {', '.join(methods)}")
    elif model.color is not None:
        method, values = "solid", {"color": model.color}
        if method not in methods:
            raise InvalidSetting(f"{where}.color", f"this model takes no single colour, but {', '.join(methods)}")
    elif "morphology section" in methods:
        method = "morphology section"
        known = (await client.call("get-color-values", {"id": model_id, "method": method})).result
        values = {
            name: color for name, color in _SECTION_COLORS.items() if name in _as(list, "get-color-values", known)
        }
    else:
        return
    request: dict[str, Any] = {
        "id": model_id,
        "method": method,
        "values": {name: [*color, 1.0][:4] for name, color in values.items()},
    }
    try:
        await client.call("color-model", request)
    except RpcFailed as error:
        raise InvalidSetting(f"{where}.colors", str(error)) from error
