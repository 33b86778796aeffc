"""Volumes: loaded and listed as the real service does, but not drawn: a picture is refused while one is seen whose voxels are not 0."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from airflow_brayns.emulator.rpc import Progress, internal
from airflow_brayns.emulator.scene import Content

_BYTES = {"unsinged_char": 1, "short": 2, "unsigned_short": 2, "half_float": 2, "float": 4, "double": 8}
_MHD_BYTES = {
    "MET_UCHAR": 1, "MET_CHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip


def raw_volume(source: str | bytes, properties: dict[str, Any], progress: Progress) -> Content:
    """Voxels without a header.

    :param properties: the loader's, checked.
    """
    dimensions = properties["dimensions"]
    data = source if isinstance(source, bytes) else _content(source)
    return _volume(data, dimensions, properties["spacing"], _BYTES[properties["data_type"]], progress)


def mhd_volume(path: str, progress: Progress) -> Content:
    """A MetaImage header that names the file of its voxels."""
    header: dict[str, str] = {}
    for line in _content(path).decode("latin-1").splitlines():
        key, _, value = line.partition("=")
        header[key.strip()] = value.strip()
    for key in ("DimSize", "ElementSpacing", "ElementType", "ElementDataFile"):
        if key not in header:
            raise internal(f"The emulator misses '{key}' in {path}")
    if header["ElementType"] not in _MHD_BYTES:
        raise internal(f"The emulator does not know the element type '{header['ElementType']}'")
    try:
        dimensions = [int(word) for word in header["DimSize"].split()]
        spacing = [float(word) for word in header["ElementSpacing"].split()]
    except ValueError as error:
        raise internal(f"The emulator cannot read {path}: {error}") from None
    data = _content(str(Path(path).parent / header["ElementDataFile"]))
    return _volume(data, dimensions, spacing, _MHD_BYTES[header["ElementType"]], progress)


def _content(path: str) -> bytes:
    file = Path(path)
    if not file.exists():
        raise internal(f"File {path} does not exists")
    if not file.is_file():
        raise internal(f"File {path} is not a regular file")
    try:
        return file.read_bytes()
    except OSError:
        raise internal(f"Cannot open file {path}") from None


def _volume(data: bytes, dimensions: list[int], spacing: list[float], width: int, progress: Progress) -> Content:
    progress("Parsing voxels", 0)
    if len(dimensions) != 3 or len(spacing) != 3 or len(data) != math.prod(dimensions) * width:
        raise internal(f"The emulator wants as many voxels as the dimensions say: {dimensions}, {len(data)} bytes")
    progress("Building model", 0.5)
    far = [count * step for count, step in zip(dimensions, spacing, strict=True)]
    corners = [[x, y, z] for x in (0, far[0]) for y in (0, far[1]) for z in (0, far[2])]
    progress("Done", 1)
    return Content("Volume", corners=corners, volume=True, drawn=not any(data))
