"""Reads what came in a WebSocket frame into a request, and refuses what is none, as braynsService 3.10.1 does."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

from airflow_brayns.emulator.rpc import INVALID_REQUEST, PARSE_ERROR, RpcError, invalid_request
from airflow_brayns.emulator.validation import Schema, problems

_SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "id": {"oneOf": [{"type": "null"}, {"type": "integer"}, {"type": "string"}]},
        "jsonrpc": {"type": "string"},
        "method": {"type": "string"},
        "params": {},
    },
    "required": ["jsonrpc", "method"],
}
_SIZE = 4


@dataclass(frozen=True)
class Message:
    """A JSON-RPC request. One without an id is never answered."""

    id: int | str | None
    method: str
    params: Any
    binary: bytes = b""


def parsed(frame: str | bytes) -> Message:
    """The request in a frame: text, or the size of the text, the text and bytes.

    :raises RpcError: for what is no request; such an error is told under no id.
    """
    text, binary = frame, b""
    if isinstance(frame, bytes):
        if len(frame) < _SIZE:
            raise _unreadable("Invalid binary packet, expected at least 4 bytes for the JSON size.")
        (size,) = struct.unpack("<I", frame[:_SIZE])
        if size > len(frame) - _SIZE:
            raise _unreadable(f"Invalid binary packet, JSON size too bi: {size}")
        text, binary = frame[_SIZE : _SIZE + size].decode("utf-8", "replace"), frame[_SIZE + size :]
    assert isinstance(text, str)
    try:
        request = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _unreadable(f"JSON Exception: {_told(text, error)}") from None
    found = problems(_SCHEMA, request)
    if found:
        raise RpcError(INVALID_REQUEST, "Invalid JSON-RPC request schema", found)
    if request["jsonrpc"] != "2.0":
        raise invalid_request(f"Unsupported JSON-RPC version: '{request['jsonrpc']}'")
    if not request["method"]:
        raise invalid_request("No methods provided in request")
    return Message(request.get("id"), request["method"], request.get("params"), binary)


def _unreadable(why: str) -> RpcError:
    return RpcError(PARSE_ERROR, f"Invalid JSON: '{why}'")


def _no_constant(name: str) -> Any:
    raise ValueError(f"unexpected byte '{name[0]}' in value")


def _told(text: str, error: Exception) -> str:
    """What the service's parser says of a text that is no JSON: where a word that it expects ends otherwise."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    rest = text[error.pos :]
    for word in ("true", "false", "null"):
        if rest[:1] == word[0]:
            for expected, byte in zip(word, rest, strict=False):
                if expected != byte:
                    return f"expected '{expected}' instead of byte '{byte}'"
    return f"unexpected byte '{rest[0]}' in value" if rest else "unexpected end of text"
