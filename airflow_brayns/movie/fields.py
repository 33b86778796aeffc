"""Types of a specification's fields: numbers, vectors and colours that a service can take, and errors that name a
field.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.errors.plain import shown
from airflow_brayns.movie.codecs import FASTEST, from_fraction


def _from_hex(value: Any) -> Any:
    """Read a colour that is written as `#f80` or `#ff8800`; another value is returned as it is."""
    if not isinstance(value, str):
        return value
    digits = value.removeprefix("#")
    if re.fullmatch(r"[0-9A-Fa-f]{3}", digits):
        digits = "".join(digit * 2 for digit in digits)
    if not value.startswith("#") or not re.fullmatch(r"[0-9A-Fa-f]{6}", digits):
        raise ValueError(
            "a colour is [red, green, blue] with numbers from 0 to 1, a fourth for its alpha (0 is transparent), or '#rrggbb'"
        )
    return [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]


# The largest coordinate: a camera's way is reckoned in floats, and beyond it there is nothing but infinities.
LARGEST = 1e12
MOST_FRAMES = 10_000_000
MOST_NODE_HOURS = 1e9
Number = Annotated[float, Field(allow_inf_nan=False, ge=-LARGEST, le=LARGEST)]
Angle = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Rate = Annotated[
    float,
    Field(gt=0, le=FASTEST),
    BeforeValidator(from_fraction),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": FASTEST},
                {"type": "string", "pattern": "^[0-9]+([.][0-9]+)?(/[0-9]+)?$"},
            ]
        }
    ),
]
NodeHours = Annotated[float, Field(gt=0, le=MOST_NODE_HOURS)]
Vector = tuple[Number, Number, Number]
Share = Annotated[float, Field(ge=0, le=1)]
Color = Annotated[
    tuple[Share, ...],
    Field(min_length=3, max_length=4),
    BeforeValidator(_from_hex),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "array",
                    "items": {"type": "number", "minimum": 0, "maximum": 1},
                    "minItems": 3,
                    "maxItems": 4,
                },
                {"type": "string", "pattern": "^#([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})$"},
            ]
        }
    ),
]


def _no_switch(value: Any) -> None:
    if isinstance(value, bool):
        raise ValueError(f"must be a number or a text, not {str(value).lower()}")
    if isinstance(value, list | tuple):
        for one in value:
            _no_switch(one)


def _takes_switch(annotation: Any) -> bool:
    return annotation is bool or any(_takes_switch(one) for one in get_args(annotation))


_PARAMETER = re.compile(r"^:param ([a-z0-9_, ]+): (.*?)(?=^:|\Z)", re.MULTILINE | re.DOTALL)


def _with_help(schema: dict[str, Any], part: type[BaseModel]) -> None:
    """Put what a part's docstring says of it and of each field into its JSON schema, for editors."""
    schema["description"] = " ".join((inspect.getdoc(part) or "").partition("\n:param")[0].split())
    for one in reversed(part.__mro__):
        for names, told in _PARAMETER.findall(inspect.cleandoc(one.__doc__ or "") if issubclass(one, Part) else ""):
            for name in names.split(", "):
                schema["properties"][name]["description"] = " ".join(told.replace("`", "").split())


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_with_help)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switches(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1: only a field that is a switch takes one."""
        if not _takes_switch(cls.model_fields[str(info.field_name)].annotation):
            _no_switch(value)
        return value


class Misplaced(ValueError):  # noqa: N818
    """The error for fields that do not go together, with the field at which it is to be mended."""

    def __init__(self, location: tuple[str | int, ...], text: str) -> None:
        super().__init__(text)
        self.location, self.text = location, text


def misplaced(location: tuple[str | int, ...], text: str) -> Misplaced:
    return Misplaced(location, text)


def is_path(text: str) -> bool:
    try:
        return "\0" not in text and len(text.encode()) <= 4095
    except UnicodeEncodeError:
        return False


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:|[A-Za-z]:[\\\\/]")


def path_problem(path: str, *, home: bool = False) -> str:
    """Why a path would lead elsewhere than whoever wrote it meant; empty for one that does not.

    :param home: whether a `~` at its beginning is the worker's home.
    """
    if _SCHEME.match(path):
        return f"{path[:200]!r} is an address, or a path of Windows, and no path of a file here; write one"
    if path.startswith("~") and not home:
        return f"{path[:200]!r}: `~` is not known here; write the path out"
    if re.search(r"(^|/)\$[A-Za-z_{]", path):
        return f"{path[:200]!r}: variables are not known here; write the path out"
    return ""


def file_problem(path: Path) -> str:
    """What to say of a path that is there and no file: to read a pipe or a device may take for ever. Empty for another."""
    return f"{path} is no file, but a folder, a pipe or a device" if path.exists() and not path.is_file() else ""


def check_is_file(field: str, path: Path) -> None:
    """Check that a path that is there is a file.

    :raises InvalidSetting: it is none; the error names the field.
    """
    if told := file_problem(path):
        raise InvalidSetting(field, f"{told}.", remedy="name a file.")


def text_of(path: Path, field: str, encoding: str = "utf-8") -> str:
    """The text of a file of a movie, which is in UTF-8 wherever it is read, with its line ends as they are.

    :param field: what names the file.
    :raises InvalidSetting: it cannot be read; the error names the field, or the line that is in another encoding.
    """
    try:
        return path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        why = f"It cannot be read: line {line} has a byte {error.object[error.start]:#04x}, and that is no UTF-8."
        raise InvalidSetting(path.name, why, remedy="save it as UTF-8.") from None
    except OSError as error:
        raise InvalidSetting(
            field, f"{path} cannot be read: {error}", remedy="give a file that the worker can read."
        ) from None


def part_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel] | None:
    """The part at a place of a specification; None where there is none."""
    found: Any = model
    for part in location:
        if isinstance(part, str):
            fields = found.model_fields if found is not None else {}
            found = part_in(fields[part].annotation) if part in fields else None
    return found  # type: ignore[no-any-return]


def keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys that are known at a place of a specification; empty where any are."""
    found = part_at(model, location)
    return list(found.model_fields) if found is not None else []


def _keys_inside(part: type[BaseModel] | None, key: str) -> list[str]:
    """The keys of a part whose own parts have a key."""
    fields = part.model_fields.items() if part is not None else ()
    return [
        name for name, one in fields if (inner := part_in(one.annotation)) is not None and key in inner.model_fields
    ]


def part_in(annotation: Any) -> type[BaseModel] | None:
    """The part that a field takes; None for one that takes none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := part_in(one)) is not None), None)


# What others call a key, such as the official client and other programs, and the keys that it may be here.
_MEANT = {
    "type": ("kind", "name", "projection", "method"),
    "name": ("kind", "projection", "title"),
    "position": ("translation",),
    "normal": ("coefficients",),
    "look_at": ("target",),
    "samples": ("samples_per_pixel",),
    "spp": ("samples_per_pixel",),
    "size": ("resolution",),
    "framerate": ("fps",),
    "duration": ("frames",),
}


def unknown_key(key: str, known: Sequence[str], inside: Sequence[str] = ()) -> str:
    """What to say of a key that there is not: the one that was meant, as far as can be guessed, and all there are.

    :param inside: the known keys in which there is one of that name.
    """
    meant = [one for one in _MEANT.get(key, ()) if one in known]
    near = meant or get_close_matches(key, known, 1) or get_close_matches(key.lower(), known, 1)
    remedy = f"did you mean {near[0]}?" if near else "correct it, or leave it out."
    if inside and not meant:
        remedy = f"write it inside of {' or '.join(f'`{one}`' for one in inside)}."
    return f"{remedy}\nIt is not known here. Known: {', '.join(known)}."


# What pydantic puts into a place for a field that takes several types.
_TYPE = re.compile(r"(tuple|list|dict|function-[a-z]+|constrained-[a-z]+)\[.*\]|constrained-str|FrameTable")


def first_of(model: type[BaseModel], error: ValidationError) -> tuple[tuple[int | str, ...], str]:
    """Where the first mistake in a specification is, and what is wrong there."""
    found = error.errors()
    first = found[0]
    whole, unknown = first["loc"], first["type"] == "extra_forbidden"
    location = tuple(
        part for part in whole[: len(whole) - unknown] if not (isinstance(part, str) and _TYPE.fullmatch(part))
    )
    location = (*location, *whole[len(whole) - unknown :])  # a key that there is not may have any name
    inner = first.get("ctx", {}).get("error")
    message = str(inner) if isinstance(inner, ValueError) else first["msg"]
    if isinstance(inner, Misplaced):
        return (*location, *inner.location), inner.text
    if unknown:
        key, part = str(location[-1]), part_at(model, location[:-1])
        message = unknown_key(key, keys_at(model, location[:-1]), _keys_inside(part, key))
    elif first["type"] == "missing" and isinstance(location[-1], str):
        beside = [
            f"`{one['loc'][-1]}`"
            for one in found
            if one["type"] == "extra_forbidden" and one["loc"][:-1] == first["loc"][:-1]
        ]
        instead = f" in place of {' or '.join(beside)}, which is not known here" if beside else ""
        message = f"missing, and required: write `{location[-1]}: …`{instead}"
    elif first["type"] == "missing" and isinstance(have := location[-1], int):
        location = location[:-1]
        lacking = sum(one["type"] == "missing" and one["loc"][:-1] == first["loc"][:-1] for one in found)
        message = f"missing: it has {have} of {have + lacking} values (it is {shown(first['input'])})"
    elif first["type"] != "value_error":
        message = f"{_in_plain_words(first)} (it is {shown(first['input'])})"
    return location, message


def _in_plain_words(error: Mapping[str, Any]) -> str:
    """pydantic's message, where it has words of Python for what somebody has written in YAML."""
    about = error.get("ctx", {})
    match error["type"]:
        case "tuple_type" if isinstance(error["input"], Mapping):
            return "must be a list, such as [{key: value}]"
        case "tuple_type":
            return "must be a list, such as [1, 2]"
        case "model_type" | "dict_type":
            return "must be keys with values, such as {key: value}"
        case "too_long":
            return f"has {about['actual_length']} values; at most {about['max_length']} are taken"
        case "too_short":
            return f"has {about['actual_length']} values; at least {about['min_length']} are needed"
    return str(error["msg"])


def dotted(location: tuple[int | str, ...]) -> str:
    """A place in a specification as it is written in messages."""
    return ".".join(str(part) for part in location)
