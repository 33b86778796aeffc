"""What every reader is held to: what must be, which errors are ours, and what can be kept wherever it goes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from typing import Any

import msgspec

from airflow_brayns.brayns.readiness import NotYet
from airflow_brayns.errors import BraynsError
from airflow_brayns.errors.plain import INDENT
from airflow_brayns.services.settings import ClusterSettings

UNSEEN = {chr(code) for code in (*range(9), *range(10, 32), *range(127, 160), 0x200B, 0x202E, 0x2028, 0x2029, 0xFEFF)}
SLOW = 1.0  # seconds of the processor that nothing may take; others may keep it busy
Case = Callable[[Random], None]


class Finding(AssertionError):  # noqa: N818 - named for what it is
    """Something that must not be."""


def must(holds: object, what: str) -> None:
    """Something that must be."""
    if not holds:
        raise Finding(what[:600])


def coded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode()


def ours(make: Callable[[], Any], *others: type[Exception]) -> Any:
    """What is made, or None with one of this package's errors."""
    try:
        return make()
    except (BraynsError, NotYet, *others) as error:
        must(len(str(error)) < 100_000, f"an error of {len(str(error))} characters")
        return None


@cache
def plain_settings() -> ClusterSettings:
    return ClusterSettings.read({})


# ---- what anybody says, and where it goes -------------------------------------------------------------------------------
def can_be_kept(value: Any, what: str) -> None:
    """An event, an XCom and a database's JSON column take it; no line of it looks like one of ours."""
    try:
        msgspec.msgpack.encode(value)
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, TypeError, OverflowError, RecursionError, NotImplementedError) as error:
        raise Finding(f"{what} cannot be sent: {type(error).__name__}: {error}") from None
    for one in _texts(value):
        must(not set(one) & (UNSEEN - {"\n"}), f"{what} holds what is not seen: {one[:200]!r}")
        must(all(line.startswith(INDENT) for line in one.splitlines()[1:]), f"{what} forges a line: {one[:200]!r}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield str(key)
            yield from _texts(one)
