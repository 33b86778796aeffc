"""The table of files: which model files braynsService 3.10.1 loads, and in which words it refuses the others.

Handed (`tests/data/files/`) and recorded ones were seen on a running service, the others follow from its released source and MorphIO's.
`check` holds the emulator's loaders against it; the unit tests do, and `make truth` prints it: `python -m tests.support.files`.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import REPO

FILES = REPO / "tests" / "data" / "files"
NEURON = {
    "radius_multiplier": 1.0, "load_soma": True, "load_axon": True, "load_dendrites": True, "geometry_type": "smooth",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A file, and what becomes of it.

    :param name: its name; the ending chooses the loader.
    :param loads: the triangles that a mesh has, the samples that a morphology draws; None: it is refused.
    :param words: the service's words where it is refused; `{path}` stands for the file's path.
    :param content: what is in it; None: `tests/data/files/` has it.
    """

    name: str
    loads: int | None = None
    words: str = ""
    content: bytes | None = None

    def write(self, folder: Path) -> Path:
        """The file, in `folder`."""
        path = folder / self.name
        path.write_bytes((FILES / self.name).read_bytes() if self.content is None else self.content)
        return path


def _line(number: int, text: str, line: str) -> str:
    return f"Parsing error at line {number}: '{text}'. Line content: '{line}'"


def _swc_error(line: int, text: str, level: str = "error") -> str:
    return f"\n\x1b[1;{'31' if level == 'error' else '33'}m{{path}}:{line}:{level}\x1b[0m\n{text}"


_POINTS = b"v 0 0 0\nv 1 0 0\nv 0 1 0\n"
_NORMALS = b"vn 0 0 1\n"
_FACET = b" facet normal 0 0 1\n  outer loop\n   vertex 0 0 0\n   vertex 1 0 0\n   vertex 0 1 0\n  endloop\n endfacet\n"
_BYTES_OF_FACET = struct.pack("<12fH", 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0)
_HEAD = (
    "ply\nformat {} 1.0\ncomment made by hand\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
)
_FACE = "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
_TEXT = (_HEAD.format("ascii") + _FACE).encode()
_XYZ = (0, 0, 0, 1, 0, 0, 0, 1, 0)
_SOMA = b"1 1 0 0 0 5 -1\n"


def _binary_ply(order: str, indices: tuple[int, ...]) -> bytes:
    head = _HEAD.format(f"binary_{'little' if order == '<' else 'big'}_endian") + _FACE
    body = struct.pack(f"{order}9f", *_XYZ) + struct.pack(f"{order}B{len(indices)}i", len(indices), *indices)
    return head.encode() + body


