"""What others say, made safe to keep and to show: services, clusters, people who type an endpoint.

Half a character (`\\ud800`) cannot be sent on at all: as part of an event it ended Airflow's trigger runner, and every other
deferral with it (3.3.2, run). NUL is refused by PostgreSQL, NaN by JSON columns, an integer of more than 64 bits by msgpack; an
ESC moves a terminal's cursor, and a line break begins a line that looks like one of ours. Texts keep their lines, but each line
after the first is indented: no line of ours is.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

LONGEST = 10_000  # characters of one text that goes into an event or a log
DEEPEST = 64  # levels of lists and objects: braynsService's own go to 12 (3.10.1, recorded)
INDENT = "    "
# CSI and OSC sequences whole, as ESC and as C1 (ECMA-48); of what is left, `_seen` takes the ESC alone away.
_SEQUENCES = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\\]|\x9d)[^\x07\x1b\x9c\n]{0,2000}(?:\x07|\x1b\\\\|\x9c)"
)
_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # all that `str.splitlines` takes for one, but `\n`
_LINE_ENDS = re.compile(f"\n(?:{INDENT})?")


def visible(text: str) -> str:
    """Line by line what there is to be seen: for texts that are read, or shown with a prefix, line by line.

    Control characters, what turns text around or has no width, and terminals' sequences are left out; what ends a line anywhere
    is `\\n`; half a character is U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_seen, _BREAKS.sub("\n", _SEQUENCES.sub("", text))))


def _seen(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    kind = unicodedata.category(character)
    if kind == "Cs":
        return "\ufffd"
    return "" if kind in ("Cc", "Cf") else " " if kind == "Zs" else character


def plain_text(text: str, most: int | None = LONGEST) -> str:
    """A text that can be kept and shown anywhere; done twice it is the same.

    :param most: characters; the middle of a longer one is left out. None for all of it.
    """
    seen = _LINE_ENDS.sub(f"\n{INDENT}", visible(text))
    if most is None or len(seen) <= most:
        return seen
    head = most // 2
    return f"{seen[:head].rstrip()} … {seen[len(seen) - (most - head - 3) :].lstrip()}"


def one_line(text: str, most: int = 200) -> str:
    """A name, or what must be one line: line breaks become spaces."""
    return " ".join(visible(text[: 4 * most]).split())[:most]


def plain(value: Any, most: int | None = None) -> Any:
    """A value as JSON and msgpack have it, all its texts and keys made safe.

    :param value: as `json.loads` gives it, or anything else, of which the text is taken.
    :param most: characters of each text; None for all.
    :return: for NaN, infinities and integers that no float holds, None; a float for integers of more than 64 bits; `…` for
        what lies deeper than `DEEPEST`.
    """
    return _plain(value, most, DEEPEST)


def _plain(value: Any, most: int | None, levels: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return plain_text(str(value), most)
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, dict | list | tuple | set | frozenset):
        if not levels:
            return "…"
        if isinstance(value, dict):
            return {one_line(str(key), 1000): _plain(one, most, levels - 1) for key, one in value.items()}
        return [_plain(one, most, levels - 1) for one in value]
    return plain_text(str(value), most)


def _number(value: float) -> float | None:
    if isinstance(value, int):
        if -(1 << 63) <= value < 1 << 63:
            return int(value)
        try:
            value = float(value)
        except OverflowError:
            return None
    return float(value) if abs(value) < float("inf") else None
