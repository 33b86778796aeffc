"""Lists and dicts that came as text."""

from __future__ import annotations

import ast
import json
from typing import Any

from airflow_brayns.errors import InvalidSetting


class _Doubled(Exception):  # noqa: N818
    """A key that is there twice: of two values nobody knows which was meant."""

    def __init__(self, key: Any) -> None:
        super().__init__(key)
        self.key = key


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Doubled(key)
        found[key] = value
    return found


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _python(text: str) -> Any:
    for node in ast.walk(ast.parse(text.strip(), mode="eval")):
        if isinstance(node, ast.Dict):
            _once([(key.value, None) for key in node.keys if isinstance(key, ast.Constant)])
    return ast.literal_eval(text.strip())


def literal(text: str) -> Any:
    """A list or dict written as JSON, or as Python prints it when a template is rendered to text; else the text itself.

    :raises InvalidSetting: a key is there twice.
    """
    for read in (_json, _python):
        try:
            return read(text)
        except _Doubled as error:
            raise InvalidSetting(str(error.key), "It is there twice.", remedy="leave one of them out.") from None
        # TypeError: a set of lists, which is no value; the last two: nested too deep.
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text
