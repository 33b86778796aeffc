"""A small braynsService that keeps count of passes as the real one does, in the test's own loop, and does what a test says."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from PIL import Image
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

NOT_FOUND = -32601


class RefusedError(Exception):
    """What the service answers with an error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class Service:
    """Its state, and what it was asked.

    :param lacks: methods, and parameters of `render-image`, that this version does not have.
    :param on: what a method does before it is answered as usual; its own answer, where it gives one.
    """

    def __init__(self, *, lacks: tuple[str, ...] = (), **on: Callable[[Any], Any]) -> None:
        self.lacks, self.on = lacks, {name.replace("_", "-"): do for name, do in on.items()}
        self.asked: list[tuple[str, Any]] = []
        self.plugins: tuple[str, ...] = ()
        self.loaders: tuple[str, ...] = ("mesh", "Neuron Morphology loader")
        self.progress: list[tuple[str, float]] = []  # told by each `add-model`
        self.endpoint = ""
        self.clients: list[asyncio.Task[Any]] = []
        self._thread = asyncio.Lock()  # one serves all clients (3.10.1, run)
        self.passes, self.samples = 0, 1
        self.simulation = {"current": 0, "dt": 0.0, "start_frame": 0, "end_frame": 0, "unit": "ms"}
        self.state: dict[str, Any] = {
            "viewport": [800, 600],
            "near-clip": 1e-6,
            "region": {"image_start": [0, 1], "image_end": [1, 0]},
            "framebuffer": "static",
            "clipping": [],
            "view": None,
            "projection": ("perspective", {"fovy": 45, "aperture_radius": 0, "focus_distance": 1}),
            "renderer": ("interactive", {}),
            "models": [],
            "changed": [],
            "lights": [],
        }

    def methods(self) -> list[str]:
        """The registry."""
        return [name for name in ("registry", *_KNOWN) if name not in self.lacks]

    def change(self, key: str, value: Any, *, anew: bool = False) -> None:
        """A setting; a picture begins anew when it is another one, or where the real one always does."""
        if anew or self.state[key] != value:
            self.passes = 0
        self.state[key] = value

    async def answer(self, method: str, params: Any) -> tuple[Any, bytes]:
        """Result and bytes."""
        self.asked.append((method, params))
        if method not in self.methods():
            raise RefusedError(NOT_FOUND, f"Method '{method}' not found")
        if method in self.on:
            given = self.on[method](params)
            given = await given if asyncio.iscoroutine(given) else given
            if given is not None:
                return given
        return self._usual(method, params or {})

    def _usual(self, method: str, params: Any) -> tuple[Any, bytes]:
        if method == "registry":
            return self.methods(), b""
        if method == "get-version":
            return {"major": 3, "minor": 10, "patch": 1, "revision": "scripted"}, b""
        if method == "get-application-parameters":
            return {"plugins": list(self.plugins)}, b""
        if method == "get-scene":
            return {"bounds": {"min": [-1, -1, -1], "max": [1, 1, 1]}, "models": []}, b""
        if method == "get-simulation-parameters":
            return dict(self.simulation), b""
        if method == "get-color-methods":
            return ["solid"], b""
        if method == "get-color-ramp":
            return {"range": [0, 1], "colors": [[0, 0, 0, 1], [1, 1, 1, 1]]}, b""
        if method == "schema":
            return self._schema(params["endpoint"])
        if method == "get-loaders":
            return [{"name": name} for name in self.loaders], b""
        if method == "add-model":
            self.change("models", [*self.state["models"], params])
            return [{"model_id": len(self.state["models"])}], b""
        if method == "snapshot":
            return self._snapshot(params)
        if method == "render-image":
            return self._render_image(params)
        self._set(method, params)
        return None, b""

    def _schema(self, method: str) -> tuple[Any, bytes]:
        """The names of what `render-image` takes and gives, as 3.10.1 tells them (recorded)."""
        if method not in self.methods():
            raise RefusedError(-32602, f"Invalid entrypoint: '{method}'")
        names = ("accumulate", "force", "format", "jpeg_quality", "render", "send")
        told = {"params": {"properties": {name: {} for name in names if name not in self.lacks}}}
        return {**told, "returns": {"properties": {"accumulation": {}, "max_accumulation": {}}}}, b""

    def _set(self, method: str, params: Any) -> None:
        if method in ("update-model", "color-model", "set-color-ramp") or method.startswith("set-material-"):
            self.change("changed", [*self.state["changed"], (method, params)])
        elif method in ("add-spheres", "add-boxes", "add-capsules", "add-planes"):
            self.change("models", [*self.state["models"], params])
        elif method in ("clear-models", "clear-lights"):
            self.change(method.removeprefix("clear-"), [])
        elif method in ("clear-clipping-geometries", "clear-clip-planes"):
            self.change("clipping", [])
        elif method.startswith("add-light-"):
            self.change("lights", [*self.state["lights"], (method, params)])
        elif method.startswith("add-clip"):
            self.change("clipping", [*self.state["clipping"], params])
        elif method.startswith("set-framebuffer-"):
            self.change("framebuffer", method.removeprefix("set-framebuffer-"))
        elif method == "set-application-parameters":
            if min(params["viewport"]) < 64:
                raise SystemExit("Frame size must be greather than or equal to 64x64")
            self.change("viewport", params["viewport"])
        elif method == "set-simulation-parameters":
            if self.simulation["current"] != params["current"]:
                self.passes = 0
            self.simulation["current"] = params["current"]
        elif method == "set-camera-view":
            self.change("view", params)
        elif method == "set-camera-near-clip":
            self.change("near-clip", params["distance"])
        elif method == "set-camera-region":
            self.change("region", params)
        elif method.startswith("set-camera-"):
            kind, had = method.removeprefix("set-camera-"), self.state["projection"]
            kept = had[1] if had[0] == kind else {}
            self.change("projection", (kind, {**kept, **params}), anew=True)
        elif method.startswith("set-renderer-"):
            self.samples = params["samples_per_pixel"]
            self.change("renderer", (method.removeprefix("set-renderer-"), params), anew=True)

    def _render_image(self, params: Any) -> tuple[Any, bytes]:
        most = self.samples
        self.passes = most if params["accumulate"] else min(self.passes + 1, most)
        shaped = {**self.state, "frame": self.simulation["current"], "passes": self.passes}
        return {"accumulation": self.passes, "max_accumulation": most}, _picture(shaped, self.state["viewport"])

    def _snapshot(self, params: Any) -> tuple[Any, bytes]:
        """Beside the service's own camera and renderer; what it does not name it takes from them."""
        camera, renderer = params["camera"], params["renderer"]
        size = params["image_settings"]["size"]
        shaped = {
            **self.state,
            "framebuffer": "static",
            "viewport": size,
            "view": params["camera_view"],
            "projection": (camera["name"], camera["params"]),
            "renderer": (renderer["name"], renderer["params"]),
            "frame": params.get("simulation_frame", self.simulation["current"]),
            "passes": 1,
        }
        data = _picture(shaped, size)
        return {"color_buffer": {"offset": 0, "size": len(data)}}, data

    def renew(self) -> None:
        """Started anew: whatever it was at is gone."""
        for client in self.clients:
            client.cancel()
        self.clients.clear()
        self._thread = asyncio.Lock()

    async def serve(self, socket: ServerConnection) -> None:
        """One client; requests are taken in order."""
        task = asyncio.current_task()
        assert task is not None
        self.clients.append(task)
        async for message in socket:
            request = json.loads(message)
            method = request["method"]
            if method == "add-model":
                for operation, amount in self.progress:
                    told = {"id": request["id"], "operation": operation, "amount": amount}
                    await socket.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": told}))
            try:
                async with self._thread:
                    result, binary = await self.answer(method, request.get("params"))
            except RefusedError as refused:
                error = {"code": refused.code, "message": refused.message}
                error |= {"data": refused.data} if refused.data is not None else {}
                await socket.send(json.dumps({"error": error, "id": request["id"], "jsonrpc": "2.0"}))
                continue
            text = json.dumps({"id": request["id"], "jsonrpc": "2.0", "result": result})
            await socket.send(struct.pack("<I", len(text)) + text.encode() + binary if binary else text)


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[Service]:
    """The service, listening; its endpoint is set."""
    async with serve(service.serve, "0.0.0.0", 0, close_timeout=0.2, process_request=_is_healthy) as server:
        service.endpoint = f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        try:
            yield service
        finally:  # one that hangs would be waited for
            for client in service.clients:
                client.cancel()


