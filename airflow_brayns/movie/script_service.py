"""The service as a movie's Python sees it: the official client's `Instance`, over the connection that renders.

So routes, TLS and proofs are those of the connection, a call has a time-out and can be given up, and requests stand in
one order with those that render.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any

from airflow_brayns.brayns.client import BraynsClient, Reply
from airflow_brayns.brayns.official import official_client
from airflow_brayns.errors import BraynsError, RpcFailed
from airflow_brayns.movie.loaders import plugin_of
from airflow_brayns.movie.script_traceback import cut

_INVALID_PARAMS = -32602
_CANCELLED = 20  # braynsService's own code for a request that was cancelled
_POLL_SECONDS = 1.0
_ENDING = ("quit", "exit-later")
_Event = tuple[Any, str, Any]


class Refused(Exception):  # noqa: N818
    """The error inside the user's code for a call that a movie must not make."""


class ScriptService:
    """An `Instance` of the official client; it is used by the thread that runs the user's code.

    :param client: the connection, of the loop that this is made in.
    :param size: width and height of the movie.
    :param strict: whether another size is refused; a preview, which is small, passes it over.
    """

    def __init__(self, client: BraynsClient, size: tuple[int, int], *, strict: bool) -> None:
        official_client()
        self._client, self._size, self._strict = client, size, strict
        self._loop = asyncio.get_running_loop()
        self._running: dict[Any, tuple[Any, Future[Reply]]] = {}
        self._loaders: dict[Any, str] = {}  # the loader that a request asks for
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self.deadline = 0.0
        self.lost: BraynsError | None = None
        self.called: set[str] = set()

    def take_called(self) -> set[str]:
        """The methods that were called since this was asked last."""
        called, self.called = self.called, set()
        return called

    def give_up(self) -> None:
        """End every call that waits for the service."""
        for _, future in list(self._running.values()):
            future.cancel()

    # ---- as `brayns.Instance` ----------------------------------------------------------------------------------
    def __enter__(self) -> ScriptService:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def connected(self) -> bool:
        """Whether the service can be called."""
        return self.lost is None

    def disconnect(self) -> None:
        """Do nothing: the connection is needed for the frame."""

    def request(self, method: str, params: Any = None) -> Any:
        """Call a method, and return its result."""
        return self.execute(method, params).result

    def execute(self, method: str, params: Any = None, binary: bytes = b"") -> Any:
        """Call a method, and return its result with the bytes behind it."""
        return self.task(method, params, binary).wait_for_reply()

    def task(self, method: str, params: Any = None, binary: bytes = b"") -> Any:
        """Call a method without waiting for its result."""
        from brayns.network import JsonRpcRequest

        number = 0
        while self.is_running(number):
            number += 1
        return self.send(JsonRpcRequest(number, method, params, binary))

    def is_running(self, id: int | str) -> bool:
        """Tell whether a request is not answered yet."""
        return id in self._running

    def send(self, request: Any) -> Any:
        """Send a request.

        :raises Refused: a movie must not make it.
        """
        from brayns.network import JsonRpcFuture, JsonRpcReply
        from brayns.network.jsonrpc import JsonRpcTask

        if self._stands_in(request.method, request.params):
            return JsonRpcFuture.from_reply(JsonRpcReply(request.id, None))
        _check_numbers(request.method, request.params)
        self.called.add(request.method)
        number, events, task = request.id, self._events, JsonRpcTask()
        key = object() if number is None else number

        def progress(operation: str, amount: float) -> None:
            events.put((key, operation, amount))

        work = self._client.call(
            request.method, request.params, binary=request.binary, progress=progress,
            timeout=max(0.01, self.deadline - time.monotonic()),
        )  # fmt: skip
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._running[key] = task, future
        if isinstance(request.params, dict) and isinstance(loader := request.params.get("loader_name"), str):
            self._loaders[key] = loader
        future.add_done_callback(lambda _: events.put((key, "", None)))
        if number is None:
            return JsonRpcFuture.from_reply(JsonRpcReply.for_notifications())
        return JsonRpcFuture(task, cancel=lambda: self.cancel(number), poll=self.poll)

    def poll(self, block: bool) -> None:
        """Take what has come in; with `block`, wait for it for a while."""
        with contextlib.suppress(Empty):
            key, operation, amount = self._events.get(block, _POLL_SECONDS)
            if key not in self._running:
                return
            task, future = self._running[key]
            if future.done():
                del self._running[key]
                self._finish(key, task, future)
            elif amount is not None:
                from brayns.network import JsonRpcProgress

                task.add_progress(JsonRpcProgress(key, operation, amount))

    def cancel(self, id: int | str) -> None:
        """Give a request up; it ends with braynsService's error 20."""
        if id in self._running:
            self._running[id][1].cancel()

    # ---- what a movie must not do ------------------------------------------------------------------------------
    def _stands_in(self, method: str, params: Any) -> bool:
        """Tell whether a call is answered without the service.

        :raises Refused: a movie must not make it.
        """
        if method in _ENDING:
            raise Refused(f"{method} would end the service, which renders other frames: leave it out. The nodes are given back when the movie is done.")  # fmt: skip
        if method == "set-framebuffer-progressive":
            raise Refused("a movie's frames are rendered whole: leave the framebuffer as it is.")
        size = params.get("viewport") if method == "set-application-parameters" and isinstance(params, dict) else None
        if size is None:
            return False
        if self._strict and tuple(size) != self._size:
            raise Refused(other_size(tuple(size), self._size))
        return True

    def _finish(self, key: Any, task: Any, future: Future[Reply]) -> None:
        from brayns.network import ConnectionClosedError, JsonRpcError, JsonRpcReply

        loader = self._loaders.pop(key, "")
        if future.cancelled():
            task.set_error(JsonRpcError(key, _CANCELLED, "the request was cancelled"))
            return
        error = future.exception()
        if error is None:
            reply = future.result()
            task.set_reply(JsonRpcReply(key, reply.result, reply.binary))
        elif isinstance(error, RpcFailed):
            refused = JsonRpcError(key, error.code, error.message, error.data)
            if error.code == _INVALID_PARAMS and error.data is None and (plugin := plugin_of(loader)):
                refused.add_note(f"The {loader} is of the plugin {plugin}: name it in `plugins`, if it is not there.")
            task.set_error(refused)
        elif isinstance(error, BraynsError):
            self.lost = self.lost or error
            raise ConnectionClosedError(str(error))
        else:  # what JSON cannot hold
            raise error


def _check_numbers(method: str, params: Any) -> None:
    """Refuse what JSON has no word for: braynsService would answer it under no request's number, and so nobody."""
    try:
        json.dumps(params, allow_nan=False)
    except ValueError as error:
        where = next(_no_numbers(params), "")
        told = f"{method} was given {cut(repr(params))}" if not where else f"{method} was given {where}"
        raise Refused(f"{told}; NaN and infinity are no numbers for it ({cut(str(error))})") from None


def _no_numbers(value: Any, place: str = "params") -> Iterator[str]:
    """What is no number in some parameters, with its place in them."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{place} = {value}"
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, one in inner:
        yield from _no_numbers(one, f"{place}[{key!r}]")


def other_size(size: tuple[Any, ...], wanted: tuple[int, int]) -> str:
    """The sentence for a frame of another size than the movie's."""
    told = "x".join(map(str, size))
    return (
        f"asks for {told}, and the movie is {wanted[0]}x{wanted[1]}: all its frames have one size. Write "
        f"`resolution = ({', '.join(map(str, size))})` at the top of the file, or leave the size out here."
    )
