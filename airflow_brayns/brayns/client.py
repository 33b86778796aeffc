"""An asynchronous JSON-RPC client of braynsService."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow_brayns.errors import ConnectionLost, RpcFailed, reason_of
from airflow_brayns.errors.plain import one_line, plain, plain_text

if TYPE_CHECKING:
    from airflow_brayns.brayns.websocket import WebSocket

LARGEST_MESSAGE = 512 * 1024 * 1024  # bytes of a message, a picture behind its JSON included
LARGEST_TEXT = 16 * 1024 * 1024  # bytes of JSON, which takes tens of times as much memory once it is read
_LARGEST_ERROR = 2000  # characters of a service's error that an exception repeats
# The two ends of an error's reply, whatever stands between: braynsService writes `error`, `id`, `jsonrpc` (3.10.1, recorded).
_ERROR_BEGINS = re.compile(r'\s*\{\s*(?:"id"\s*:\s*(\d{1,9})\s*,\s*)?(?:"jsonrpc"\s*:\s*"2.0"\s*,\s*)?"error"\s*:')
_ERROR_ENDS = re.compile(r'"id"\s*:\s*(\d{1,9})\s*,\s*"jsonrpc"\s*:\s*"2.0"\s*\}\s*$')
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Reply:
    """A service's answer to one request.

    :param result: the JSON result, its texts made safe (`airflow_brayns.errors.plain`).
    :param binary: the bytes behind it as they came, such as a picture's; empty where there are none.
    """

    result: Any
    binary: bytes = b""


@dataclass
class _Pending:
    future: asyncio.Future[Reply]
    method: str
    progress: Progress | None


class BraynsClient:
    """A client of one braynsService, which keeps one WebSocket open; an asynchronous context manager.

    The client sends no pings, since braynsService 2.x to 3.10.1 closes the connection on one (run). So every request
    has its own time-out.

    :param endpoint: `host:port`.
    :param ssl_context: how a service that was started with `--secure true` is spoken to; None for one without TLS.
    :param timeout: seconds for connecting, and for each request that is not given its own.
    :param largest: bytes that a message may have.
    :param told: the name that errors give the service, where `endpoint` is a tunnel's; empty for `endpoint` itself.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = 60,
        largest: int = LARGEST_MESSAGE,
        told: str = "",
    ) -> None:
        self.endpoint = endpoint
        self._told = told or endpoint
        self._largest = largest
        self._ssl = ssl_context
        self._timeout = timeout
        self._socket: WebSocket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ids = itertools.count()
        self._pending: dict[int, _Pending] = {}
        self._sending = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the WebSocket.

        :raises ConnectionLost: nobody answers, or not as a WebSocket.
        """
        from airflow_brayns.brayns.websocket import WebSocket

        scheme = "wss" if self._ssl else "ws"
        try:
            async with asyncio.timeout(self._timeout):
                self._socket = await WebSocket.open(f"{scheme}://{self.endpoint}", self._ssl, self._largest)
        except (OSError, TimeoutError, ValueError) as error:
            told = str(error)[:_LARGEST_ERROR] or f"no answer within {self._timeout:g} s"
            raise ConnectionLost(
                f"braynsService at {self._told} cannot be reached: {told}",
                remedy="See that it runs, and that `route` leads there.",
            ) from error
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Close the WebSocket; requests that still wait for a reply fail with `ConnectionLost`."""
        self._fail_all("closed")  # before the reader ends, which would say that the service closed it
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        binary: bytes = b"",
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> Reply:
        """Send a request and wait for its reply.

        :param binary: bytes to send behind the request (`upload-model`).
        :param timeout: seconds. When it passes the service is asked to cancel the request, and answers that at once,
            but goes on with what it is at (asked at 6.8 s, ended with error 20 at 76.8 s; 3.10.1, run): the next
            request waits.
        :param progress: a function that is told of each step: its name, and how much of the request is done, between 0
            and 1.
        :raises RpcFailed: the service answered with an error.
        :raises ConnectionLost: no answer in time, or the connection ended.
        """
        return (await self.call_in_order([(method, params)], binary=binary, timeout=timeout, progress=progress))[0]

    async def call_in_order(
        self,
        messages: Sequence[tuple[str, Any]],
        *,
        binary: bytes = b"",
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> list[Reply]:
        """Send several requests at once and wait for all replies. The service takes them in this order, nothing in
        between.

        :param messages: method and params of each.
        :param binary: as for `call`: behind each request.
        :param timeout: as for `call`: for all of them together.
        :param progress: as for `call`.
        """
        if self._socket is None:
            raise ConnectionLost(f"The client of {self._told} is not open.")
        allowed = self._timeout if timeout is None else timeout
        method = messages[-1][0]
        sent: list[int] = []
        try:
            async with asyncio.timeout(allowed):
                async with self._sending:
                    for each, params in messages:
                        sent.append(await self._send(each, params, binary, progress))
                return [await self._pending[one].future for one in sent]
        except TimeoutError:
            await self._cancel(sent)
            raise ConnectionLost(
                f"{method} on {self._told} was not answered within {allowed:g} s.", timed_out=True
            ) from None
        except OSError as error:
            raise ConnectionLost(f"The connection to {self._told} ended during {method}: {reason_of(error)}") from error
        except asyncio.CancelledError:
            await self._cancel(sent)
            raise
        finally:
            for one in sent:
                _let_go(self._pending.pop(one).future)  # where several requests fail, the error of the first is raised

    async def _send(self, method: str, params: Any, binary: bytes, progress: Progress | None) -> int:
        assert self._socket is not None
        request_id = next(self._ids)
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
        if params is not None:
            message["params"] = params
        text = json.dumps(message)
        body = text.encode()
        self._pending[request_id] = _Pending(asyncio.get_running_loop().create_future(), method, progress)
        try:
            await self._socket.send(struct.pack("<I", len(body)) + body + binary if binary else text)
        except BaseException:
            _let_go(self._pending.pop(request_id).future)
            raise
        return request_id

    async def _cancel(self, requests: Sequence[int]) -> None:
        """Ask the service to give up those requests that it has not answered; it hears this although it is busy."""
        try:
            async with asyncio.timeout(1):
                for request_id in requests:
                    future = self._pending[request_id].future
                    if not future.done() or future.cancelled():
                        params = {"id": request_id}
                        message = {"jsonrpc": "2.0", "id": next(self._ids), "method": "cancel", "params": params}
                        assert self._socket is not None
                        await self._socket.send(json.dumps(message))
        except (OSError, TimeoutError):
            pass

    async def _read(self) -> None:
        assert self._socket is not None
        reason = "it was closed by the service"
        try:
            async for message in self._socket.messages():
                self._receive(message)
        except OSError as error:
            reason = plain_text(reason_of(error), _LARGEST_ERROR)
        except (ValueError, RecursionError) as error:
            reason = f"it sent something that is no JSON-RPC: {plain_text(reason_of(error), _LARGEST_ERROR)}"
        finally:
            self._fail_all(reason)

    def _receive(self, message: str | bytes) -> None:
        binary = b""
        if isinstance(message, bytes):
            size = struct.unpack("<I", message[:4])[0] if len(message) >= 4 else len(message)
            if len(message) < 4 + size:
                raise ValueError("a binary frame shorter than it says")
            binary = message[4 + size :]
            message = message[4 : 4 + size]
        if len(message) > LARGEST_TEXT:
            raise ValueError(f"{len(message)} bytes of JSON")
        text = message if isinstance(message, str) else message.decode("utf-8", "replace")
        try:
            content = json.loads(text, strict=False)  # an error may quote a file's control characters as they are
        except ValueError:
            if self._refuse_unread(text):
                return
            raise
        content = plain(content)  # whatever a service says enters the package here, and nowhere else
        if not isinstance(content, dict):
            raise ValueError("a message that is not an object")
        if "error" not in content and "result" not in content:
            self._progress(content.get("params"))
            return
        pending = self._asked(content.get("id"))
        if pending is None or pending.future.done():
            return
        if "error" in content:
            pending.future.set_exception(_refusal(pending.method, content["error"]))
        else:
            pending.future.set_result(Reply(content["result"], binary))

    def _refuse_unread(self, text: str) -> bool:
        """Fail the request that an unreadable error belongs to, so that the others go on; tell whether it could be
        found.
        """
        begins = _ERROR_BEGINS.match(text)
        if begins is None:
            return False
        ends = _ERROR_ENDS.search(text[-100:])
        found = begins[1] or (ends and ends[1])
        pending = self._asked(int(found)) if found else None
        if pending is None:
            return False
        if not pending.future.done():
            pending.future.set_exception(_refusal(pending.method, {"message": f"an error that is no JSON: {text}"}))
        return True

    def _progress(self, params: Any) -> None:
        if isinstance(params, dict):
            pending, amount = self._asked(params.get("id")), params.get("amount", 0)
            if (
                pending is not None
                and pending.progress is not None
                and type(amount) in (int, float)
                and 0 <= amount <= 1
            ):
                pending.progress(one_line(str(params.get("operation", ""))), float(amount))

    def _asked(self, request_id: Any) -> _Pending | None:
        """The pending request of an id, which must be an int: `True` and `0.0` would be found under 1 and 0 too."""
        return self._pending.get(request_id) if type(request_id) is int else None

    def _fail_all(self, reason: str) -> None:
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(
                    ConnectionLost(f"The connection to {self._told} ended during {pending.method}: {reason}")
                )


def _let_go(future: asyncio.Future[Reply]) -> None:
    """Cancel a reply that nobody waits for any more, and take its error, which asyncio would log otherwise."""
    if not future.cancel() and not future.cancelled():
        future.exception()


def _refusal(method: str, error: Any) -> RpcFailed:
    """The exception for an error that the service answered with, cut to a length that a log can bear."""
    error = error if isinstance(error, dict) else {}
    code, data = error.get("code"), error.get("data")
    details = [plain_text(str(one), _LARGEST_ERROR) for one in data[:10]] if isinstance(data, list) else None
    number = code if type(code) is int and abs(code) < 1 << 31 else 0
    return RpcFailed(method, number, plain_text(str(error.get("message", "")), _LARGEST_ERROR), details)