def _is_healthy(socket: ServerConnection, request: Request) -> Response | None:
    """Its own answer to `/healthz`, which is no WebSocket."""
    return socket.respond(HTTPStatus.OK, "") if request.path == "/healthz" else None


def _picture(shaped: dict[str, Any], size: list[int]) -> bytes:
    """A picture that is another one whenever anything is that shapes it."""
    digest = hashlib.sha256(json.dumps(shaped, sort_keys=True).encode()).digest()
    buffer = io.BytesIO()
    Image.new("RGB", (size[0], size[1]), (digest[0], digest[1], digest[2])).save(buffer, "PNG")
    return buffer.getvalue()


_KNOWN = (
    "schema", "get-loaders", "get-version", "get-application-parameters", "get-scene", "get-simulation-parameters", "get-color-methods", "add-model", "snapshot", "render-image",
    "clear-models", "clear-lights", "clear-clip-planes", "clear-clipping-geometries", "clear-renderables", "add-light-directional",
    "add-light-ambient", "add-light-sphere", "add-light-quad", "add-clipping-planes", "add-clipping-spheres", "update-model",
    "set-material-phong", "set-material-matte", "color-model", "get-color-ramp", "set-color-ramp", "add-spheres", "add-boxes", "set-framebuffer-static", "set-framebuffer-progressive",
    "set-application-parameters", "set-simulation-parameters", "set-camera-view", "set-camera-near-clip", "set-camera-region",
    "set-camera-perspective", "set-camera-orthographic", "set-renderer-interactive", "set-renderer-production",
)  # fmt: skip
