"""YAML, and so JSON, read strictly, with the line of each key kept for messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import yaml

from airflow_brayns.errors import InvalidSetting

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 50


@dataclass(frozen=True)
class Text:
    """A mapping that was read.

    :param value: the mapping as plain values.
    """

    value: dict[str, Any]
    _node: yaml.Node

    @classmethod
    def read(cls, text: str, source: str) -> Self:
        """Read a mapping.

        :param source: what the text is called in errors.
        :raises InvalidSetting: it is none, with the line; or holds what is not taken here.
        """
        try:
            _refuse_odd(yaml.parse(text, Loader=_LOADER), source)
            node = yaml.compose(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f" line {mark.line + 1}" if mark else ""
            raise InvalidSetting(f"{source}{where}", f"not YAML or JSON: {error.problem or error}") from None
        except yaml.YAMLError as error:
            raise InvalidSetting(source, f"not YAML or JSON: {error}") from None
        if not isinstance(node, yaml.MappingNode):
            raise InvalidSetting(source, "must be a mapping with `models`, `camera` and so on")
        _refuse_doubles(node, source)
        try:
            return cls(yaml.load(text, Loader=_LOADER), node)
        except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise InvalidSetting(source, f"not YAML or JSON: {error}") from None

    def line(self, location: tuple[int | str, ...]) -> int:
        """The line of the innermost key of a location that is in the text."""
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
    """Aliases, and what is nested so deep that PyYAML, which reads it by recursion in C, would take the process down."""
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise InvalidSetting(source, "YAML's aliases (*name) are not taken here; write it out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            where = f"{source} line {event.start_mark.line + 1}" if event.start_mark else source
            raise InvalidSetting(where, f"is nested deeper than {_DEEPEST}")


def _refuse_doubles(node: yaml.Node, source: str) -> None:
    """A key that is there twice: YAML takes the last one silently."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InvalidSetting(f"{source} line {key.start_mark.line + 1}", "a key must be a word")
            if key.value in seen:
                raise InvalidSetting(f"{source} line {key.start_mark.line + 1}, {key.value}", "is there twice")
            seen.add(key.value)
            _refuse_doubles(value, source)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_doubles(value, source)
