"""YAML, and so JSON, that is read strictly; the line of each key is kept for messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import yaml

from airflow_brayns.errors import InvalidSetting

_DEEPEST = 50
_MOST_DIGITS = 300  # of a number: none that anybody means has more, and Python writes none of more than 4300
# JSON writes what lies beyond 16 bits in two halves, as Python's does with each emoji.
_HALVES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\.", re.IGNORECASE | re.DOTALL)
# Of a key that takes colours, whatever follows them; another's comment is one unless it can hardly be anything else.
_COLOR = re.compile(r"[ \t\[]*:?[ \t\[]*(?:\r?\n[ \t\[]*(?:- *)?)?(#[0-9A-Fa-f]{3,8})\b")
_SIX_DIGITS = re.compile(r"[ \t]*:?[ \t]*(#[0-9A-Fa-f]{6})[ \t]*\r?$", re.MULTILINE)
# Before the first # of a line, and from there on: a colour that hides the end of a list or mapping.
_BEFORE_HIDING = re.compile(r"(?:^|[ \t{,\[])([a-z]{1,30}_)?colors?[ \t]*:[ \t\[]*$")
_HIDING = re.compile(r"#[0-9A-Fa-f]{3,8}\b(?=.*[]}])")
_TAKES_COLORS = re.compile(r"(.+_)?color|colors")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML reads YAML 1.1, where `yes` is true, `0100` is 64 and `1:30` is 90. This is the core schema of YAML 1.2, and JSON's."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def _int(loader: Any, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    if len(text) > _MOST_DIGITS:
        raise yaml.constructor.ConstructorError(problem="too large a number", problem_mark=node.start_mark)
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
        text = _whole_characters(text.removeprefix("\ufeff"))
        try:
            _refuse_odd(yaml.parse(text, Loader=_LOADER), source)
            node = yaml.compose(text, Loader=_LOADER)
        except yaml.YAMLError as error:
            _refuse_hiding_color(text, source)
            raise _no_text(source, error) from None
        if not isinstance(node, yaml.MappingNode):
            raise InvalidSetting(
                source,
                "It must be a mapping in YAML or JSON.",
                remedy="write keys with values, such as `models:`, `camera:` and so on.",
            )
        _refuse_doubles(node, source)
        _refuse_lost_colors(node, text, source)
        try:
            return cls(yaml.load(text, Loader=_LOADER), node)
        except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise _no_text(source, error) from None

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


def _no_text(source: str, error: Exception) -> InvalidSetting:
    """The error for a text that cannot be read."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return InvalidSetting(
        f"{source} line {mark.line + 1}" if mark else source,
        f"not YAML or JSON: {getattr(error, 'problem', None) or error}",
        remedy="correct the file: `airflow brayns movie check FILE` reads it as a task does.",
    )


def _whole_characters(text: str) -> str:
    """JSON with each character that it writes in two halves as YAML writes it; another text as it is."""
    if "\\ud" not in text.lower():
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text

    def whole(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        return f"\\U{0x10000 + (int(found[1], 16) - 0xD800) * 0x400 + int(found[2], 16) - 0xDC00:08x}"

    return _HALVES.sub(whole, text)


def _refuse_odd(events: Iterable[yaml.Event], source: str) -> None:
    """Refuse aliases, and what is nested so deep that PyYAML, which reads by recursion in C, would take the process
    down.
    """
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            where = f"{source} line {event.start_mark.line + 1}" if event.start_mark else source
            told = f"YAML's aliases (*{event.anchor}) are not taken here."
            raise InvalidSetting(where, told, remedy="write it out.")
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


def _refuse_lost_colors(node: yaml.Node, text: str, source: str) -> None:
    """Refuse a colour that is written without quotes: YAML takes it for a comment, and the value for none."""
    for mark, key in _lost(node):
        found = (_COLOR if _TAKES_COLORS.fullmatch(key) else _SIX_DIGITS).match(text, mark.index)
        if found is not None:
            raise InvalidSetting(
                f"{source} line {mark.line + 1}",
                f"{found[1]} is a comment in YAML, so there is no value.",
                remedy=f"write the colour in quotes: '{found[1]}'.",
            )


def _refuse_hiding_color(text: str, source: str) -> None:
    """Refuse, in a text that is no YAML, a colour without quotes, behind which the end of a `{` or `[` is a comment, too."""
    for number, line in enumerate(text.splitlines(), 1):
        before = line.partition("#")[0]
        found = _HIDING.match(line, len(before))
        if found is not None and _BEFORE_HIDING.search(before[-60:]):
            raise InvalidSetting(
                f"{source} line {number}",
                f"{found[0]} is a comment in YAML, and so is what is behind it.",
                remedy=f"write the colour in quotes: '{found[0]}'.",
            )


def _lost(node: yaml.Node, of: str = "") -> Iterator[tuple[yaml.Mark, str]]:
    """Where values are left empty, behind a key or a list's dash, and the key.

    :param of: the key that the node is the value of, or is in a list of.
    """
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            for mark, name in _lost(value, str(key.value)):
                yield (key.end_mark if isinstance(value, yaml.ScalarNode) else mark), name
    elif isinstance(node, yaml.SequenceNode):
        if node.flow_style and _TAKES_COLORS.fullmatch(of):
            yield node.start_mark, of  # a comment in it takes what is behind, of its next lines
        for value in node.value:
            yield from _lost(value, of)
    elif node.start_mark.index == node.end_mark.index:
        yield node.start_mark, of
