"""The manifest: what is known of each frame on disk. JSON lines, only ever appended to, so that a kill costs a line at most."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_brayns.movie.plan import SceneFacts

NAME = "manifest.jsonl"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Header:
    """What all frames have in common.

    :param scene: see `plan.scene_hash`.
    :param facts: `SceneFacts.plain()`.
    :param way: how the frames are rendered, `snapshot` or `one-pass`; `render-image` in one of 0.2.0, which accumulated.
    :param version: of braynsService. Frames of two ways or versions are not mixed: the movie would flicker.
    :param specification: what was asked for, for those who find the folder.
    :param measured: seconds a frame, by way, that 0.2.0 made its choice from; empty since.
    """

    scene: str
    facts: dict[str, Any]
    way: str
    version: str
    specification: dict[str, Any]
    measured: dict[str, float]

    def line(self) -> str:
        """As it is written."""
        return (
            json.dumps(
                {"manifest": FORMAT, **{name: getattr(self, name) for name in self.__slots__}}, separators=(",", ":")
            )
            + "\n"
        )


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """A frame that is on disk.

    :param key: see `plan.Plan.key`.
    :param sha256: of the file.
    :param size: of the file in bytes.
    :param mtime: of the file in nanoseconds: as long as both are as they were, the file is not read again.
    :param seconds: that the service took.
    """

    frame: int
    key: str
    file: str
    sha256: str
    size: int
    mtime: int
    seconds: float = 0.0
    node: str = ""
    job: str = ""
    service: str = ""
    version: str = ""
    way: str = ""
    scene: str = ""

    def line(self) -> str:
        """As it is written."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({**values, "seconds": round(self.seconds, 4)}, separators=(",", ":")) + "\n"


@dataclass(slots=True)
class Known:
    """The part of a record that a resume needs; 100,000 of them are kept."""

    key: str
    file: str
    sha256: str
    size: int
    mtime: int


@dataclass
class Manifest:
    """What was read of a manifest.

    :param frames: the latest line of each frame.
    :param damaged: lines that could not be read: of a writer that was killed.
    """

    header: Header | None
    frames: dict[int, Known]
    damaged: int = 0

    @classmethod
    def read(cls, lines: Iterable[str]) -> Manifest:
        """Read the lines of a file; later ones count."""
        found = cls(None, {})
        for line in lines:
            try:
                value = json.loads(line)
                if "manifest" in value:
                    header = _header(value)
                    # Frames that were rendered in another way are not of this movie any more.
                    if found.header and (found.header.way, found.header.version) != (header.way, header.version):
                        found.frames.clear()
                    found.header = header
                else:
                    known = Known(
                        str(value["key"]),
                        str(value["file"]),
                        str(value["sha256"]),
                        _whole(value["size"]),
                        _whole(value["mtime"]),
                    )
                    found.frames[_whole(value["frame"])] = known
            except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
                found.damaged += bool(line.strip())
        return found

    def usable(self) -> Manifest:
        """Without frames of which nobody knows how they were rendered, since the line that told it is lost."""
        return self if self.header is not None else Manifest(None, {}, self.damaged)


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError("not a count")
    return value


def _header(value: Mapping[str, Any]) -> Header:
    SceneFacts.from_plain(value["facts"])
    json.dumps(value, allow_nan=False)
    return Header(
        str(value["scene"]),
        dict(value["facts"]),
        str(value["way"]),
        str(value["version"]),
        dict(value["specification"]),
        {str(way): float(seconds) for way, seconds in value["measured"].items()},
    )


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