OBJ = [
    Row("quads.obj", None, _line(9, "Non-triangular face with 4 vertices", "f 4 3 2 1")),
    Row("negative.obj", None, _line(9, "Out of range: -5 > 4294967295", "f -5 -6 -7")),
    Row("two_objects.obj", None, _line(31, "Invalid index 12", "f 12 11 10")),
    Row("vertex_of_two.obj", None, _line(1, "Invalid vertex, expected 3 or 4 tokens, got 2", "v 1 2"), b"v 1 2\n"),
    Row("empty.obj", None, _line(1, "No meshes found", ""), b""),
    Row("triangle.obj", 1, "", _POINTS + b"f 1 2 3\n"),
    Row("weights.obj", 1, "", b"v 0 0 0 1\nv 1 0 0 1\nv 0 1 0 1\nf 1 2 3"),
    Row("unknown_keys.obj", 1, "", b"mtllib a.mtl\n# x\n" + _POINTS + b"g a\nusemtl b\ns off\nl 1 2\nf 1 2 3 # y\n"),
    Row("dos.obj", 1, "", (_POINTS + b"f 1 2 3\n").replace(b"\n", b"\r\n")),
    Row("counted_by_object.obj", 2, "", b"o a\n" + _POINTS + b"f 1 2 3\no b\n" + _POINTS + b"f 1 2 3\n"),
    Row("normals.obj", 1, "", _POINTS + _NORMALS + b"f 1//1 2//1 3//1\n"),
    Row("textures.obj", 1, "", _POINTS + b"vt 0 0\nvt 1 0\nvt 0 1\n" + _NORMALS + b"f 1/1/1 2/2/1 3/3/1\n"),
    Row("latin1_name.obj", 1, "", b"o pi\xe8ce\n" + _POINTS + b"f 1 2 3\n"),
    Row("three_textures.obj", None, _line(4, "Invalid texture, expected 2 tokens, got 3", "vt 0 0 0"), _POINTS + b"vt 0 0 0\n"),
    Row("colors.obj", None, _line(1, "Invalid vertex, expected 3 or 4 tokens, got 6", "v 0 0 0 1 0 0"), b"v 0 0 0 1 0 0\n"),
    Row("index_0.obj", None, _line(4, "Invalid index 0", "f 0 1 2"), _POINTS + b"f 0 1 2\n"),
    Row("index_4.obj", None, _line(4, "Invalid index 4", "f 2 3 4"), _POINTS + b"f 2 3 4\n"),
    Row("word.obj", None, _line(1, "Cannot parse 'a' as a number", "v a 0 0"), b"v a 0 0\n"),
    Row("comma.obj", None, _line(1, "Invalid numeric characters in '0,5'", "v 0,5 0 0"), b"v 0,5 0 0\n"),
    Row("tiny.obj", None, _line(1, "Value '1e-44' out of range", "v 1e-44 0 0"), b"v 1e-44 0 0\n"),
    Row("huge.obj", None, _line(1, "Value '1e39' out of range", "v 1e39 0 0"), b"v 1e39 0 0\n"),
    Row("latin1_vertex.obj", None, _line(1, "Cannot parse '\udce9' as a number", "v \udce9 0 0"), b"v \xe9 0 0\n"),
    Row("points_only.obj", None, "No meshes found", _POINTS),
    Row("mixed.obj", None, _line(6, "Face attribute count mismatch between vertices and textures", "f 1 2 3"),
        _POINTS + b"vt 0 0\nf 1/1 2/1 3/1\nf 1 2 3\n"),
    Row("objects_differ.obj", None, _line(10, "Mesh 1 textures incompatible with first one", ""),
        b"o a\n" + _POINTS + b"vt 0 0\nf 1/1 2/1 3/1\n" + b"o b\n" + _POINTS[:8] + b"f 1 1 1\n"),
]  # fmt: skip
STL = [
    Row("extra_bin.stl", 12),
    Row("binary_solid_bytes.stl", None, _line(1, "Unterminated solid",
        (FILES / "binary_solid_bytes.stl").read_bytes().decode("utf-8", "surrogateescape"))),
    Row("latin1_ascii.stl", None, _line(86, "Invalid normal, expected 5 tokens, got 2", "endsolid pi\udce8ce")),
    Row("text.stl", 1, "", b"solid a\n" + _FACET + b"endsolid\n"),
    Row("named_end.stl", None, _line(9, "Invalid normal, expected 5 tokens, got 2", "endsolid a"), b"solid a\n" + _FACET + b"endsolid a\n"),
    Row("open.stl", None, _line(9, "Unterminated solid", ""), b"solid a\n" + _FACET),
    Row("cut.stl", None, _line(4, "Unterminated facet", ""), b"solid a\n facet normal 0 0 1\n outer loop\n"),
    Row("two_blanks.stl", None, _line(3, "Invalid line, expected 'outer loop', got 'outer  loop'", "  outer  loop"),
        b"solid a\n" + _FACET.replace(b"outer loop", b"outer  loop") + b"endsolid\n"),
    Row("no_facets.stl", None, "No meshes found", b"solid a\nendsolid\n"),
    Row("capitals.stl", None, "Expected 80 bytes header at the beginning of the file", b"SOLID a\nENDSOLID a\n"),
    Row("empty.stl", None, "Expected 80 bytes header at the beginning of the file", b""),
    Row("no_count.stl", None, "Expected 4 bytes triangle count", b" " * 82),
    Row("short.stl", None, "Expected 100 bytes of facet data after header", b" " * 80 + struct.pack("<I", 2) + _BYTES_OF_FACET),
    Row("binary.stl", 1, "", b" " * 80 + struct.pack("<I", 1) + _BYTES_OF_FACET),
    Row("binary_none.stl", None, "No meshes found", b" " * 80 + struct.pack("<I", 0)),
]  # fmt: skip
PLY = [
    Row("facecolor.ply", 1),
    Row("text.ply", 1, "", _TEXT + b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"),
    Row("little.ply", 1, "", _binary_ply("<", (0, 1, 2))),
    Row("big.ply", 1, "", _binary_ply(">", (0, 1, 2))),
    Row("little_extra.ply", 1, "", _binary_ply("<", (0, 1, 2)) + b"more"),
    Row("dos.ply", 1, "", (_TEXT + b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n").replace(b"\n", b"\r\n")),
    Row("strips.ply", 2, "", _HEAD.format("ascii").replace("vertex 3", "vertex 4").encode()
        + b"element tristrips 1\nproperty list int int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n1 1 0\n4 0 1 2 3\n"),
    Row("quad.ply", None, _line(14, "Failed to extract data for element 'face' (index = 0) and property 'vertex_indices': "
        "'Non triangular face with 4 indices'", "4 0 1 2 0"), _TEXT + b"0 0 0\n1 0 0\n0 1 0\n4 0 1 2 0\n"),
    Row("quad_binary.ply", None, _line(10, "Failed to extract data for element 'face' (index = 0) and property 'vertex_indices': "
        "'Non triangular face with 4 indices'", "end_header"), _binary_ply("<", (0, 1, 2, 0))),
    Row("index.ply", None, "Invalid index 7", _TEXT + b"0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n"),
    Row("negative_index.ply", None, _line(14, "Failed to extract data for element 'face' (index = 0) and property "
        "'vertex_indices': 'Value must be positive'", "3 0 1 -1"), _TEXT + b"0 0 0\n1 0 0\n0 1 0\n3 0 1 -1\n"),
    Row("cut.ply", None, _line(12, "Incomplete ASCII data", "1 0 0"), _TEXT + b"0 0 0\n1 0 0"),
    Row("obj_info.ply", None, _line(2, "Failed to parse header: Expected format definition after magic number", "obj_info x"),
        _TEXT.replace(b"ply\n", b"ply\nobj_info x\n", 1)),
    Row("obj_info_later.ply", None, _line(4, "Failed to parse header: Unknown key: 'obj_info'", "obj_info x"),
        _TEXT.replace(b"hand\n", b"hand\nobj_info x\n", 1)),
    Row("version.ply", None, _line(2, "Failed to parse header: Unsupported version '1.1'", "format ascii 1.1"), _TEXT.replace(b"1.0", b"1.1")),
    Row("type.ply", None, _line(5, "Failed to parse header: Invalid type 'half'", "property half x"), _TEXT.replace(b"float x", b"half x")),
    Row("twice.ply", None, _line(10, "Element semantic duplication 'vertex'", "end_header"), _TEXT.replace(b"face", b"vertex")),
    Row("cloud.ply", None, "No meshes found", _HEAD.format("ascii").encode() + b"end_header\n0 0 0\n1 0 0\n0 1 0\n"),
    Row("empty.ply", None, _line(1, "Failed to parse header: Unterminated header", ""), b""),
    Row("other.ply", None, _line(1, "Failed to parse header: Expected 'ply' magic number", "OFF"), b"OFF\n"),
]  # fmt: skip
OFF = [
    Row("triangle.off", 1, "", b"OFF\n# a comment\n3 1 0\n0 0 0\n1 0 0 # here, too\n\n0 1 0\n3 0 1 2\n"),
    Row("no_header.off", 1, "", b"3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"),
    Row("face_colors.off", 1, "", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2 255 0 0\n"),
    Row("quad.off", None, _line(6, "Non triangular face with 4 indices", "4 0 1 2 0"), b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n4 0 1 2 0\n"),
    Row("one_line.off", None, _line(1, "Invalid dimensions, expected 3 tokens, got 4", "OFF 3 1 0"), b"OFF 3 1 0\n0 0 0\n"),
    Row("colored.off", None, _line(1, "Invalid dimensions, expected 3 tokens, got 1", "COFF"), b"COFF\n3 1 0\n"),
    Row("vertex_colors.off", None, _line(3, "Invalid vertex, expected 3 tokens, got 6", "0 0 0 1 1 1"), b"OFF\n3 1 0\n0 0 0 1 1 1\n"),
    Row("index.off", None, _line(6, "Invalid index: 3 > 3", "3 0 1 3"), b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 3\n"),
    Row("few.off", None, _line(5, "Not enough vertices, expected 3, got 2", ""), b"OFF\n3 1 0\n0 0 0\n1 0 0\n"),
    Row("empty.off", None, _line(1, "Empty file", ""), b""),
]  # fmt: skip
SWC = [
    Row("missing_parent.swc", None, _swc_error(3, "Sample id: 3 refers to non-existant parent ID: 77")),
    Row("latin1.swc", 2),
    Row("zeroradius.swc", 7),
    Row("text.swc", None, "Negative IDs are not supported", b"this is no morphology\n"),
    Row("empty.swc", None, "OSPData: shared buffer is NULL", b""),
    Row("more_columns.swc", 2, "", _SOMA + b"2 3 0 10 0 1 1 and more\n"),
    Row("later_first.swc", 2, "", b"2 3 0 10 0 1 1\n" + _SOMA),
    Row("dos.swc", 2, "", (_SOMA + b"2 3 0 10 0 1 1\n").replace(b"\n", b"\r\n")),
    Row("few_columns.swc", None, _swc_error(2, "Unable to parse this line"), _SOMA + b"2 3 0 10 0 1\n"),
    Row("float_number.swc", None, _swc_error(1, "Unable to parse this line"), b"1.0 1 0 0 0 5 -1\n"),
    Row("negative_parent.swc", None, "Negative ParentIDs are not supported", _SOMA + b"2 3 0 10 0 1 -2\n"),
    Row("kind_0.swc", None, _swc_error(2, "Unsupported section type: 0"), _SOMA + b"2 0 0 10 0 1 1\n"),
    Row("own_parent.swc", None, _swc_error(2, "Parent ID can not be itself"), _SOMA + b"2 3 0 10 0 1 2\n"),
    Row("repeated.swc", None, _swc_error(2, "Repeated ID: 1\nID already appears here: \n\x1b[1;34m{path}:1:info\x1b[0m", "warning"),
        _SOMA + b"1 3 0 10 0 1 1\n"),
    Row("two_somata.swc", None, "Multiple somata found: \n" + _swc_error(1, "") + "\n" + _swc_error(2, ""), _SOMA + b"2 1 0 10 0 1 -1\n"),
    Row("soma_of_neurite.swc", None, _swc_error(3, "Found a soma point with a neurite as parent"),
        _SOMA + b"2 3 0 10 0 1 1\n3 1 0 20 0 1 2\n"),
]  # fmt: skip
TABLE = [*OBJ, *STL, *PLY, *OFF, *SWC]


def found(row: Row, folder: Path) -> tuple[int | None, str]:
    """What the emulator's loaders make of it: what it loads, or the words in which it is refused."""
    from airflow_brayns.emulator.loaders import LoadError, load_mesh, load_morphology
    from airflow_brayns.emulator.swc import parse_swc

    path = row.write(folder)
    ending = path.suffix.lstrip(".")
    try:
        if ending == "swc":
            load_morphology(str(path), NEURON)
            return len(parse_swc(path.read_bytes(), str(path))), ""
        _, metadata = load_mesh(str(path), ending)
        return int(metadata["faces"]), ""
    except LoadError as error:
        return None, str(error).replace(str(path), "{path}")


def check() -> Iterator[tuple[Row, str]]:
    """Each row, and how the emulator differs from it ("" where it does not)."""
    with tempfile.TemporaryDirectory() as folder:
        for row in TABLE:
            loads, words = found(row, Path(folder))
            yield row, "" if (loads, words) == (row.loads, row.words) else f"loads {loads}, {words!r}"


def print_table() -> bool:
    """Print the table; False where the emulator differs."""
    alike = 0
    for row, difference in check():
        told = " ".join(row.words.replace("\x1b", "").split())[:90].encode("ascii", "replace").decode()
        became = "loads" if row.loads is not None else f"refused: {told}"
        print(f"{row.name:24} {became}{'  DIFFERS: ' + ascii(difference) if difference else ''}")
        alike += not difference
    print(f"{alike} of {len(TABLE)} files are loaded or refused as in reality")
    return alike == len(TABLE)


if __name__ == "__main__":
    sys.exit(not print_table())
