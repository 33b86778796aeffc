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
from airflow_brayns.plain import one_line, plain, plain_text

if TYPE_CHECKING:
    from airflow_brayns.brayns.websocket import WebSocket

LARGEST_MESSAGE = 512 * 1024 * 1024  # with a picture behind it
LARGEST_TEXT = 16 * 1024 * 1024  # of JSON, which takes tens of times as much memory once it is read
_LARGEST_ERROR = 2000  # characters of an error that are told
# The two ends of an error's reply, whatever stands between: braynsService writes `error`, `id`, `jsonrpc` (3.10.1, recorded).
_ERROR_BEGINS = re.compile(r'\s*\{\s*(?:"id"\s*:\s*(\d{1,9})\s*,\s*)?(?:"jsonrpc"\s*:\s*"2.0"\s*,\s*)?"error"\s*:')
_ERROR_ENDS = re.compile(r'"id"\s*:\s*(\d{1,9})\s*,\s*"jsonrpc"\s*:\s*"2.0"\s*\}\s*$')
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Reply:
    """What came back: the JSON result, made safe (`airflow_brayns.plain`), and the bytes behind it (pictures) as they are."""

    result: Any
    binary: bytes = b""


@dataclass
class _Pending:
    future: asyncio.Future[Reply]
    method: str
    progress: Progress | None


class BraynsClient:
    """One WebSocket to one braynsService; an asynchronous context manager.

    No pings are sent: 2.x to 3.10.1 close the connection on one (run). So every request has its own time-out.

    :param endpoint: `host:port`.
    :param ssl_context: for a service that was started with `--secure true`.
    :param timeout: seconds for connecting, and for each request that is not given its own.
    :param largest: bytes that a message may have.
    :param told: what errors call the service, where `endpoint` is a tunnel's; empty for that.
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
        """Connect.

        :raises ConnectionLost: nobody answers, or not as a WebSocket.
        """
        from airflow_brayns.brayns.websocket import WebSocket

        scheme = "wss" if self._ssl else "ws"
        try:
            async with asyncio.timeout(self._timeout):
                self._socket = await WebSocket.open(f"{scheme}://{self.endpoint}", self._ssl, self._largest)
        except (OSError, TimeoutError, ValueError) as error:
            told = str(error)[:_LARGEST_ERROR] or f"no answer within {self._timeout:g} s"
            raise ConnectionLost(f"braynsService at {self._told} cannot be reached: {told}") from error
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Close; what is still waiting fails."""
        if self._reader is not None:
            self._reader.cancel()
        if self._socket is not None:
            await self._socket.close()
        self._fail_all("closed")

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
        :param timeout: seconds. When it passes the service is asked to cancel the request, and answers that at once, but
            goes on with what it is at (asked at 6.8 s, ended with error 20 at 76.8 s; 3.10.1, run): the next request waits.
        :param progress: told of each step: operation and a share between 0 and 1.
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
        """Send several requests at once and wait for all replies. The service takes them in this order, nothing in between.

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
                _let_go(self._pending.pop(one).future)  # one that failed after another is told of by the other

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
        """Ask the service to give requests up that are not answered; it hears this although it is busy."""
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
        content = plain(content)  # the one place where a service's words enter
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
        """An error that cannot be read, but for the request that it belongs to: that one failed, and the others go on."""
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
        """The request of that id. `True` and `0.0` would be found under 1 and 0 too."""
        return self._pending.get(request_id) if type(request_id) is int else None

    def _fail_all(self, reason: str) -> None:
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(
                    ConnectionLost(f"The connection to {self._told} ended during {pending.method}: {reason}")
                )


def _let_go(future: asyncio.Future[Reply]) -> None:
    """Nobody waits for it any more, nor for its error."""
    if not future.cancel() and not future.cancelled():
        future.exception()


def _refusal(method: str, error: Any) -> RpcFailed:
    """What the service says of a request, told at a bearable length."""
    error = error if isinstance(error, dict) else {}
    code, data = error.get("code"), error.get("data")
    details = [plain_text(str(one), _LARGEST_ERROR) for one in data[:10]] if isinstance(data, list) else None
    number = code if type(code) is int and abs(code) < 1 << 31 else 0
    return RpcFailed(method, number, plain_text(str(error.get("message", "")), _LARGEST_ERROR), details)
