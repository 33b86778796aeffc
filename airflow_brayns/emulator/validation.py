"""Checks a request's parameters against its JSON schema, in the words that braynsService 3.10.1 uses, and reads them.

The rules are those of the released source (brayns/json/JsonValidator.cpp): `null` stands for a property's default;
what is read only may not be given and is never asked for; an array's items are looked at before their number.
"""

from __future__ import annotations

from typing import Any

from airflow_brayns.emulator.floats import single, spelt

Schema = dict[str, Any]


def problems(schema: Schema, value: Any) -> list[str]:
    """Everything wrong with `value`, each as braynsService words it; empty when it fits."""
    return list(_problems(schema, value, ""))


def _problems(schema: Schema, value: Any, path: str) -> list[str]:
    prefix = f"{path}: " if path else ""
    if value is None:
        value = schema.get("default")
    if "oneOf" in schema:
        fits = any(not _problems(one, value, path) for one in schema["oneOf"])
        return [] if fits else [f"{prefix}invalid oneOf, no schemas match input"]
    expected, found = schema.get("type"), _type_name(value)
    if expected and found != expected and not (expected == "number" and found == "integer"):
        return [f"{prefix}invalid type, expected {expected} got {found}"]
    if expected in ("integer", "number"):
        return [prefix + problem for problem in _out_of_range(schema, value)]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{prefix}invalid enum '{value}' not in {schema['enum']}"]
    if expected == "array":
        return _array_problems(schema, value, path, prefix)
    if expected == "object":
        return _object_problems(schema, value, path, prefix)
    return []


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _out_of_range(schema: Schema, value: Any) -> list[str]:
    result = []
    if "minimum" in schema and value < schema["minimum"]:
        result.append(f"value below minimum {spelt(value)} < {spelt(schema['minimum'])}")
    if "maximum" in schema and value > schema["maximum"]:
        result.append(f"value above maximum {spelt(value)} > {spelt(schema['maximum'])}")
    return result


def _array_problems(schema: Schema, value: list[Any], path: str, prefix: str) -> list[str]:
    result: list[str] = []
    for index, item in enumerate(value):
        result += _problems(schema["items"], item, f"{path}[{index}]")
    if "minItems" in schema and len(value) < schema["minItems"]:
        result.append(f"{prefix}item count below minimum {len(value)} < {schema['minItems']}")
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        result.append(f"{prefix}item count above maximum {len(value)} > {schema['maxItems']}")
    return result


def _object_problems(schema: Schema, value: dict[str, Any], path: str, prefix: str) -> list[str]:
    result: list[str] = []
    others = schema.get("additionalProperties")
    properties = schema.get("properties", {})
    for key, item in sorted(value.items()):
        below = f"{path}.{key}" if path else key
        if isinstance(others, dict):
            result += _problems(others, item, below)
        elif key not in properties:
            result.append(f"{prefix}unknown property '{key}'")
        elif properties[key].get("readOnly"):
            result.append(f"{prefix}read only property '{key}'")
        else:
            result += _problems(properties[key], item, below)
    for key in schema.get("required", []):
        if key not in value and not properties[key].get("readOnly"):
            result.append(f"{prefix}missing required property '{key}'")
    return result


def read(schema: Schema, value: Any) -> Any:
    """The parameters as the service keeps them: defaults filled in, numbers as wide as its floats."""
    if value is None:
        value = schema.get("default")
    if isinstance(value, dict) and "properties" in schema:
        known = {key: read(schema["properties"][key], item) for key, item in value.items()}
        left = {
            key: read(below, None)
            for key, below in schema["properties"].items()
            if key not in value and "default" in below
        }
        return {**known, **left}
    if isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        return {key: read(schema["additionalProperties"], item) for key, item in value.items()}
    if isinstance(value, list) and "items" in schema:
        return [read(schema["items"], item) for item in value]
    return single(value) if schema.get("type") == "number" and value is not None else value
