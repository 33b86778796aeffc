"""Texts of others, such as services, clusters and people who type an endpoint, made safe to keep and to show.

Half a character (`\\ud800`) cannot be sent on at all: as part of an event it ended Airflow's trigger runner, and every
other deferral with it (3.3.2, run). NUL is refused by PostgreSQL, NaN by JSON columns, an integer of more than 64 bits
by msgpack; an ESC moves a terminal's cursor, and a line break begins a line that looks like one of ours. Texts keep
their lines, but each line after the first is indented: no line of ours is.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from typing import Any

LONGEST = 10_000  # characters of one text that goes into an event or a log
DEEPEST = 64  # levels of lists and objects: braynsService's own go to 12 (3.10.1, recorded)
INDENT = "    "
# Whole CSI and OSC sequences, spelled with ESC and as C1 (ECMA-48); an ESC that is left over, `_seen` takes away alone.
_SEQUENCES = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\\]|\x9d)[^\x07\x1b\x9c\n]{0,2000}(?:\x07|\x1b\\\\|\x9c)"
)
_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # all that `str.splitlines` takes for one, but `\n`
_LINE_ENDS = re.compile(f"\n(?:{INDENT})?")


def visible(text: str) -> str:
    """The visible part of a text, for texts that are read, or shown with a prefix, line by line.

    Control characters, what turns text around or has no width, and terminals' sequences are left out; what ends a line
    anywhere is `\\n`; half a character is U+FFFD.
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
    """Make a text safe to be kept and shown anywhere; doing it twice changes nothing more.

    :param most: how many characters are kept; the middle of a longer text is left out. None for all of it.
    """
    seen = _LINE_ENDS.sub(f"\n{INDENT}", visible(text))
    if most is None or len(seen) <= most:
        return seen
    head = most // 2
    return f"{seen[:head].rstrip()} … {seen[len(seen) - (most - head - 3) :].lstrip()}"


def in_lines(text: str, most: int = 117, before: str = "") -> str:
    """A message in lines that a page shows whole: a long one goes on, indented, in the next line.

    :param most: characters of a line; of Airflow's page 1,600 pixels wide, no more are seen (3.3.2).
    :param before: what whoever shows the message puts before its first line.
    """
    lines: list[str] = []
    for line in f"{before}{text}".split("\n"):
        indent = INDENT if line.startswith(INDENT) or lines else ""
        further = indent or INDENT
        wrapped = textwrap.wrap(line.strip(), most, initial_indent=indent, subsequent_indent=further,
                                break_long_words=False, break_on_hyphens=False)  # fmt: skip
        lines += (wrapped or [""]) if len(line) > most else [line]
    return "\n".join(lines)[len(before) :]


def one_line(text: str, most: int = 200) -> str:
    """Make a text safe that must be one line, such as a name; its line breaks become spaces.

    :param most: how many characters are kept.
    """
    return " ".join(visible(text[: 4 * most]).split())[:most]


def shown(value: Any, most: int = 60) -> str:
    """A value that somebody gave, as a message shows it.

    :param most: how many characters are kept.
    """
    try:
        if value is None or isinstance(value, bool):
            return {None: "null", True: "true", False: "false"}[value]
        return repr(value[:most]) if isinstance(value, str) else str(value)[:most]
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of very many digits"


class Changes:
    """A memory of the last text, so that what goes on for hours stands in a log once.

    :param last: what was told last, elsewhere.
    """

    def __init__(self, last: str = "") -> None:
        self._last = last

    def new(self, text: str) -> bool:
        """Tell whether a text is another than the last, and remember it."""
        changed, self._last = text != self._last, text
        return changed


def plain(value: Any, most: int | None = None) -> Any:
    """Make a value one that JSON and msgpack can hold, with all its texts and keys made safe.

    :param value: a value of `json.loads`, or anything else, of which the text is taken.
    :param most: how many characters of each text are kept; None for all.
    :return: the value, with None for NaN, infinities and integers that no float holds; a float for integers of more
        than 64 bits; and `…` for what lies deeper than `DEEPEST`.
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
