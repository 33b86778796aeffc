"""YAML, and so JSON, that is read strictly; the line of each key is kept for messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import yaml

from airflow_brayns.errors import InvalidSetting

_DEEPEST = 50


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML reads YAML 1.1, where `yes` is true, `0100` is 64 and `1:30` is 90. This is the core schema of YAML 1.2, and JSON's."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def _int(loader: Any, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_CORE = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)
for _name, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})\\Z"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_LOADER: Any = _Loader


@dataclass(frozen=True)
class Text:
    """The text of a mapping that was read, with its lines.

    :param value: the mapping as plain values.
    """

    value: dict[str, Any]
    _node: yaml.Node

    @classmethod
    def read(cls, text: str, source: str) -> Self:
        """Read a mapping.

        :param source: what the text is called in errors.
        :raises InvalidSetting: the text is no mapping, or holds what is not taken here; the error names the line.
        """
        try:
            _refuse_odd(yaml.parse(text, Loader=_LOADER), source)
            node = yaml.compose(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f" line {mark.line + 1}" if mark else ""
            raise InvalidSetting(
                f"{source}{where}",
                f"not YAML or JSON: {error.problem or error}",
                remedy="correct the file: `airflow brayns movie check FILE` reads it as a task does.",
            ) from None
        except yaml.YAMLError as error:
            raise InvalidSetting(
                source,
                f"not YAML or JSON: {error}",
                remedy="correct the file: `airflow brayns movie check FILE` reads it as a task does.",
            ) from None
        if not isinstance(node, yaml.MappingNode):
            raise InvalidSetting(source, "must be a mapping with `models`, `camera` and so on")
        _refuse_doubles(node, source)
        try:
            return cls(yaml.load(text, Loader=_LOADER), node)
        except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise InvalidSetting(
                source,
                f"not YAML or JSON: {error}",
                remedy="correct the file: `airflow brayns movie check FILE` reads it as a task does.",
            ) from None

    def line(self, location: tuple[int | str, ...]) -> int:
        """The line number of a location in the text, or of the innermost of its keys that is there."""
        node = self._node
        line: int = node.start_mark.line + 1
        for part in location:
            if isinstance(node, yaml.MappingNode):
                found = next(((key, value) for key, value in node.value if key.value == part), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            else:
                break
        return line


def _refuse_odd(events: Iterable[yaml.Event], source: str) -> None:
    """Refuse aliases, and what is nested so deep that PyYAML, which reads by recursion in C, would take the process
    down.
    """
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise InvalidSetting(source, "YAML's aliases (*name) are not taken here.", remedy="write it out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            where = f"{source} line {event.start_mark.line + 1}" if event.start_mark else source
            raise InvalidSetting(where, f"It is nested deeper than {_DEEPEST}.", remedy="write it flatter.")


def _refuse_doubles(node: yaml.Node, source: str) -> None:
    """Refuse a key that is there twice, of which YAML would silently take the last one."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InvalidSetting(
                    f"{source} line {key.start_mark.line + 1}",
                    "a key must be a word.",
                    remedy="write a word before the colon.",
                )
            if key.value in seen:
                raise InvalidSetting(
                    f"{source} line {key.start_mark.line + 1}, {key.value}",
                    "It is there twice.",
                    remedy="leave one of them out.",
                )
            seen.add(key.value)
            _refuse_doubles(value, source)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_doubles(value, source)
