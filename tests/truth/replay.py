"""Replays a recording in process: what comes out of a frame goes through the emulator's own reader, checks and methods."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from airflow_brayns.emulator.faults import Faults
from airflow_brayns.emulator.floats import printed
from airflow_brayns.emulator.requests import parsed
from airflow_brayns.emulator.rpc import Call, RpcError
from airflow_brayns.emulator.service import BraynsState
from tests.truth.compare import differences
from tests.truth.pictures import Likeness, likeness
from tests.truth.recordings import NAMES, PLUGINS, Exchange, make_files, recording

# Why a request is not answered as the recorded one was; each is looked for, and one that is alike now is an error.
REASONS: dict[tuple[str, int], str] = {}


@dataclass(frozen=True)
class Outcome:
    """How one request came out; `likeness` where its picture was kept."""

    recording: str
    exchange: Exchange
    differences: tuple[str, ...]
    likeness: Likeness | None = None

    @property
    def reason(self) -> str:
        return REASONS.get((self.recording, self.exchange.index), "")


def replay(name: str, folder: Path, last: int | None = None) -> list[Outcome]:
    """Send a recording's requests, each after the other, to a new emulator that takes no time of its own.

    :param folder: An empty one, for the files that the requests read and write.
    :param last: How many of its requests; all by default.
    """
    make_files(folder)
    state = BraynsState((3, 10, 1), list(PLUGINS[name]), Faults(snapshot_seconds=0))
    pictures: dict[int, str] = {}
    outcomes = []
    for exchange in recording(name, folder)[:last]:
        reply, data, told = answer(state, exchange)
        found = differences(exchange, reply, data, told)
        if data and data[:4] == b"\x89PNG":
            pictures[exchange.index] = hashlib.sha256(Image.open(io.BytesIO(data)).tobytes()).hexdigest()
        if exchange.same_picture_as is not None and pictures.get(exchange.index) != pictures.get(
            exchange.same_picture_as
        ):
            found.append(f"another picture than request {exchange.same_picture_as}")
        if name.endswith("-passes") and exchange.same_picture_as is None and exchange.has_bytes:
            first = next(index for index, picture in pictures.items() if picture == pictures[exchange.index])
            if first != exchange.index:
                found.append(f"the same picture as request {first}, recorded another")
        like = likeness(data, exchange.picture) if data and exchange.picture else None
        found += like.differences() if like else []
        outcomes.append(Outcome(name, exchange, tuple(found), like))
    return outcomes


def replay_all(folder: Path) -> list[Outcome]:
    """All four recordings."""
    outcomes = []
    for name in NAMES:
        (folder / name).mkdir()
        outcomes += replay(name, folder / name)
    return outcomes


def answer(state: BraynsState, exchange: Exchange) -> tuple[dict[str, Any] | None, bytes | None, tuple[Any, ...]]:
    """Reply, bytes and first message of progress, as `differences` takes them."""
    told: list[tuple[str, Any]] = []
    request_id = None
    try:
        message = parsed(exchange.sent)
        request_id = message.id
        call = Call(
            message.params, message.binary, lambda what, part: told.append((what, printed(part))), lambda: False
        )
        reply = state.handle(message.method, call)
    except RpcError as error:
        data = {} if error.data is None else {"data": error.data}
        details = {"code": error.code, "message": error.message, **data}
        return {"id": request_id, "jsonrpc": "2.0", "error": details}, None, told[0] if told else ()
    if request_id is None:
        return None, None, ()
    content = {"id": request_id, "jsonrpc": "2.0", "result": json.loads(json.dumps(printed(reply.result)))}
    return content, reply.binary, told[0] if told else ()
