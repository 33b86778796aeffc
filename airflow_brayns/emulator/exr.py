"""OpenEXR files of floats, without compression: one part, or one for each of several layers.

Source of the form: https://openexr.com/en/latest/OpenEXRFileLayout.html
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MAGIC, _VERSION, _SEVERAL_PARTS = 20000630, 2, 0x1000
_FLOAT, _NO_COMPRESSION, _TOP_FIRST = 2, 0, 0
_CHANNELS = {1: ("Y",), 3: ("R", "G", "B"), 4: ("R", "G", "B", "A")}


def encode_layers(layers: dict[str, npt.NDArray[np.float32]]) -> bytes:
    """A file with these layers, each an array of height x width x channels (1, 3 or 4)."""
    several = len(layers) > 1
    headers = b"".join(_header(name, layer, several) + b"\0" for name, layer in layers.items())
    start = (
        struct.pack("<iI", _MAGIC, _VERSION | (_SEVERAL_PARTS if several else 0))
        + headers
        + (b"\0" if several else b"")
    )
    rows = [_rows(number if several else None, layer) for number, layer in enumerate(layers.values())]
    offset = len(start) + 8 * sum(len(one) for one in rows)
    table = []
    for row in (row for one in rows for row in one):
        table.append(struct.pack("<Q", offset))
        offset += len(row)
    return start + b"".join(table) + b"".join(row for one in rows for row in one)


def _header(name: str, layer: Any, several: bool) -> bytes:
    height, width, channels = layer.shape
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    listed = b"".join(
        channel.encode() + b"\0" + struct.pack("<iB3xii", _FLOAT, 0, 1, 1) for channel in sorted(_CHANNELS[channels])
    )
    attributes = [
        ("channels", "chlist", listed + b"\0"),
        ("compression", "compression", bytes([_NO_COMPRESSION])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", bytes([_TOP_FIRST])),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    ]
    if several:
        attributes += [
            ("name", "string", name.encode()),
            ("type", "string", b"scanlineimage"),
            ("chunkCount", "int", struct.pack("<i", height)),
        ]
    return b"".join(
        key.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
        for key, kind, value in attributes
    )


def _rows(part: int | None, layer: Any) -> list[bytes]:
    channels = _CHANNELS[layer.shape[2]]
    order = [channels.index(channel) for channel in sorted(channels)]
    lead = b"" if part is None else struct.pack("<i", part)
    result = []
    for number, row in enumerate(layer):
        data = b"".join(row[:, index].astype("<f4").tobytes() for index in order)
        result.append(lead + struct.pack("<ii", number, len(data)) + data)
    return result
