"""The versions of the specification's format: which words came later than the version that a file says it is of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

LATEST: Final = 2


def schema_file(version: int = LATEST) -> Path:
    """The published JSON schema of a version."""
    return Path(__file__).parent / f"movie-{version}.schema.json"


@cache
def _first() -> Mapping[str, Mapping[str, Any]]:
    """The fields of each part, and of the whole (`MovieSpecification`), as version 1 has them."""
    schema = json.loads(schema_file(1).read_text())
    parts = {**schema["$defs"], "MovieSpecification": schema}
    return {name: part["properties"] for name, part in parts.items()}


def words_since_first(part: BaseModel, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a specification uses what version 1 does not have: a field, or a field's word."""
    known = _first()[type(part).__name__]
    for name in sorted(part.model_fields_set):
        value = getattr(part, name)
        if name not in known or value not in known[name].get("enum", [value]):
            yield (*at, name)
        elif isinstance(value, BaseModel):
            yield from words_since_first(value, (*at, name))
        elif isinstance(value, tuple):
            for index, one in enumerate(value):
                if isinstance(one, BaseModel):
                    yield from words_since_first(one, (*at, name, index))
