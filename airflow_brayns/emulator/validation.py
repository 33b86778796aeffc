"""Checks a request's parameters against its JSON schema, in the words that braynsService uses."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


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


def problems(schema: Schema, value: Any, path: str = "") -> list[str]:
    """Everything wrong with `value`, each as braynsService 3.10.1 words it; empty when it fits."""
    prefix = f"{path}: " if path else ""
    expected = schema.get("type")
    found = _type_name(value)
    if expected and found != expected and not (expected == "number" and found == "integer"):
        return [f"{prefix}invalid type, expected {expected} got {found}"]
    result: list[str] = []
    if "enum" in schema and value not in schema["enum"]:
        result.append(f"{prefix}invalid enum '{value}' not in {schema['enum']}")
    if found in ("integer", "number"):
        if "minimum" in schema and value < schema["minimum"]:
            result.append(f"{prefix}value below minimum {value} < {schema['minimum']}")
        if "maximum" in schema and value > schema["maximum"]:
            result.append(f"{prefix}value above maximum {value} > {schema['maximum']}")
    if found == "array":
        if "minItems" in schema and len(value) < schema["minItems"]:
            result.append(f"{prefix}item count below minimum {len(value)} < {schema['minItems']}")
        if "maxItems" in schema and len(value) > schema["maxItems"]:
            result.append(f"{prefix}item count above maximum {len(value)} > {schema['maxItems']}")
        for index, item in enumerate(value):
            result += problems(schema.get("items", {}), item, f"{path}[{index}]")
    if found == "object" and "properties" in schema:
        for key, item in sorted(value.items()):
            below = f"{path}.{key}" if path else key
            if key in schema["properties"]:
                result += problems(schema["properties"][key], item, below)
            elif schema.get("additionalProperties") is False:
                result.append(f"{prefix}unknown property '{key}'")
        for key in schema.get("required", []):
            if key not in value:
                result.append(f"{prefix}missing required property '{key}'")
    return result


def numbers(count: int) -> Schema:
    """An array of exactly `count` numbers."""
    return {"type": "array", "items": {"type": "number"}, "minItems": count, "maxItems": count}


def record(properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """An object with these properties and no others."""
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema
