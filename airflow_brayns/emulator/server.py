"""The socket side: WebSocket and HTTP on one port, one thread for JSON-RPC, a thread for each client."""

from __future__ import annotations

import http
import json
import queue
import socket
import ssl
import struct
import threading
import time
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.sync.server import Server as WebSocketServer
from websockets.sync.server import ServerConnection

from airflow_brayns.emulator.service import (
    CANCELLED,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    BraynsState,
    Call,
    Reply,
    RpcError,
)

_LARGEST_MESSAGE = 2_000_000_000
_QUIT_SECONDS = 0.3


class _Protocol(ServerProtocol):
    """Closes on a ping, as 2.x to 3.10.1 do."""

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self.fail(1002, "ping")
            return
        super().recv_frame(frame)


class _Task:
    """A request that waits for, or is on, the JSON-RPC thread."""

    def __init__(self, client: ServerConnection, message: dict[str, Any], binary: bytes) -> None:
        self.client, self.message, self.binary = client, message, binary
        self.id = message.get("id")
        self.cancelled = threading.Event()


class Server:
    """Serves one state on a listening socket until `quit`.

    :param slots: how many connections are served at once, HTTP included; further ones wait in the kernel's backlog.
    """

    def __init__(self, listener: socket.socket, state: BraynsState, slots: int, tls: ssl.SSLContext | None) -> None:
        self._listener, self._state, self._tls = listener, state, tls
        self._library = WebSocketServer(listener, lambda client, address: None)
        self._slots = threading.Semaphore(slots)
        self._tasks: queue.Queue[_Task] = queue.Queue()
        self._pending: list[_Task] = []
        self._ended = threading.Event()

    def serve(self) -> None:
        """Return after `quit`."""
        for target in (self._accept, self._work):
            threading.Thread(target=target, daemon=True).start()
        self._ended.wait()
        time.sleep(_QUIT_SECONDS)

    def quit(self) -> None:
        """End `serve`; the reply that is on its way still goes out."""
        self._ended.set()

    def _accept(self) -> None:
        while True:
            self._slots.acquire()
            client, _ = self._listener.accept()
            threading.Thread(target=self._client, args=(client,), daemon=True).start()

    def _client(self, raw: socket.socket) -> None:
        connection = None
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = self._tls.wrap_socket(raw, server_side=True) if self._tls else raw
            connection = ServerConnection(
                stream,
                _Protocol(max_size=_LARGEST_MESSAGE),
                self._library,
                ping_interval=None,
                close_timeout=1,
            )
            connection.handshake(process_request=self._http, server_header=None)
            if connection.protocol.handshake_exc is None:
                for message in connection:
                    self._receive(connection, message)
            connection.close()
        except (ConnectionClosed, OSError, EOFError, ssl.SSLError):
            pass
        except Exception as error:  # a client's nonsense ends its own connection only
            print(f"[error] {error!r}", flush=True)
        finally:
            for task in list(self._pending):  # a snapshot without `file_path` does not survive its client
                if task.client is connection and not (task.message.get("params") or {}).get("file_path"):
                    task.cancelled.set()
            raw.close()
            self._slots.release()

    def _http(self, connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        version = self._state.version
        if version >= (3, 3, 0) and request.path == "/healthz":
            answer = connection.respond(http.HTTPStatus.OK, "Ok")
            del answer.headers["Content-Length"]
            return answer
        if version[0] == 1 and request.path == "/version":
            major, minor, patch = version
            body = {"major": major, "minor": minor, "patch": patch, "revision": "emulated"}
            return connection.respond(http.HTTPStatus.OK, json.dumps(body))
        return connection.respond(http.HTTPStatus.NOT_FOUND, "")

    # ---- messages ------------------------------------------------------------------------------------------------
    def _receive(self, client: ServerConnection, message: str | bytes) -> None:
        text, binary = message, b""
        if isinstance(message, bytes):
            if len(message) < 4 or len(message) < 4 + (size := struct.unpack("<I", message[:4])[0]):
                _send_error(client, None, RpcError(PARSE_ERROR, "Invalid binary frame"))
                return
            text, binary = message[4 : 4 + size].decode("utf-8", "replace"), message[4 + size :]
        try:
            request = json.loads(text)
        except ValueError as error:
            _send_error(client, None, RpcError(PARSE_ERROR, f"Invalid JSON: '{error}'"))
            return
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            request_id = request.get("id") if isinstance(request, dict) else None
            _send_error(client, request_id, RpcError(INVALID_REQUEST, "Invalid JSON-RPC request schema"))
            return
        task = _Task(client, request, binary)
        if request["method"] == "cancel" and self._cancel(task):
            return
        self._pending.append(task)
        self._tasks.put(task)

    def _cancel(self, task: _Task) -> bool:
        """`cancel` overtakes what waits: it is answered on the client's own thread."""
        wanted = (task.message.get("params") or {}).get("id")
        for other in self._pending:
            if other.client is task.client and other.id == wanted and other.message["method"] != "render-image":
                other.cancelled.set()
                _send(task.client, task.id, Reply(None))
                return True
        return False

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            method = task.message["method"]

            def progress(operation: str, amount: float, task: _Task = task, method: str = method) -> None:
                if task.id is not None:
                    params = {"amount": amount, "id": task.id, "operation": operation}
                    _deliver(task.client, json.dumps({"jsonrpc": "2.0", "method": method, "params": params}))

            call = Call(task.message.get("params"), task.binary, progress, task.cancelled.is_set)
            try:
                if task.cancelled.is_set():
                    raise RpcError(CANCELLED, "Task has been cancelled")
                reply = self._state.handle(method, call)
            except RpcError as error:
                self._pending.remove(task)
                _send_error(task.client, task.id, error)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                self._pending.remove(task)
                _send_error(task.client, task.id, RpcError(INVALID_PARAMS, f"Invalid params: {error!r}"))
            except Exception as error:
                self._pending.remove(task)
                _send_error(task.client, task.id, RpcError(INTERNAL_ERROR, repr(error)))
            else:
                self._pending.remove(task)
                _send(task.client, task.id, reply)


def _deliver(client: ServerConnection, message: str | bytes) -> None:
    text = isinstance(message, str)
    if (
        isinstance(message, str) and not message.isascii()
    ):  # quoted bytes of a file that are no UTF-8 go out as they are
        message = message.encode("utf-8", "surrogateescape")
    try:
        client.send(message, text=text)
    except (ConnectionClosed, OSError):
        pass  # the client has gone; its request was done all the same


def _send(client: ServerConnection, request_id: Any, reply: Reply) -> None:
    if request_id is None:
        return
    text = json.dumps({"id": request_id, "jsonrpc": "2.0", "result": reply.result}, sort_keys=True)
    if reply.binary:
        body = text.encode()
        _deliver(client, struct.pack("<I", len(body)) + body + reply.binary)
    else:
        _deliver(client, text)


def _send_error(client: ServerConnection, request_id: Any, error: RpcError) -> None:
    details: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        details["data"] = error.data
    raw = any("\udc80" <= letter <= "\udcff" for letter in error.message)
    body = {"error": details, "id": request_id, "jsonrpc": "2.0"}
    _deliver(client, json.dumps(body, sort_keys=True, ensure_ascii=not raw))
