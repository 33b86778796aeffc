"""The manifest: what is known of each frame on disk. It consists of JSON lines and is only ever appended to, so that a
kill costs one line at most.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.scene_facts import SceneFacts
from airflow_brayns.movie.used import Used, UsedRecord, seconds_of

NAME = "manifest.jsonl"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a manifest: what all its frames have in common.

    :param scene: the digest of the scene, see `plan.scene_hash`.
    :param facts: the facts of the scene, as `SceneFacts.plain()` gives them.
    :param way: how the frames are rendered, `snapshot` or `one-pass`; `render-image` in a manifest of 0.2.0, which
        accumulated.
    :param version: the version of braynsService. Frames of two ways or versions are not mixed: the movie would flicker.
    :param specification: the specification of the movie, for those who find the folder.
    :param measured: the seconds a frame, by way, that 0.2.0 made its choice from; empty since.
    """

    scene: str
    facts: dict[str, Any]
    way: str
    version: str
    specification: dict[str, Any]
    measured: dict[str, float]

    def line(self) -> str:
        """The line of the manifest that holds this header."""
        return (
            json.dumps(
                {"manifest": FORMAT, **{name: getattr(self, name) for name in self.__slots__}}, separators=(",", ":")
            )
            + "\n"
        )

    def check_same(self, service: str, version: str, way: str | None) -> None:
        """Check that a service may render what is left of the frames of this header.

        :param version: its braynsService's; empty where it is not told.
        :param way: the way that was asked for; None for that of the frames.
        :raises InvalidSetting: its frames would be other ones than those that are there.
        """
        if version and self.version and version != self.version:
            raise InvalidSetting(
                "executable",
                f"the frames that are there were rendered by braynsService {self.version}, and {service} is {version}: mixing "
                "them would flicker.",
                remedy="use the same version, or another frames_dir to render all of it anew.",
            )
        if way and way != self.way:
            raise InvalidSetting(
                "way",
                f"the frames that are there were rendered by {self.way}: mixing them with {way} would flicker.",
                remedy="leave `way` out, or use another frames_dir.",
            )

    def withdrawn(self) -> Header:
        """The header which says that the frames before it are of no use: they count as rendered in another way."""
        return replace(self, way="withdrawn")


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """The record of a frame that is on disk.

    :param key: the frame's key, see `plan.Plan.key`.
    :param sha256: the digest of its file.
    :param size: the size of its file in bytes.
    :param mtime: the time of its file in nanoseconds: as long as size and time are as they were, the file is not read
        again.
    :param seconds: the seconds that the service took.
    :param holder: the token of the try that rendered it; empty where 0.2.0 did.
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
    holder: str = ""

    def line(self) -> str:
        """The line of the manifest that holds this record."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({**values, "seconds": round(self.seconds, 4)}, separators=(",", ":")) + "\n"


@dataclass(slots=True)
class Known:
    """The part of a frame's record that a resume needs; 100,000 of them are kept in memory."""

    key: str
    file: str
    sha256: str
    size: int
    mtime: int


@dataclass
class Manifest:
    """A manifest that was read.

    :param header: the latest header; None where there is none.
    :param frames: the latest record of each frame, by number.
    :param damaged: how many lines could not be read, as a killed writer leaves them.
    :param used: what each try has used, by its token.
    """

    header: Header | None
    frames: dict[int, Known]
    damaged: int = 0
    used: dict[str, UsedRecord] = field(default_factory=dict)

    def used_last(self) -> Used | None:
        """What all tries of the movie that was rendered last have used; None where nobody told."""
        if not self.used:
            return None
        last = max(self.used.values(), key=lambda one: one.at).movie
        return sum((one.used for one in self.used.values() if one.movie == last), Used())

    @classmethod
    def read(cls, lines: Iterable[str]) -> Manifest:
        """Read the lines of a file; later ones count.

        :raises InvalidSetting: it is of a format that is not known here.
        """
        found, newer = cls(None, {}), FORMAT
        rendered = dict[str, list[float]]()
        for line in lines:
            try:
                value = json.loads(line)
                if "manifest" in value:
                    newer = max(newer, _format(value["manifest"]))
                    if newer > FORMAT:
                        break
                    header = _header(value)
                    # Records before a header of another way or version are of frames that are not this movie's any
                    # more.
                    if found.header and (found.header.way, found.header.version) != (header.way, header.version):
                        found.frames.clear()
                    found.header = header
                elif "used" in value:
                    record = UsedRecord.read(value)
                    found.used[record.holder] = record
                else:
                    known = Known(
                        str(value["key"]),
                        str(value["file"]),
                        str(value["sha256"]),
                        _whole(value["size"]),
                        _whole(value["mtime"]),
                    )
                    found.frames[_whole(value["frame"])] = known
                    if holder := str(value.get("holder", "")):
                        rendered.setdefault(holder, []).append(seconds_of(value["seconds"]))
            except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
                found.damaged += bool(line.strip())
        if newer > FORMAT:
            raise InvalidSetting(
                "frames_dir",
                f"a newer airflow-brayns wrote its manifest (format {newer}; this one reads {FORMAT}).",
                remedy="upgrade, or use another folder.",
            )
        found.used = {one.holder: one.with_frames(rendered.get(one.holder, ())) for one in found.used.values()}
        return found

    def usable(self) -> Manifest:
        """This manifest without frames of which nobody knows how they were rendered, since their header is lost."""
        return self if self.header is not None else Manifest(None, {}, self.damaged, self.used)


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError("not a count")
    return value


def _format(value: Any) -> int:
    if _whole(value) < 1:
        raise ValueError("no format")
    return int(value)


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
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
