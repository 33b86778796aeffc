"""Reads the four recordings into one form, whatever each was written in."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data"
NAMES = ("conversation-3.10.1", "conversation-3.10.1-scenes", "conversation-3.10.1-wide", "conversation-3.10.1-passes")
_ALL = (
    "braynsCircuitExplorer", "braynsAtlasExplorer", "braynsCylindricCamera", "braynsDTI", "braynsMoleculeExplorer",
)  # fmt: skip
PLUGINS = {
    "conversation-3.10.1": _ALL,
    "conversation-3.10.1-scenes": ("braynsCircuitExplorer",),
    "conversation-3.10.1-wide": ("braynsCircuitExplorer", "braynsCylindricCamera", "braynsMoleculeExplorer"),
    "conversation-3.10.1-passes": ("braynsCircuitExplorer",),
}
# What was sent in the requests that `wide` keeps only a note of
_RAW: dict[str, str | bytes] = {
    "not json": "{not json",
    "json array": "[]",
    "no method": '{"jsonrpc": "2.0", "id": 265}',
    "id text": '{"jsonrpc": "2.0", "id": "a", "method": "get-version"}',
    "version 1.0": '{"jsonrpc": "1.0", "id": 267, "method": "get-version"}',
    "notification": '{"jsonrpc": "2.0", "method": "get-version"}',
    "binary too short": b"\1",
    "binary lies": struct.pack("<I", 255) + b"{}",
}


@dataclass(frozen=True)
class Exchange:
    """A request as it was sent and what came back.

    :param reply: The last message; None where none came.
    :param magic: How the bytes behind it begin; empty without bytes, None where it was not kept.
    :param progress: Operation and amount of the first message of progress; None where it was not kept, empty for none.
    :param same_picture_as: The index of the request whose picture was the same, pixel for pixel.
    :param picture: The file of the picture that came, where it was kept.
    """

    index: int
    name: str
    sent: str | bytes
    reply: dict[str, Any] | None
    has_bytes: bool
    magic: str | None = None
    progress: tuple[Any, ...] | None = None
    same_picture_as: int | None = None
    picture: Path | None = None
    titles_kept: bool = True
    note: str = field(default="", compare=False)


def recording(name: str, folder: Path) -> list[Exchange]:
    """One of `NAMES`, its files looked for in `folder` where the recorded service had them in `/data`."""
    lines = (DATA / "recorded" / f"{name}.jsonl").read_text().replace("/data", str(folder)).splitlines()
    entries = [json.loads(line) for line in lines]
    read = {"conversation-3.10.1": _first, "conversation-3.10.1-wide": _wide}.get(name, _later)
    return [read(index, entry) for index, entry in enumerate(entries)]


def _sent(text: str, behind: bytes | None) -> str | bytes:
    return text if behind is None else struct.pack("<I", len(text.encode())) + text.encode() + behind


def _first(index: int, entry: dict[str, Any]) -> Exchange:
    request, last = entry["request"], entry["replies"][-1]
    text = request if isinstance(request, str) else json.dumps(request)
    cube = (DATA / "cube.obj").read_bytes() if entry["request_frame"] == "binary" else None
    told = [reply["json"]["params"] for reply in entry["replies"] if "params" in reply["json"]]
    return Exchange(
        index,
        "raw" if isinstance(request, str) else request["method"],
        _sent(text, cube),
        last["json"],
        last["frame"] == "binary",
        last.get("magic", ""),
        (told[0]["operation"], told[0]["amount"]) if told else (),
        titles_kept=False,
        note=entry.get("note", ""),
    )


def _later(index: int, entry: dict[str, Any]) -> Exchange:
    return Exchange(
        index,
        entry["request"]["method"],
        json.dumps(entry["request"]),
        entry["reply"],
        entry["bytes"] > 0,
        same_picture_as=entry.get("same_picture_as"),
        picture=DATA / "recorded" / "scenes" / Path(entry["picture"]).name if "picture" in entry else None,
        note=entry.get("note", ""),
    )


def _wide(index: int, entry: dict[str, Any]) -> Exchange:
    note = entry.get("note", "")
    if entry["method"] == "raw":
        sent: str | bytes = _RAW[note]
    else:
        request = {"jsonrpc": "2.0", "id": entry["n"], "method": entry["method"]}
        if entry["params"] is not None:
            request["params"] = entry["params"]
            if "metadata" in (entry["params"] if isinstance(entry["params"], dict) else {}):
                request["params"]["metadata"]["description"] = ""  # lost with the schemas' texts when it was recorded
        uploads = entry["method"] == "upload-model" and note != "nothing behind it"
        sent = _sent(json.dumps(request), (DATA / "cube.obj").read_bytes() if uploads else None)
    told = [params for _, params in entry["progress"]]
    return Exchange(
        index,
        entry["method"][:40],
        sent,
        entry.get("reply"),
        entry.get("bytes", 0) > 0,
        entry.get("head", ""),
        (told[0]["operation"], told[0]["amount"]) if told else (),
        note=note,
    )


def make_files(folder: Path) -> None:
    """The files that the recorded service had in `/data`: those that were kept, and broken ones made again so that they
    break where the recording says."""
    for name in ("cube.obj", "neuron.swc"):
        shutil.copyfile(DATA / name, folder / name)
    shutil.copytree(DATA / "recorded" / "sonata", folder / "sonata")
    (folder / "bad.obj").write_text("v 1 2\n")
    (folder / "bad.swc").write_text("-1 1 0 0 0 1 -1\n")
    (folder / "empty.obj").write_text("")
    (folder / "empty.swc").write_text("")
    shutil.copyfile(DATA / "cube.obj", folder / "unreadable.obj")  # mode 000; the recorded service ran as root
    (folder / "vol.raw").write_bytes(bytes(8 * 8 * 8))
    (folder / "vol.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 8 8 8\nElementSpacing = 1 1 1\nElementType = MET_UCHAR\nElementDataFile = vol.raw\n"
    )
