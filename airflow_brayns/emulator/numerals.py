"""Numbers as braynsService reads them from a file's text (C's `stof`, `stod`, `stoi` and `stoul`), and the words where it cannot."""

from __future__ import annotations

import re

_DECIMAL = re.compile(rb"[+-]?(?:inf(?:inity)?|nan|0x[0-9a-f]+|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)", re.IGNORECASE)
_INTEGER = re.compile(rb"[+-]?\d+")
_FLOAT_MAX, _FLOAT_MIN = 3.4028235677973366e38, 1.1754943508222875e-38
LIMITS = {
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}


class MalformedError(Exception):
    """What a file holds cannot be taken; the text is the service's, and bytes, since it quotes the file."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


def decimal(word: bytes, double: bool = False) -> float:
    """A float, or a double.

    :raises MalformedError: where `stof` (`stod`) does not take the whole word; `stof` takes no number that underflows, either.
    """
    found = _DECIMAL.match(word)
    if found is None:
        raise MalformedError(b"Cannot parse '%b' as a number" % word)
    text = found[0]
    value = float(int(text, 16)) if b"x" in text.lower() else float(text)
    size = abs(value)
    finite = b"n" not in text.lower()  # neither `inf` nor `nan`
    if finite and (size == float("inf") or (not double and (size >= _FLOAT_MAX or 0 < size < _FLOAT_MIN))):
        raise MalformedError(b"Value '%b' out of range" % word)
    _whole(word, text)
    return value


def integer(word: bytes, kind: str) -> int:
    """A whole number of one of the kinds in `LIMITS`. A negative one that is to be unsigned wraps round, as with `stoul`.

    :raises MalformedError: where it does not fit.
    """
    found = _INTEGER.match(word)
    if found is None:
        raise MalformedError(b"Cannot parse '%b' as a number" % word)
    value = int(found[0])
    low, high = LIMITS[kind]
    if low == 0 and -(2**64) < value < 0:
        value += 2**64
    widest = LIMITS["uint64" if low == 0 else "int32"]
    if not widest[0] <= value <= widest[1]:
        raise MalformedError(b"Value '%b' out of range" % word)
    _whole(word, found[0])
    if value < low:
        raise MalformedError(b"Out of range: %b < %d" % (word, low))
    if value > high:
        raise MalformedError(b"Out of range: %b > %d" % (word, high))
    return value


def _whole(word: bytes, taken: bytes) -> None:
    if taken != word:
        raise MalformedError(b"Invalid numeric characters in '%b'" % word)
