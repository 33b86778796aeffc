"""Readers of operators' fields, which make plain values of what was given or templated."""

from __future__ import annotations

import math
import re
import reprlib
from datetime import timedelta
from typing import Any

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.fields import MOST_NODE_HOURS
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.settings import literal

_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
_SWITCH = {**dict.fromkeys(("true", "yes", "on", "1"), True), **dict.fromkeys(("false", "no", "off", "0"), False)}
PATIENCE_SECONDS, MOST_PATIENCE_SECONDS = 5.0, 60.0  # a longer wait is the triggerer's


def whole_number(field: str, value: Any) -> int:
    """A number that may have been templated: 2, 2.0 or '2', but neither 2.7 nor true.

    :raises InvalidSetting: the value is no whole number; the error names the field.
    """
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise InvalidSetting(field, f"must be a whole number, not {reprlib.repr(value)}")
    return int(value)


def _seconds(value: Any) -> float:
    """Seconds of a number or a timedelta.

    :raises ValueError: it is neither.
    """
    if isinstance(value, bool):
        raise ValueError("no number")
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def is_set(value: Any) -> bool:
    """Tell whether a field has a value: a template of nothing renders to None, to an empty text, or to the word None."""
    return value is not None and value not in ("", "None")


def truth_of(field: str, value: Any) -> bool:
    """A switch that may have been templated: true or false in any spelling of Python's, JSON's or YAML's; nothing is false.

    :raises InvalidSetting: the value is neither; the error names the field.
    """
    word = str(value).strip().lower() if is_set(value) else "false"
    if word not in _SWITCH:
        raise InvalidSetting(field, f"must be true or false, not {reprlib.repr(value)}")
    return _SWITCH[word]


def word_list(field: str, value: Any) -> list[str]:
    """Read a list of texts that may have been templated: a list, a list as text, or words between commas.

    :raises InvalidSetting: the value is no such list; the error names the field.
    """
    if not is_set(value):
        return []
    if isinstance(value, str):
        text = value.strip()
        value = literal(text) if text.startswith(("[", "(")) else [word.strip() for word in text.split(",")]
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise InvalidSetting(field, f"must be a list of texts, not {reprlib.repr(value)}")
    return list(value)


def patience_of(value: Any) -> float:
    """Read the field `patience`: the seconds that a deferrable task waits in the worker first.

    :raises InvalidSetting: the value is no number of seconds from 0 to 60.
    """
    try:
        seconds = _seconds(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidSetting("patience", f"must be a number of seconds, not {reprlib.repr(value)}") from None
    if not 0 <= seconds <= MOST_PATIENCE_SECONDS:  # NaN is neither
        raise InvalidSetting("patience", f"must be from 0 to {MOST_PATIENCE_SECONDS:.0f} seconds, not {seconds:g}")
    return seconds


def booking_of(value: Any) -> Booking:
    """Read the booking that a task before handed on, however it was templated.

    :raises InvalidSetting: the value is no booking.
    """
    found = literal(value) if isinstance(value, str) else value
    try:
        return Booking.from_json(found)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise InvalidSetting(
            "allocation",
            f"{str(value)[:80]!r} is not that.",
            remedy="pass what AllocateNodesOperator or StartBraynsServiceOperator returned.",
        ) from None


def started_of(value: Any) -> dict[str, Any]:
    """Read the dict that `StartBraynsServiceOperator` handed on, however it was templated."""
    booking_of(value)
    return dict(literal(value) if isinstance(value, str) else value)


def seconds_of(field: str, value: Any) -> float | None:
    """Read a number of seconds, or a timedelta, that may have been templated; None where nothing is given.

    :raises InvalidSetting: the value is neither, or not more than 0; the error names the field.
    """
    if not is_set(value):
        return None
    try:
        seconds = _seconds(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidSetting(field, f"must be a number of seconds, not {reprlib.repr(value)}") from None
    if not 0 < seconds <= 1e9:  # NaN is neither
        raise InvalidSetting(field, f"must be more than 0 seconds and at most 1e9, not {reprlib.repr(value)}")
    return seconds


def node_hours_of(field: str, value: Any) -> float | None:
    """Read a number of node-hours that may have been templated; None where nothing is given.

    :raises InvalidSetting: the value is no number, or not more than 0; the error names the field.
    """
    if not is_set(value):
        return None
    try:
        hours = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        hours = math.nan
    if not 0 < hours <= MOST_NODE_HOURS:  # NaN is neither
        raise InvalidSetting(
            field,
            f"{reprlib.repr(value)} is none.",
            remedy="give a number of node-hours above 0, or leave it out.",
        )
    return hours
