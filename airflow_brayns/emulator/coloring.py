"""How a model's surface looks: colour methods, colour ramps and materials."""

from __future__ import annotations

from typing import Any

from airflow_brayns.emulator.engine import Engine
from airflow_brayns.emulator.rpc import Call, Method, internal, invalid_params, invalid_request, without_code
from airflow_brayns.emulator.scene import SECTIONS, Content

MATERIALS: dict[str, dict[str, Any]] = {
    "carpaint": {"flake_density": 0},
    "emissive": {"intensity": 1, "color": [1, 1, 1]},
    "ghost": {},
    "glass": {"index_of_refraction": 1.5},
    "matte": {"opacity": 1},
    "metal": {"roughness": 1},
    "phong": {"opacity": 1},
    "plastic": {"opacity": 1},
    "principled": {
        "anisotropy": 0, "anisotropy_rotation": 0, "back_light": 0, "coat": 0, "coat_color": [1, 1, 1], "coat_ior": 1.5,
        "coat_roughness": 0, "coat_thickness": 1, "diffuse": 1, "edge_color": [1, 1, 1], "ior": 1, "metallic": 0,
        "roughness": 0, "sheen": 0, "sheen_color": [1, 1, 1], "sheen_roughness": 0.2, "sheen_tint": 0, "specular": 1,
        "thickness": 1, "thin": False, "transmission": 0, "transmission_color": [1, 1, 1], "transmission_depth": 1,
    },
}  # fmt: skip


class Coloring:
    """The methods that set and tell these."""

    def __init__(self, engine: Engine) -> None:
        self._scene = engine.scene

    def methods(self) -> dict[str, Method]:
        """Each method by its name."""
        result: dict[str, Method] = {
            "get-color-methods": lambda call: list(self._content(call).color_methods),
            "get-color-values": lambda call: self._content(call).color_values(call.params["method"]),
            "color-model": self._color_model,
            "get-color-ramp": self._get_ramp,
            "set-color-ramp": self._set_ramp,
            "get-material-type": lambda call: _material(self._content(call))[0],
        }
        for name in MATERIALS:
            result[f"get-material-{name}"] = self._material_getter(name)
            result[f"set-material-{name}"] = self._material_setter(name)
        return result

    def _content(self, call: Call) -> Content:
        return self._scene.get(call.params["id"]).content

    def _color_model(self, call: Call) -> None:
        values, method = call.params["values"], call.params["method"]
        if not values:
            raise invalid_params("Color values cannot be empty")
        content = self._content(call)
        content.color_values(method)
        if method == "solid":
            if "color" not in values:
                raise internal("Missing solid method input key 'color'")
            content.color, content.section_colors, content.group_colors = tuple(values["color"]), {}, ("", {})
        elif method == "morphology section":
            number = {name: section for section, name in SECTIONS.items()}
            content.group_colors = ("", {})  # what is said last is seen
            content.section_colors.update(
                {number[name]: tuple(rgba) for name, rgba in values.items() if name in number}
            )
        elif method in content.color_groups:
            content.group_colors = (method, {name: tuple(rgba) for name, rgba in values.items()})
        else:
            raise internal(f"The emulator does not colour by '{method}'")
        self._scene.touch()

    def _get_ramp(self, call: Call) -> dict[str, Any]:
        ramp = self._content(call).color_ramp
        if ramp is None:
            raise without_code("The requested model does not have a color ramp")
        return ramp

    def _set_ramp(self, call: Call) -> None:
        ramp = self._content(call).color_ramp
        if ramp is None:
            raise invalid_request("The requested model does not have a color ramp")
        changes = call.params["color_ramp"]
        low, high = changes.get("range", ramp["range"])
        if low >= high:
            raise internal("Color ramp range must define a non zero positive interval")
        if not changes.get("colors", ramp["colors"]):
            raise internal("A color ramp must have at least one color")
        ramp.update(changes)
        self._scene.touch()

    def _material_getter(self, name: str) -> Method:
        def get(call: Call) -> Any:
            current, values = _material(self._content(call))
            if current != name:
                raise invalid_request(f"Invalid material type (should be '{current}')")
            return values

        return get

    def _material_setter(self, name: str) -> Method:
        def change(call: Call) -> None:
            content = self._scene.get(call.params["model_id"]).content
            _material(content)
            content.material = (name, {**MATERIALS[name], **call.params["material"]})  # nothing of the one before stays
            self._scene.touch()

        return change


def _material(content: Content) -> tuple[str, dict[str, Any]]:
    if content.material is None:
        raise without_code("The model does not have material")
    return content.material
