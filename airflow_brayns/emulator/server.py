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

from airflow_brayns.emulator.floats import printed
from airflow_brayns.emulator.requests import Message, parsed
from airflow_brayns.emulator.rpc import Call, Reply, RpcError, cancelled, internal, invalid_params
from airflow_brayns.emulator.service import BraynsState

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

    def __init__(self, client: ServerConnection, message: Message) -> None:
        self.client, self.message, self.id = client, message, message.id
        self.cancelled = threading.Event()

    def progress(self, operation: str, amount: float) -> None:
        """Tell the client how far it is."""
        if self.id is not None:
            params = {"amount": printed(amount), "id": self.id, "operation": operation}
            _deliver(self.client, json.dumps({"jsonrpc": "2.0", "method": self.message.method, "params": params}))

    def answer(self, reply: Reply | RpcError) -> None:
        """Tell the client how it ended; one that gave no id is told nothing."""
        if self.id is None:
            return
        if isinstance(reply, RpcError):
            _send_error(self.client, self.id, reply)
        else:
            _send(self.client, self.id, reply)


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
                params = task.message.params
                if task.client is connection and not (isinstance(params, dict) and params.get("file_path")):
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
        try:
            task = _Task(client, parsed(message))
        except RpcError as error:
            _send_error(client, None, error)
            return
        if task.message.method == "cancel":  # it overtakes what waits: it is answered on the client's own thread
            task.answer(self._cancel(task))
            return
        self._pending.append(task)
        self._tasks.put(task)

    def _cancel(self, task: _Task) -> Reply | RpcError:
        """The one that runs is told, and goes on with its picture all the same; one that waits is not begun."""
        params = task.message.params
        wanted = params.get("id") if isinstance(params, dict) else None
        for other in [] if wanted is None else list(self._pending):
            if other.client is task.client and other.id == wanted:
                if not self._state.cancellable(other.message.method):
                    return invalid_params(f"Method '{other.message.method}' is not cancellable.")
                if other.cancelled.is_set():
                    return invalid_params(f"Request {wanted} already cancelled")
                other.cancelled.set()
                return Reply(None)
        return self._answer(task)

    def _answer(self, task: _Task) -> Reply | RpcError:
        call = Call(task.message.params, task.message.binary, task.progress, task.cancelled.is_set)
        try:
            return cancelled() if task.cancelled.is_set() else self._state.handle(task.message.method, call)
        except RpcError as error:
            return error
        except Exception as error:  # a fault of the emulator's own; the real one's `std::exception` has this code, too
            return internal(repr(error))

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            answer = self._answer(task)
            self._pending.remove(task)
            task.answer(answer)


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
    text = json.dumps({"id": request_id, "jsonrpc": "2.0", "result": printed(reply.result)}, sort_keys=True)
    if reply.binary is not None:
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
