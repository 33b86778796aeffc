"""Fields of the connection, each described once: its label and meaning, what needs it, and how a form asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo

# The names of types in JSON schema; of a field that takes several types, the first of these is what a form asks for.
_WORDS = {dict: "object", list: "array", str: "string", bool: "boolean", float: "number", int: "integer"}


class Needed(IntEnum):
    """The use that a field is needed for; a use needs the fields of its own line and of those below it."""

    TO_START = 0  # ask for nodes, and start services
    TO_WAIT = 1  # wait for services that somebody else started: plain values, none of them secret
    TO_CONNECT = 2  # connect: all for whom these are the same share one connection and one question
    TO_FIND = 3  # find the cluster: these must not change between asking for nodes and giving them back


def setting(
    label: str,
    meaning: str,
    default: Any = None,
    *,
    needed: Needed = Needed.TO_START,
    code: bool = False,
    form: Mapping[str, Any] | None = None,
    **checks: Any,
) -> Any:
    """Make a field of a pydantic model, with its whole description.

    :param label: its label in the form.
    :param meaning: one or two sentences, for the form and the documentation.
    :param default: its value where nothing is given.
    :param needed: the use that needs it.
    :param code: whether its value is run as it is, so that no template may make it.
    :param form: JSON schema for the form, beyond what the field's type says.
    :param checks: checks of pydantic's, such as `ge`.
    """
    about: dict[str, Any] = {"needed": int(needed), "code": code, "form": dict(form or {})}
    return Field(default, title=label, description=meaning, json_schema_extra={"about": about}, **checks)


def needed_for(fields: Mapping[str, FieldInfo], use: Needed) -> tuple[str, ...]:
    """The names of the fields that a use needs."""
    return tuple(name for name, field in fields.items() if _about(field)["needed"] >= use)


def templated(fields: Mapping[str, FieldInfo]) -> tuple[str, ...]:
    """The names of the fields that a template may make."""
    return tuple(name for name, field in fields.items() if not _about(field)["code"])


def form_of(
    fields: Mapping[str, FieldInfo], sections: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> dict[str, dict[str, Any]]:
    """The fields as Airflow's form of a connection wants them: each may be left empty.

    :param sections: what is folded, under which heading; the others are open.
    """
    folded = {name: heading for heading, names in sections.items() for name in names}
    return {
        name: {
            "label": field.title,
            "description": field.description,
            "schema": _schema(field) | ({"section": folded[name]} if name in folded else {}),
        }
        for name, field in fields.items()
    }


def asked_as(field: FieldInfo) -> dict[str, Any]:
    """JSON schema of a field that may be left empty, and then has no default of its own."""
    schema = _schema(field)
    schema.pop("default", None)
    if None not in schema.get("enum", [None]):
        schema["enum"] = [None, *schema["enum"]]
    return schema


def parameters_of(fields: Mapping[str, FieldInfo], indent: str = "    ") -> str:
    """The fields as parameters in a docstring."""
    return "\n".join(f"{indent}:param {name}: {_sentence(field)}" for name, field in fields.items())


def _about(field: FieldInfo) -> dict[str, Any]:
    assert isinstance(field.json_schema_extra, dict)
    return cast("dict[str, Any]", field.json_schema_extra["about"])


def _schema(field: FieldInfo) -> dict[str, Any]:
    choices = list(_choices(field.annotation))
    types = set(_types(field.annotation))
    word = next(word for kind, word in _WORDS.items() if kind in types)
    schema: dict[str, Any] = {"type": [word, "null"]}
    if choices:
        schema["enum"] = [*([None] if type(None) in types else []), *choices]
    if word == "array":
        schema["items"] = {"type": "string"}
    more = _about(field)["form"]
    if field.default and more.get("default", field.default) is not None:  # a form stores what it shows
        schema["default"] = field.default
    return {**schema, **{key: value for key, value in more.items() if key != "default"}}


def _sentence(field: FieldInfo) -> str:
    return f"{field.description} Default: ``{field.default}``." if field.default else str(field.description)


def _parts(annotation: Any) -> Iterator[Any]:
    """The types that a union is made of, `Annotated` taken off; another type itself."""
    if get_origin(annotation) is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _choices(annotation: Any) -> Iterator[Any]:
    for part in _parts(annotation):
        if get_origin(part) is Literal:
            yield from get_args(part)


def _types(annotation: Any) -> Iterator[type]:
    yield from (type(choice) for choice in _choices(annotation))
    for part in _parts(annotation):
        yield get_origin(part) or part
