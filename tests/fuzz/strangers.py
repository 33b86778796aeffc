"""Servers that nobody should trust: strangers on the port, replies that lie, and those that drip one byte at a time for ever."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import struct
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.fuzz import cases

PATIENCE = 0.25  # seconds that the client waits for each thing
LONGEST = 5 * PATIENCE + 1 + 1 + 2  # all rungs, cancelling, closing, and a machine that is busy
_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = {"major": 3, "minor": 10, "patch": 1}
PARAMETERS = {"plugins": ["braynsDTI"], "viewport": [1, 1]}


@dataclass
class Stranger:
    """A server of one kind of nonsense.

    :param rng: decides which.
    :param honest: whether it has answered a request as it should: only then may it be believed.
    """

    rng: Random
    requests: int = 0
    honest: int = 0
    kind: str = ""
    elsewhere: int = 0
    visits: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            async with asyncio.timeout(LONGEST * 3):
                await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.visits.append(head.split(b"\r\n")[0].decode("latin-1"))
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        if key is None:
            await self._http(writer)
        elif self.rng.random() < 0.25:
            await self._no_handshake(writer)
        else:
            accept = base64.b64encode(hashlib.sha1(key[1] + _MAGIC.encode()).digest()).decode()
            writer.write(
                f"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode()
            )
            await self._talk(reader, writer)

    async def _drip(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """A byte at a time, for ever."""
        at = 0
        while not writer.is_closing():
            writer.write(data[at % len(data) : at % len(data) + 1])
            await writer.drain()
            at += 1
            await asyncio.sleep(0.02)

    async def _flood(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """As much as it takes."""
        block = data * max(1, 20_000 // len(data))
        while not writer.is_closing():
            writer.write(block)
            await writer.drain()
            await asyncio.sleep(0)

    async def _http(self, writer: asyncio.StreamWriter) -> None:
        rng = self.rng
        if rng.random() < 0.5:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nOk")
            return
        match rng.randrange(6):
            case 0:
                await self._drip(writer, b"HTTP/1.1 200 OK ")
            case 1:
                writer.write(b"HTTP/1.1 200" + b" O" * 100_000)
                await asyncio.sleep(LONGEST)
            case 2:
                await self._flood(writer, b"HTTP")
            case 3:
                writer.write(rng.randbytes(rng.randint(0, 200)))
            case 4:
                writer.write(
                    rng.choice(
                        (
                            b"\r\n",
                            b"200\r\n",
                            b"HTTP/1.1 503 x\r\n\r\n",
                            b"HTTP/1.1 20 0\r\n",
                            b" 200\r\n",
                            b"\0 200 \n",
                        )
                    )
                )
            case _:
                await asyncio.sleep(LONGEST)

    async def _no_handshake(self, writer: asyncio.StreamWriter) -> None:
        rng = self.rng
        match rng.randrange(9):
            case 0:
                self.kind = "redirect"
                place = f"ws://127.0.0.1:{self.elsewhere}/elsewhere" if rng.random() < 0.7 else "/elsewhere"
                code = rng.choice((301, 302, 303, 307, 308))
                writer.write(f"HTTP/1.1 {code} x\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())
            case 1:
                await self._drip(writer, b"HTTP/1.1 101 Switching\r\nX: y\r\n")
            case 2:
                await self._flood(writer, b"HTTP/1.1 101 x\r\n" if rng.random() < 0.5 else b"x: y\r\n")
            case 3:
                writer.write(
                    b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n"
                )
            case 4:
                writer.write(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + b"ffffffffffffff\r\nx" * rng.randint(0, 3)
                )
                await asyncio.sleep(LONGEST)
            case 5:
                writer.write(
                    rng.choice(
                        (
                            b"SSH-2.0-x\r\n",
                            b"\x16\x03\x01\x02\x00",
                            b"220 x\r\n",
                            b"",
                            rng.randbytes(40),
                            b"HTTP/1.1 101 x\r\n" + b"a: b\r\n" * 500,
                        )
                    )
                )
            case 6:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n")
                await self._flood(writer, b"x")
            case 7:
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: "
                    + rng.choice((b"-1", b"x", "²".encode(), b"9" * 5000))
                    + b"\r\n\r\n"
                )
            case _:
                await asyncio.sleep(LONGEST)

    # ---- after the handshake ---------------------------------------------------------------------------------------
    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rng = self.rng
        while True:
            request = await _read_request(reader)
            self.requests += 1
            if rng.random() < 0.4:
                good = {"get-version": VERSION, "get-application-parameters": PARAMETERS}
                reply = {"jsonrpc": "2.0", "id": request["id"], "result": good.get(str(request["method"]), "honest")}
                self.honest += 1
                writer.write(_in_frames(rng, json.dumps(reply).encode()))
                continue
            await self._nonsense(writer, request["id"])
            if rng.random() < 0.3:
                return

    async def _nonsense(self, writer: asyncio.StreamWriter, asked: int) -> None:
        rng = self.rng
        lie: Any = {"jsonrpc": "2.0", "id": asked, "result": "LIE"}
        match rng.randrange(14):
            case 0:  # of another request
                lie["id"] = rng.choice(
                    (
                        asked + 1,
                        -1,
                        None,
                        str(asked),
                        float(asked),
                        bool(asked),
                        [],
                        {},
                        [asked],
                        10**30,
                        "",
                        asked + 0.5,
                    )
                )
                writer.write(frame(1, json.dumps(lie).encode()))
                writer.write(frame(1, b'{"id": ' + (b"[" * 500) + b"]" * 500 + b', "result": "LIE"}'))
            case 1:  # a binary one that lies about its size
                body = json.dumps(lie).encode()
                size = rng.choice((0, 1, len(body) - 1, len(body) + 1, 2**31, 2**32 - 1))
                writer.write(frame(2, struct.pack("<I", size) + body))
            case 2:
                writer.write(frame(2, rng.randbytes(rng.randint(0, 8))))
            case 3:  # no UTF-8, no JSON
                writer.write(
                    frame(
                        1,
                        rng.choice(
                            (
                                b"\xff\xfe",
                                b"{",
                                b"[]",
                                b"null",
                                b"1",
                                b'"',
                                b"[" * 100_000,
                                b'{"id":' * 50_000,
                                b"\0",
                                b"9" * 9999,
                            )
                        ),
                    )
                )
            case 4:  # an error of any kind
                error = cases.value(rng)
                if rng.random() < 0.7:
                    error = {"code": cases.value(rng), "message": cases.value(rng), "data": cases.value(rng)}
                writer.write(frame(1, json.dumps({"id": asked, "error": error}).encode("utf-8", "replace")))
            case 5:  # progress of any kind
                params = {
                    "id": rng.choice((asked, True, [], None, 0.0)),
                    "operation": cases.value(rng),
                    "amount": cases.value(rng),
                }
                for _ in range(rng.choice((1, 1000))):
                    writer.write(
                        frame(
                            1,
                            json.dumps({"method": "x", "params": rng.choice((params, cases.value(rng)))}).encode(
                                "utf-8", "replace"
                            ),
                        )
                    )
            case 6:  # a frame whose length lies
                writer.write(
                    rng.choice(
                        (
                            b"\x81\x7f" + struct.pack(">Q", 2**62),
                            b"\x82\x7f" + struct.pack(">Q", 2**30),
                            b"\x81\x7e\xff\xff",
                            b"\x81\x7f\xff",
                        )
                    )
                )
                await self._maybe_more(writer)
            case 7:  # bits and codes that nobody uses
                writer.write(bytes([rng.randrange(256), rng.randrange(256)]) + rng.randbytes(rng.randint(0, 140)))
            case 8:  # fragments without an end
                writer.write(frame(1, b'{"id": 0, "result": "LIE', fin=False))
                if rng.random() < 0.5:
                    await self._flood(writer, frame(0, b"x" * 10_000, fin=False))
                await self._drip(writer, frame(0, b"x", fin=False))
            case 9:  # control frames
                writer.write(frame(9, b"ping" * rng.choice((1, 200))) * rng.choice((1, 500)))
                writer.write(frame(8, rng.choice((b"", b"\x03", b"\x03\xe8bye", b"\0\0", b"\xff\xff" + b"\xff" * 20))))
                await asyncio.sleep(rng.choice((0, LONGEST)))
            case 10:  # as many messages as it takes
                await self._flood(writer, frame(1, b'{"method":"x","params":{}}'))
            case 11:  # one that is too large
                size = rng.choice((2 << 20, 17 << 20))
                writer.write(frame(rng.choice((1, 2)), b" " * size))
                await writer.drain()
            case 12:  # numbers
                text = rng.choice(("NaN", "1e999", "-Infinity", "9" * 5000, "9" * 4000, '{"major": 1e999, "minor": NaN, "patch": null}', '{"major": -3, "minor": 1, "patch": 1}',
                                   '{"major": "3", "minor": [], "patch": {}}', '{"major": true, "minor": 99999999999, "patch": 1}', "[]", "null", '"3.10.1"'))  # fmt: skip
                self.honest += 1  # well-formed: it may be taken as a result, and must then be read with care
                writer.write(frame(1, f'{{"id": {asked}, "result": {text}}}'.encode()))
            case _:  # a byte at a time
                await self._drip(
                    writer,
                    frame(1, json.dumps(lie).encode() + b" " * 100_000)[:-1] if rng.random() < 0.5 else b"\x89\x00",
                )

    async def _maybe_more(self, writer: asyncio.StreamWriter) -> None:
        if self.rng.random() < 0.5:
            await self._flood(writer, b"x" * 1000)


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A WebSocket frame as a server sends it."""
    head = bytes([(0x80 if fin else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 1 << 16:
        return head + b"\x7e" + struct.pack(">H", len(payload)) + payload
    return head + b"\x7f" + struct.pack(">Q", len(payload)) + payload


def _in_frames(rng: Random, payload: bytes) -> bytes:
    """One message, in one frame or in several: braynsService sends one, others may send more."""
    if rng.random() < 0.5:
        return frame(1, payload)
    at = rng.randint(1, len(payload) - 1)
    return frame(1, payload[:at], fin=False) + frame(0, payload[at:])


async def _read_request(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next request: a masked text frame."""
    while True:
        first, second = await reader.readexactly(2)
        size = second & 127
        if size == 126:
            size = struct.unpack(">H", await reader.readexactly(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", await reader.readexactly(8))[0]
        mask = await reader.readexactly(4)
        body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(await reader.readexactly(size)))
        if first & 15 == 1:
            return dict(json.loads(body))
        if first & 15 == 8:
            raise ConnectionResetError
