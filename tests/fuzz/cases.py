"""Texts, bytes and values that nobody should have to trust. All of it is made by a `Random`, so that a seed tells all."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st

CANARY = "ab_canary"  # a command that leaves a file behind when anything runs it
PAYLOADS = (
    "$(ab_canary)", "`ab_canary`", ";ab_canary;", "\nab_canary\n", "|ab_canary", "&ab_canary&", "&&ab_canary", "||ab_canary",
    "';ab_canary;'", '";ab_canary;"', "'$(ab_canary)'", '"$(ab_canary)"', "'\nab_canary\n'", "\\';ab_canary;\\'",
    "${x:-$(ab_canary)}", "$((`ab_canary`))", "<(ab_canary)", "})\nab_canary\n({", ")\nab_canary\n(", "}\nab_canary\n{",
    "\nEND_OF_FRAMES\nab_canary\n", "\nEND_OF_METADATA\nab_canary\n", "\nSOCKETS\nab_canary\n", "\nEOF\nab_canary\n",
    "--wrap=ab_canary", "x[$(ab_canary)]", "$'\\nab_canary\\n'", "\rab_canary\r", "\x00;ab_canary;", "s/x/ab_canary/e",
    "%$(ab_canary)d", "() { :;}; ab_canary", "exec ab_canary", "\\\nab_canary\n", "#\nab_canary\n", "{{ab_canary}}",
)  # fmt: skip
PIECES = (
    "'", '"', "\\", "\n", "\r", "\r\n", "\t", "\0", "\x01", "\x07", "\x1b[2J", "\x7f", "\x80", "\x85", "\x9f", "\x0b", "\x0c", "\x1c",
    "$", "$$", "$@", "`", ";", "&", "|", ">", "<", "(", ")", "{", "}", "*", "?", "[", "]", "~", "!", "#", "%", "%s", "%d", "%n", "%%",
    "=", ",", ":", "-", "--", "-a", "-e", "..", "../", "/../", "/", "//", "./", ".", " ", "  ", "\u00a0", "\u2028", "\u2029", "\u202e",
    "\ufeff", "\ufffe", "\u200b", "é", "Á", "e\u0301", "日本", "🧠", "\U0010ffff", "\ud800", "\udc81", "\udfff", "²", "٣", "Ⅷ", "ß", "İ",
    "{{ 7*7 }}", "{{", "}}", "{% raw %}", "{#", "{{ ti.xcom_pull('x') }}", "${HOME}", "$HOME", "~root", "%2e%2e", "&amp;", "a", "b",
    "value", "0", "1", "-1", "1e999", "NaN", "null", "None", "true", "[", "{", "'''", '"""', "\\n", "\\x00", "\\u0000", " still ", "asked",
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 65535, 65536, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e-9, 1e15, 1e300, 1.8e308,
    float("inf"), float("-inf"), float("nan"), True, False,
)  # fmt: skip
LONG = 1 << 20


def text(rng: Random, canary: str = CANARY, longest: int = 6) -> str:
    """A hostile text of a few pieces; one in three holds something that a shell which is careless would run.

    :param canary: the command in it.
    """
    pieces = [_piece(rng) for _ in range(rng.randint(0, longest))]
    if rng.random() < 0.35:
        pieces.insert(rng.randint(0, len(pieces)), rng.choice(PAYLOADS).replace(CANARY, canary))
    return "".join(pieces)


def _piece(rng: Random) -> str:
    chance = rng.random()
    if chance < 0.6:
        return rng.choice(PIECES)
    if chance < 0.8:
        return "".join(rng.choices(string.printable, k=rng.randint(1, 8)))
    return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randint(1, 4)))


def long_text(rng: Random, canary: str = CANARY, size: int = LONG) -> str:
    """A megabyte."""
    some = text(rng, canary) or "x"
    return (some * (size // len(some) + 1))[:size]


def texts(rng: Random, number: int, canary: str = CANARY) -> list[str]:
    """So many of them."""
    return [text(rng, canary) for _ in range(number)]


def hostile_texts(canary: str = CANARY) -> st.SearchStrategy[str]:
    """The same pieces for hypothesis, which makes what it finds smaller."""
    one = st.sampled_from(PIECES) | st.sampled_from([payload.replace(CANARY, canary) for payload in PAYLOADS])
    return st.lists(one | st.text(st.characters(), max_size=6), max_size=6).map("".join)


def mutated(rng: Random, data: bytes, pieces: Sequence[bytes] = ()) -> bytes:
    """An answer that was cut, doubled, spliced or written over, anywhere."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(data))
        match rng.randrange(7):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at + rng.randint(0, 8) :]
            case 2:
                end = rng.randint(at, min(len(data), at + 200))
                data = data[:end] + data[at:end] + data[end:]
            case 3:
                data = data[at:] + data[:at]
            case 4:
                data = data[:at] + data[at + rng.randint(0, 40) :]
            case 5:
                data = data[:at] + text(rng).encode("utf-8", "surrogatepass") + data[at:]
            case _:
                extra = rng.choice(pieces) if pieces else rng.choice(PIECES).encode("utf-8", "surrogatepass")
                data = data[:at] + extra + data[at:]
    return data


def value(rng: Random, depth: int = 3) -> Any:
    """Any JSON value, and numbers that JSON does not have."""
    match rng.randrange(9 if depth else 6):
        case 0:
            return rng.choice(NUMBERS)
        case 1:
            return rng.uniform(-1e3, 1e3)
        case 2:
            return rng.randint(-10, 10)
        case 3:
            return text(rng)
        case 4:
            return None
        case 5:
            return rng.choice(("", "3", "3.10", "-1", "²", "9" * 5000, "nan", "1e999", "\ud800"))
        case 6:
            return [value(rng, depth - 1) for _ in range(rng.randint(0, 4))]
        case 7:
            return {text(rng, longest=2): value(rng, depth - 1) for _ in range(rng.randint(0, 4))}
    return [rng.choice(NUMBERS) for _ in range(3)]


def damaged(rng: Random, good: Any, replace: float = 0.2) -> Any:
    """A good value with parts of it exchanged, left out or added."""
    if rng.random() < replace / 3:
        return value(rng)
    if isinstance(good, dict):
        found = {key: damaged(rng, one, replace) for key, one in good.items() if rng.random() > replace / 4}
        if rng.random() < replace / 4:
            found[text(rng, longest=2)] = value(rng)
        return found
    if isinstance(good, list | tuple):
        found_list = [damaged(rng, one, replace) for one in good if rng.random() > replace / 8]
        return [*found_list, value(rng)] if rng.random() < replace / 8 else found_list
    return value(rng) if rng.random() < replace else good


def as_json(rng: Random, content: Any) -> str:
    """JSON of a value, sometimes nested too deep, cut, or with something else in it."""
    told = json.dumps(content)
    match rng.randrange(12):
        case 0:
            depth = rng.choice((50, 900, 5000, 100_000))
            return told.replace("null", "[" * depth + "]" * depth, 1) if "null" in told else "[" * depth
        case 1:
            return mutated(rng, told.encode()).decode("utf-8", "replace")
        case 2:
            return told.replace("0", "9" * rng.choice((20, 400, 5000)), 1)
        case 3:
            return told.replace("1", rng.choice(("NaN", "Infinity", "-Infinity", "1e999", '"²"', "null", "[]")), 1)
    return told


def some(rng: Random, *makers: Callable[[Random], Any]) -> Any:
    """What one of them makes."""
    return rng.choice(makers)(rng)
