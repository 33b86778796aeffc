"""What a scene's words are to braynsService: the calls that each is sent as, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from airflow_brayns.movie.lights import Light, Turned
from airflow_brayns.movie.model import Model
from airflow_brayns.movie.shapes import SHAPES, Clipping, Primitive
from airflow_brayns.movie.surface import ColorRamp, Transform


@dataclass(frozen=True)
class SceneCall:
    """One call.

    :param field: the key of the specification that it is for, for messages.
    """

    method: str
    params: Any
    field: str


def color_call(model: Model, model_id: int, where: str) -> SceneCall | None:
    """The call that colours a model; None where the specification says nothing of it.

    :param model_id: what the service calls the model.
    :param where: the model's key in the specification, such as `models.0`.
    """
    if model.colors is not None:
        method, values, field = model.colors.method, model.colors.values, "colors"
    elif model.color is not None:
        method, values, field = "solid", {"color": model.color}, "color"
    else:
        return None
    params = {"id": model_id, "method": method, "values": {name: [*one, 1.0][:4] for name, one in values.items()}}
    return SceneCall("color-model", params, f"{where}.{field}")


def ramp_call(ramp: ColorRamp, model_id: int, has: Mapping[str, Any]) -> dict[str, Any]:
    """What `set-color-ramp` takes.

    :param has: the range and the colours that the model has; what the specification leaves out stays.
    """
    return {"id": model_id, "color_ramp": {**has, **ramp.parameters()}}


def model_calls(model: Model, model_id: int, where: str, *, anew: bool = False) -> Iterator[SceneCall]:
    """The calls that make a model that was loaded look as it should, but for its colours.

    :param model_id: what the service calls the model.
    :param where: the model's key in the specification, such as `models.0`.
    :param anew: whether it may look otherwise now, by an earlier frame; else it was just loaded.
    """
    change: dict[str, Any] = {} if model.transform is None else {"transform": model.transform.parameters()}
    if anew:
        change = {"transform": (model.transform or Transform()).parameters(), "is_visible": model.visible}
    elif not model.visible:
        change["is_visible"] = False
    if change:
        field = "transform" if "transform" in change else "visible"
        yield SceneCall("update-model", {"model_id": model_id, "model": change}, f"{where}.{field}")
    if model.material is not None:
        params = {"model_id": model_id, "material": model.material.parameters()}
        yield SceneCall(f"set-material-{model.material.kind}", params, f"{where}.material")


def light_calls(lights: Sequence[Light], camera: Turned | None = None) -> Iterator[SceneCall]:
    """The calls that light a scene which has no lights.

    :param camera: the camera in whose frame the scene is; None for no frame yet: lights that go with it are then not
        placed, and there is none of them.
    """
    for index, light in enumerate(lights):
        if light.visible and (camera is not None or not light.follow_camera):
            params = light.parameters(camera if light.follow_camera else None)
            yield SceneCall(f"add-light-{light.kind}", params, f"lights.{index}")


def primitive_calls(primitives: Sequence[Primitive]) -> Iterator[SceneCall]:
    """The calls that add shapes: one for all that stand together and are of one kind."""
    for kind, group in groupby(enumerate(primitives), lambda one: one[1].kind):
        shapes = list(group)
        params = [{"geometry": one.geometry(), "color": [*one.color, 1.0][:4]} for _, one in shapes]
        yield SceneCall(f"add-{SHAPES[kind][0]}", params, f"primitives.{shapes[0][0]}")


def clipping_calls(clipping: Sequence[Clipping]) -> Iterator[SceneCall]:
    """The calls that cut away, of a scene in which nothing is cut away: one for each shape."""
    for index, one in enumerate(clipping):
        params = {"primitives": [one.geometry()], "invert_normals": one.invert_normals}
        yield SceneCall(f"add-clipping-{SHAPES[one.kind][0]}", params, f"clipping.{index}")
