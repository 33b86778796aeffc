"""Reads OBJ, PLY, STL and OFF by the rules of braynsService 3.10.1, and refuses what it refuses in its words.

The rules are those of the released source (read) and of what a running one answered (`docs`: the table of files). They are narrower
than the formats: triangles only, no negative indices, OBJ indices counted in each object, at most two texture coordinates.
What is quoted of a file is its bytes: those that are no UTF-8 are kept as lone surrogates (`surrogateescape`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from airflow_brayns.emulator.numerals import MalformedError, decimal, integer
from airflow_brayns.emulator.ply import read_ply

if TYPE_CHECKING:
    from airflow_brayns.emulator.scene import FloatArray


class MeshError(ValueError):
    """The file is refused; the text is the service's."""


@dataclass
class Mesh:
    """Triangles: three corners each, and their normals where the file gives them (else an empty array)."""

    corners: FloatArray
    normals: FloatArray = field(default_factory=lambda: np.zeros((0, 3, 3), np.float32))


class Lines:
    """The lines of a file as the service counts them: what follows the last line break is a line, too."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._ended = data, 0, False
        self.number, self.line = 0, b""

    def next(self) -> bool:
        """Go to the next line; False at the end, where `line` stays the last one."""
        if self._ended:
            return False
        stop = self._data.find(b"\n", self._at)
        self._ended = stop < 0
        self.line = self._data[self._at :] if stop < 0 else self._data[self._at : stop]
        self._at = stop + 1
        self.number += 1
        return True

    def next_filled(self, comment: bytes = b"") -> bytes:
        """The next line with something on it, without its comment and the blanks around it; empty at the end."""
        while self.next():
            text = (self.line.partition(comment)[0] if comment else self.line).strip()
            if text:
                return text
        return b""

    def rest(self) -> bytes:
        """What follows the current line."""
        return b"" if self._ended else self._data[self._at :]


def parse_mesh(data: bytes, extension: str) -> Mesh:
    """Read a file's bytes.

    :raises MeshError: where the service refuses them.
    """
    reader = _READERS.get(extension)
    if reader is None:
        raise MeshError(f"Mesh format extension not supported: '{extension}'")
    try:
        mesh = reader(data)
    except MalformedError as error:
        raise MeshError(error.text.decode("utf-8", "surrogateescape")) from None
    if not len(mesh.corners):
        raise MeshError("No meshes found")
    return mesh


def _located(read: Callable[[Lines], Mesh], data: bytes) -> Mesh:
    """Where a reader of lines gives up, the service tells the line and quotes it."""
    lines = Lines(data)
    try:
        return read(lines)
    except MalformedError as error:
        told = b"Parsing error at line %d: '%b'. Line content: '%b'" % (lines.number, error.text, lines.line)
        raise MalformedError(told) from None


# ---- OBJ ---------------------------------------------------------------------------------------------------------------
class _Object:
    """One `o` of an OBJ file."""

    def __init__(self) -> None:
        self.vertices: list[tuple[float, ...]] = []
        self.counts = {"textures": 0, "normals": 0}
        self.indices: list[int] = []
        self.used = {"textures": 0, "normals": 0}

    def face(self, words: list[bytes]) -> None:
        if len(words) != 3:
            raise MalformedError(b"Non-triangular face with %d vertices" % len(words))
        for word in words:
            self._corner(word)
        if not self.indices:
            raise MalformedError(b"No vertex indices in face")
        corners = len(self.indices)
        for kind, count in self.used.items():
            if count not in (0, corners):
                raise MalformedError(b"Face attribute count mismatch between vertices and %b" % kind.encode())
        if len({*self.used.values(), 0}) > 2:
            raise MalformedError(b"Face attribute count mismatch between normals and textures")

    def _corner(self, word: bytes) -> None:
        slashes = word.count(b"/")
        if slashes > 2:
            raise MalformedError(b"Invalid face element with %d indices (max = 3)" % (slashes + 1))
        parts = word.split(b"/")
        if not parts[0]:
            return  # an empty part ends the element: `1//2` has no normal for the service
        self.indices.append(_index(parts[0], len(self.vertices)))
        for kind, part in zip(("textures", "normals"), parts[1:], strict=False):
            if not part:
                return
            _index(part, self.counts[kind])
            self.used[kind] += 1


def _index(word: bytes, count: int) -> int:
    index = integer(word, "uint32")
    if not 1 <= index <= count:
        raise MalformedError(b"Invalid index %d" % index)
    return index - 1


def _obj(lines: Lines) -> Mesh:
    objects: list[_Object] = []
    while lines.next():
        key, *words = lines.line.partition(b"#")[0].split() or [b""]
        if key == b"o":
            objects.append(_Object())
        if key not in (b"v", b"vt", b"vn", b"f"):
            continue
        if key != b"f":
            values = _coordinates(key, words)  # before there is an object: a wrong vertex makes none
        if not objects:
            objects.append(_Object())
        current = objects[-1]
        if key == b"f":
            current.face(words)
        elif key == b"v":
            current.vertices.append(values)
        else:
            current.counts["textures" if key == b"vt" else "normals"] += 1
    if not objects:
        raise MalformedError(b"No meshes found")
    for number, one in enumerate(objects[1:], 1):
        for kind in ("normals", "textures"):
            if one.used[kind] != objects[0].used[kind]:
                raise MalformedError(b"Mesh %d %b incompatible with first one" % (number, kind.encode()))
    parts = [np.array(one.vertices, np.float32)[one.indices] for one in objects if one.indices]
    return Mesh(np.concatenate(parts).reshape(-1, 3, 3) if parts else np.zeros((0, 3, 3), np.float32))


def _coordinates(key: bytes, words: list[bytes]) -> tuple[float, ...]:
    name, counts = {b"v": (b"vertex", (3, 4)), b"vt": (b"texture", (2,)), b"vn": (b"normal", (3,))}[key]
    if len(words) not in counts:
        expected = b" or ".join(b"%d" % count for count in counts)
        raise MalformedError(b"Invalid %b, expected %b tokens, got %d" % (name, expected, len(words)))
    return tuple(decimal(word) for word in words[:3])


# ---- STL ---------------------------------------------------------------------------------------------------------------
def _stl(data: bytes) -> Mesh:
    return _located(_stl_text, data) if data.startswith(b"solid") else _stl_binary(data)


def _stl_text(lines: Lines) -> Mesh:
    first, *_ = _filled(lines, b"solid").split()
    if first != b"solid":
        raise MalformedError(b"Invalid token, expected 'solid', got '%b'" % first)
    corners, normals = [], []
    while _filled(lines, b"solid") != b"endsolid":  # a name behind `endsolid` makes it the normal of a facet
        normals.append(_facet_normal(lines.line.split()))
        _literal(lines, b"outer loop")
        corners.append([_facet_vertex(_filled(lines, b"facet").split()) for _ in range(3)])
        _literal(lines, b"endloop")
        _literal(lines, b"endfacet")
    return Mesh(
        np.array(corners, np.float32).reshape(-1, 3, 3),
        np.repeat(np.array(normals, np.float32).reshape(-1, 1, 3), 3, axis=1),
    )


def _filled(lines: Lines, what: bytes) -> bytes:
    text = lines.next_filled()
    if not text:
        raise MalformedError(b"Unterminated %b" % what)
    return text


def _literal(lines: Lines, expected: bytes) -> None:
    text = _filled(lines, b"facet")
    if text != expected:
        raise MalformedError(b"Invalid line, expected '%b', got '%b'" % (expected, text))


def _facet_normal(words: list[bytes]) -> list[float]:
    if len(words) != 5:
        raise MalformedError(b"Invalid normal, expected 5 tokens, got %d" % len(words))
    for word, expected in zip(words, (b"facet", b"normal"), strict=False):
        if word != expected:
            raise MalformedError(b"Invalid token, expected '%b', got '%b'" % (expected, word))
    return [decimal(word) for word in words[2:]]


def _facet_vertex(words: list[bytes]) -> list[float]:
    if len(words) != 4:
        raise MalformedError(b"Invalid vertex, expected 4 tokens, got %d" % len(words))
    if words[0] != b"vertex":
        raise MalformedError(b"Invalid vertex, expected 'vertex', got %b" % words[0])
    return [decimal(word) for word in words[1:]]


_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])


def _stl_binary(data: bytes) -> Mesh:
    if len(data) < 80:
        raise MalformedError(b"Expected 80 bytes header at the beginning of the file")
    if len(data) < 84:
        raise MalformedError(b"Expected 4 bytes triangle count")
    count = int.from_bytes(data[80:84], "little")
    if len(data) < 84 + count * _FACET.itemsize:
        raise MalformedError(b"Expected %d bytes of facet data after header" % (count * _FACET.itemsize))
    facets = np.frombuffer(data, _FACET, count, 84)
    return Mesh(facets["corners"].copy(), np.repeat(facets["normal"][:, None], 3, axis=1))


# ---- OFF and PLY -------------------------------------------------------------------------------------------------------
def _off(lines: Lines) -> Mesh:
    text = lines.next_filled(b"#")
    if not text:
        raise MalformedError(b"Empty file")
    if text == b"OFF" and not lines.next_filled(b"#"):
        raise MalformedError(b"Empty file after OFF header")
    words = lines.line.split()  # with its comment, which is counted
    if len(words) != 3:
        raise MalformedError(b"Invalid dimensions, expected 3 tokens, got %d" % len(words))
    vertex_count, face_count, _ = (integer(word, "uint64") for word in words)
    if max(vertex_count, face_count) > 2**59:
        raise MalformedError(b"vector::reserve")
    vertices = [_off_vertex(words) for words in _off_lines(lines, vertex_count, b"vertices")]
    faces = [_off_face(words, vertex_count) for words in _off_lines(lines, face_count, b"faces")]
    if not faces:
        return Mesh(np.zeros((0, 3, 3), np.float32))
    return Mesh(np.array(vertices, np.float32)[np.array(faces)])


def _off_lines(lines: Lines, count: int, what: bytes) -> Iterator[list[bytes]]:
    for number in range(count):
        text = lines.next_filled(b"#")
        if not text:
            raise MalformedError(b"Not enough %b, expected %d, got %d" % (what, count, number))
        yield text.split()


def _off_vertex(words: list[bytes]) -> list[float]:
    if len(words) != 3:
        raise MalformedError(b"Invalid vertex, expected 3 tokens, got %d" % len(words))
    return [decimal(word) for word in words]


def _off_face(words: list[bytes], vertices: int) -> list[int]:
    size = integer(words[0], "uint64")
    if size != 3:
        raise MalformedError(b"Non triangular face with %d indices" % size)
    indices = [integer(word, "uint32") for word in (*words[1:4], b"", b"", b"")[:3]]
    for index in indices:
        if index >= vertices:
            raise MalformedError(b"Invalid index: %d > %d" % (index, vertices))
    return indices


def _ply(data: bytes) -> Mesh:
    buffers = []

    def read(lines: Lines) -> Mesh:
        buffers.append(read_ply(lines))
        return Mesh(np.zeros((0, 3, 3), np.float32))

    _located(read, data)
    return Mesh(*buffers[0].triangles())  # what is wrong from here on is told without a line


_READERS: dict[str, Callable[[bytes], Mesh]] = {
    "obj": lambda data: _located(_obj, data),
    "stl": _stl,
    "off": lambda data: _located(_off, data),
    "ply": _ply,
}
