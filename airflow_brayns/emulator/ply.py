"""PLY as braynsService 3.10.1 reads it: text and both binary orders, triangles and strips, what it does not know left out."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from airflow_brayns.emulator.numerals import MalformedError, decimal, integer

if TYPE_CHECKING:
    from airflow_brayns.emulator.scene import FloatArray

_TYPES = {
    "int8": ("int8", "char"),
    "uint8": ("uint8", "uchar"),
    "int16": ("int16", "short"),
    "uint16": ("uint16", "ushort"),
    "int32": ("int32", "int"),
    "uint32": ("uint32", "uint"),
    "float32": ("float32", "float"),
    "float64": ("float64", "double", "double64"),
}
_TYPE_OF = {name.encode(): kind for kind, names in _TYPES.items() for name in names}
_CODES = {"int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "float32": "f", "float64": "d"}  # fmt: skip
_ORDERS = {b"ascii": "", b"binary_big_endian": ">", b"binary_little_endian": "<"}
_INDICES = (b"vertex_index", b"vertex_indices")


class _Lines(Protocol):
    line: bytes

    def next(self) -> bool: ...
    def rest(self) -> bytes: ...


@dataclass
class _Property:
    name: bytes
    kind: str
    count_kind: str = ""


@dataclass
class _Element:
    name: bytes
    count: int
    properties: list[_Property] = field(default_factory=list)


@dataclass
class PlyBuffer:
    """What a file holds of a mesh, before its faces are looked up."""

    columns: dict[bytes, Any] = field(default_factory=dict)
    faces: list[Any] = field(default_factory=list)
    strips: list[int] = field(default_factory=list)

    def triangles(self) -> tuple[FloatArray, FloatArray]:
        """The corners and the normals (none: an empty array).

        :raises MalformedError: for a strip that is too short, an index that is none, a file without positions.
        """
        indices = [tuple(face) for face in self.faces] + list(_strip_triangles(self.strips))
        faces = np.array(indices, np.int64).reshape(-1, 3)
        if not any(len(self.columns.get(name, ())) for name in (b"x", b"y", b"z")):
            raise MalformedError(b"No positions in vertices")
        return self._looked_up((b"x", b"y", b"z"), faces), self._looked_up((b"nx", b"ny", b"nz"), faces)

    def _looked_up(self, names: tuple[bytes, ...], faces: Any) -> FloatArray:
        columns = [np.asarray(self.columns.get(name, ()), np.float32) for name in names]
        if not any(len(column) for column in columns):
            return np.zeros((0, 3, 3), np.float32)
        result = np.zeros((*faces.shape, 3), np.float32)
        for axis, column in enumerate(columns):
            if not len(column):
                continue
            wrong = faces[faces >= len(column)]
            if len(wrong):
                raise MalformedError(b"Invalid index %d" % wrong[0])
            result[..., axis] = column[faces]
        return result


def _strip_triangles(strips: list[int]) -> Any:
    """Triangles of strips that are parted by a negative number."""
    start = 0
    while start < len(strips):
        stop = next((at for at in range(start, len(strips)) if strips[at] < 0), len(strips))
        if stop - start < 3:
            raise MalformedError(b"Invalid triangle strip size: %d" % (stop - start))
        for number in range(stop - start - 2):
            first, second, third = strips[start + number : start + number + 3]
            yield (second, first, third) if number & 1 else (first, second, third)
        start = stop + 1


def read_ply(lines: _Lines) -> PlyBuffer:
    """Read header and elements; `lines` stands where it stopped."""
    try:
        order, elements = _header(lines)
    except MalformedError as error:
        raise MalformedError(b"Failed to parse header: " + error.text) from None
    seen: set[bytes] = set()
    for element in elements:
        if element.name in seen:
            raise MalformedError(b"Element semantic duplication '%b'" % element.name)
        if element.name in (b"vertex", b"face", b"tristrips"):
            seen.add(element.name)
    buffer = PlyBuffer()
    source = _Binary(lines.rest(), order) if order else _Text(lines)
    for element in elements:
        if isinstance(source, _Binary) and _at_once(source, element, buffer):
            continue
        for number in range(element.count):
            source.row()
            for one in element.properties:
                _extract(source, element, number, one, buffer)
    return buffer


# ---- header ------------------------------------------------------------------------------------------------------------
def _header_line(lines: _Lines) -> list[bytes]:
    while lines.next():
        words = lines.line.split()
        if words and words[0] != b"comment":
            return words
    raise MalformedError(b"Unterminated header")


def _header(lines: _Lines) -> tuple[str, list[_Element]]:
    if _header_line(lines)[0] != b"ply":
        raise MalformedError(b"Expected 'ply' magic number")
    order = _format(_header_line(lines))
    elements: list[_Element] = []
    while True:
        key, *words = _header_line(lines)
        if key == b"end_header":
            return order, elements
        if key == b"element":
            if len(words) != 2:
                raise MalformedError(b"Expected name and count for an element")
            elements.append(_Element(words[0], integer(words[1], "uint64")))
        elif key == b"property":
            if not elements:
                raise MalformedError(b"Property without element")
            elements[-1].properties.append(_property(words))
        else:
            raise MalformedError(b"Unknown key: '%b'" % key)


def _format(words: list[bytes]) -> str:
    if words[0] != b"format":
        raise MalformedError(b"Expected format definition after magic number")
    name, version = (*words[1:], b"", b"")[:2]
    if name not in _ORDERS:
        raise MalformedError(b"Invalid format '%b'" % name)
    if version != b"1.0":
        raise MalformedError(b"Unsupported version '%b'" % version)
    return _ORDERS[name]


def _property(words: list[bytes]) -> _Property:
    if len(words) == 2:
        return _Property(words[1], _type(words[0]))
    if len(words) != 4:
        raise MalformedError(b"Expected 2 or 4 tokens for a property")
    if words[0] != b"list":
        raise MalformedError(b"Expected 'list' key before property with 4 tokens")
    count_kind = _type(words[1])
    return _Property(words[3], _type(words[2]), count_kind)


def _type(name: bytes) -> str:
    if name not in _TYPE_OF:
        raise MalformedError(b"Invalid type '%b'" % name)
    return _TYPE_OF[name]


# ---- elements ----------------------------------------------------------------------------------------------------------
class _Text:
    def __init__(self, lines: _Lines) -> None:
        self._lines, self._words = lines, [b""]

    def row(self) -> None:
        if not self._lines.next():
            raise MalformedError(b"Incomplete ASCII data")
        self._words = self._lines.line.split()[::-1]

    def value(self, kind: str) -> float:
        word = self._words.pop() if self._words else b""
        return decimal(word, kind == "float64") if kind.startswith("float") else integer(word, kind)


class _Binary:
    def __init__(self, data: bytes, order: str) -> None:
        self.data, self.order, self.at = data, order, 0

    def row(self) -> None:
        """Rows are not parted."""

    def value(self, kind: str) -> float:
        code = self.order + _CODES[kind]
        size = struct.calcsize(code)
        if self.at + size > len(self.data):
            raise MalformedError(b"Invalid byte count")
        [value] = struct.unpack_from(code, self.data, self.at)
        self.at += size
        return float(value)


def _extract(source: _Text | _Binary, element: _Element, number: int, one: _Property, buffer: PlyBuffer) -> None:
    reader = _READERS.get(element.name, _discard)
    try:
        reader(source, one, buffer)
    except MalformedError as error:
        where = b"element '%b' (index = %d) and property '%b'" % (element.name, number, one.name)
        raise MalformedError(b"Failed to extract data for %b: '%b'" % (where, error.text)) from None


def _size(source: _Text | _Binary, one: _Property) -> int:
    if not one.count_kind:
        raise MalformedError(b"Expected a list property")
    return _unsigned(source.value(one.count_kind))


def _unsigned(value: float) -> int:
    if value < 0:
        raise MalformedError(b"Value must be positive")
    if value != int(value):
        raise MalformedError(b"Value must be integer")
    return int(value)


def _float(value: float) -> float:
    if abs(value) > 3.4028234663852886e38:
        raise MalformedError(b"Values must fit inside a float")
    return value


def _discard(source: _Text | _Binary, one: _Property, buffer: PlyBuffer) -> None:
    for _ in range(_size(source, one) if one.count_kind else 1):
        source.value(one.kind)


def _vertex(source: _Text | _Binary, one: _Property, buffer: PlyBuffer) -> None:
    if one.name not in (b"x", b"y", b"z", b"nx", b"ny", b"nz"):
        _discard(source, one, buffer)
        return
    buffer.columns.setdefault(one.name, []).append(_float(source.value(one.kind)))


def _face(source: _Text | _Binary, one: _Property, buffer: PlyBuffer) -> None:
    if one.name == b"texcoord":
        size = _size(source, one)
        if size != 6:
            raise MalformedError(b"Expected 6 coordinates for face texture, got %d" % size)
        for _ in range(6):
            _float(source.value(one.kind))
    elif one.name in _INDICES:
        size = _size(source, one)
        if size != 3:
            raise MalformedError(b"Non triangular face with %d indices" % size)
        buffer.faces.append([_unsigned(source.value(one.kind)) for _ in range(3)])
    else:
        _discard(source, one, buffer)


def _strip(source: _Text | _Binary, one: _Property, buffer: PlyBuffer) -> None:
    if one.name not in _INDICES:
        _discard(source, one, buffer)
        return
    size = _size(source, one)
    if size and buffer.strips and buffer.strips[-1] != -1:
        buffer.strips.append(-1)
    for _ in range(size):
        value = source.value(one.kind)
        if value != int(value):
            raise MalformedError(b"Value must be integer")
        buffer.strips.append(int(value))


_READERS: dict[bytes, Callable[[Any, _Property, PlyBuffer], None]] = {
    b"vertex": _vertex,
    b"face": _face,
    b"tristrips": _strip,
}


def _at_once(source: _Binary, element: _Element, buffer: PlyBuffer) -> bool:
    """Take a whole element where its rows are of one size (faces: all triangles); False: it has to be read value by value."""
    parts: list[Any] = []
    for number, one in enumerate(element.properties):
        if not one.count_kind:
            parts.append((str(number), source.order + _CODES[one.kind]))
        elif element.name == b"face" and one.name in _INDICES and not one.kind.startswith("float"):
            parts += [
                ("count", source.order + _CODES[one.count_kind]),
                (str(number), source.order + _CODES[one.kind], 3),
            ]
        else:
            return False
    row = np.dtype(parts)
    names = [one.name for one in element.properties]
    if element.name == b"tristrips" or len({*names}) != len(names) or row.itemsize == 0:
        return False
    if element.count * row.itemsize > len(source.data) - source.at:
        return False
    table = np.frombuffer(source.data, row, element.count, source.at)
    if element.name == b"face":
        if "count" not in (row.names or ()) or not (table["count"] == 3).all():
            return False
        [column] = [str(number) for number, name in enumerate(names) if name in _INDICES]
        if (table[column].astype(np.int64) < 0).any():
            return False
        buffer.faces = list(table[column].astype(np.int64))
    if element.name == b"vertex":
        wanted = [
            (number, name) for number, name in enumerate(names) if name in (b"x", b"y", b"z", b"nx", b"ny", b"nz")
        ]
        if any((np.abs(table[str(number)].astype(np.float64)) > 3.4028234663852886e38).any() for number, _ in wanted):
            return False
        buffer.columns.update({name: table[str(number)].astype(np.float32) for number, name in wanted})
    source.at += element.count * row.itemsize
    return True
