"""The scene on one service: loaded once, coloured and lit as the specification says."""

from __future__ import annotations

import json
import reprlib
from typing import Any, TypeVar

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import InvalidSetting, RenderingFailed, RpcFailed
from airflow_brayns.movie.plan import SceneFacts
from airflow_brayns.movie.specification import Model, MovieSpecification

Kind = TypeVar("Kind")
_SECTION_COLORS = {
    "soma": (1.0, 0.82, 0.35),
    "dendrite": (0.95, 0.42, 0.16),
    "apical_dendrite": (0.9, 0.2, 0.35),
    "axon": (0.25, 0.6, 1.0),
}
_METHOD_NOT_FOUND = -32601


async def prepare(client: BraynsClient, specification: MovieSpecification, *, timeout: float = 3600) -> SceneFacts:
    """Empty the service, load the models, colour and light them.

    :param timeout: seconds that a model may take to load.
    :raises InvalidSetting: the service cannot load, colour or light what is asked for; naming the key.
    """
    for method in ("clear-models", "clear-lights"):
        try:
            await client.call(method)
        except RpcFailed as error:
            if error.code != _METHOD_NOT_FOUND:
                raise
    for index, model in enumerate(specification.models):
        await _load(client, model, f"models.{index}", timeout)
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


async def _load(client: BraynsClient, model: Model, where: str, timeout: float) -> None:
    request = {"path": model.path, "loader_name": model.loader_name, "loader_properties": model.loader_properties}
    try:
        loaded = (await client.call("add-model", request, timeout=timeout)).result
    except RpcFailed as error:
        hint = (
            " Loaders come with plugins (the Neuron Morphology loader with braynsCircuitExplorer): is it among the plugins?"
            if "loader name" in str(error)
            else " The path must exist on the nodes that render."
        )
        raise InvalidSetting(f"{where}.path", f"{model.path} cannot be loaded: {error}.{hint}") from error
    for one in _as(list, "add-model", loaded):
        model_id = _as(dict, "add-model", one).get("model_id")
        await _color(client, model, _as(int, "add-model", model_id), where)


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
