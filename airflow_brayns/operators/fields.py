"""Fields of movie operators as they were given or templated, checked before a node is asked for."""

from __future__ import annotations

import contextlib
import os
import reprlib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.store import remove_frames
from airflow_brayns.operators.base import (
    BraynsOperator,
    is_set,
)
from airflow_brayns.operators.file_values import renderer_of
from airflow_brayns.settings import literal

_SUFFIXES = (".yaml", ".yml", ".json")


def read_specification(operator: BraynsOperator, value: Any, context: Mapping[str, Any] | None) -> MovieSpecification:
    """A specification as it was given: a file's path, YAML or JSON, or plain values.

    :param context: a file's text is a template too, rendered with plain values of this (see `operators.file_values`); None to
        take it as it is.
    :raises InvalidSetting: naming the key and, in a file, its line.
    """
    if isinstance(value, MovieSpecification):
        return value
    if isinstance(value, str) and "\n" not in value and value.strip().endswith(_SUFFIXES):
        path = Path(value.strip()).expanduser()
        more = getattr(operator, "template_values", None)
        if is_set(more) and not isinstance(more := literal(more) if isinstance(more, str) else more, Mapping):
            raise InvalidSetting("template_values", f"must be a dict, not {reprlib.repr(more)}")
        found = MovieSpecification.read_file(path, renderer_of(path, context, more or None))
    elif isinstance(value, str):
        plain = literal(value) if value.lstrip()[:1] == "{" else value
        found = MovieSpecification.check(plain) if isinstance(plain, dict) else MovieSpecification.read(value)
    elif isinstance(value, Mapping):
        found = MovieSpecification.check(dict(value))
    else:
        raise InvalidSetting("specification", f"must be a file's path, YAML, JSON or a dict, not {reprlib.repr(value)}")
    if operator.read_settings().scheduler == "local":
        for index, model in enumerate(found.models):
            if not Path(model.path).exists():
                raise InvalidSetting(f"models.{index}.path", f"{model.path} does not exist on this machine")
    return found


def check_output(path: str, field: str = "output_file") -> Path:
    """A path whose folder can be written, made if need be.

    :raises InvalidSetting: naming the field.
    """
    if not path or "\0" in path:
        raise InvalidSetting(field, f"{path[:200]!r} is not a path")
    try:
        os.fsencode(path)
        target = Path(path).expanduser().absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
    except (UnicodeEncodeError, RuntimeError):  # half a character; no such user's home
        raise InvalidSetting(field, f"{path[:200]!r} is not a path") from None
    except OSError as error:
        raise InvalidSetting(
            field, f"{target.parent} cannot be made: {error.strerror}. Choose a folder that the worker may write."
        ) from error
    if not os.access(target.parent, os.W_OK):
        raise InvalidSetting(field, f"{target.parent} cannot be written by the worker. Choose another folder.")
    return target


def seconds_of(field: str, value: Any) -> float | None:
    """A number of seconds or a timedelta that may have been templated.

    :raises InvalidSetting: naming the field.
    """
    if not is_set(value):
        return None
    try:
        seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidSetting(field, f"must be a number of seconds, not {reprlib.repr(value)}") from None
    if not 0 < seconds <= 1e9:  # NaN is neither
        raise InvalidSetting(field, f"must be more than 0 seconds and at most 1e9, not {reprlib.repr(value)}")
    return seconds


def is_on_cluster(value: Any) -> bool:
    """`frames_on`, that may have been templated.

    :raises InvalidSetting: it is neither of both.
    """
    if value not in ("worker", "cluster"):
        raise InvalidSetting("frames_on", f"{value!r} is none of worker, cluster")
    return bool(value == "cluster")


def drop_frames(folder: Path) -> None:
    """Take a movie's frames away, and their folder if nothing else is in it; the movie is made, so nothing here fails."""
    with contextlib.suppress(OSError):
        remove_frames(folder)
