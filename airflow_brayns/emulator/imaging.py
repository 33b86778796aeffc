"""Pictures: `snapshot`, `render-image`, `export-gbuffers`, and what lies under a point of the picture."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_brayns.emulator.engine import Engine, Part, check_near_clip, check_view
from airflow_brayns.emulator.floats import singles
from airflow_brayns.emulator.pictures import Wanted
from airflow_brayns.emulator.rpc import Call, Method, Reply, cancelled, internal, invalid_params

_FORMATS = ("png", "jpg", "exr")
_WHOLE = {"image_end": [1, 0], "image_start": [0, 1]}


class Imaging:
    """The methods that render."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def methods(self) -> dict[str, Method]:
        """Each method by its name."""
        return {
            "snapshot": self._snapshot,
            "render-image": self._render_image,
            "export-gbuffers": self._export_gbuffers,
            "inspect": self._inspect,
        }

    def _check_drawn(self) -> None:
        """A picture without what it should show is none."""
        for model in self._engine.scene.models:
            if model.visible and not model.content.drawn:
                raise internal(f"The emulator draws no volumes: hide or remove model {model.model_id}")

    # ---- pictures beside the service's own frame -------------------------------------------------------------------
    def _beside(self, params: Mapping[str, Any], size: list[int], image: tuple[str, int]) -> Wanted:
        """What a request wants rendered without touching the service's own camera and frame; checked in the engine's order."""
        number = params.get("simulation_frame", self._engine.current_frame)
        self._engine.check_frame(number)
        renderer = self._engine.renderer_from(params.get("renderer"))
        self._engine.check_frame_size(size)
        camera = self._engine.camera_from(params.get("camera"))
        view = params.get("camera_view", self._engine.view)
        check_view(view)
        near_clip = params.get("camera_near_clip", self._engine.near_clip)
        check_near_clip(near_clip)
        self._check_drawn()
        region = {key: params.get(key, whole) for key, whole in _WHOLE.items()}
        return _wanted(size, view, camera, renderer, number, image, region, near_clip)

    @contextmanager
    def _whole_periods(self, period: float, call: Call) -> Iterator[None]:
        """`snapshot` looks for its own end and for `cancel` once a second, so it takes whole seconds.

        A cancelled one goes on until its picture is done (measured: `cancel` at 6.8 s, error 20 at 76.8 s), and not longer.
        """
        began = time.monotonic()
        yield
        taken = time.monotonic() - began
        end = began + (math.ceil(taken / period) * period if period else taken)
        while not call.cancelled() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.02))
        if call.cancelled():
            raise cancelled()

    def _rendered(self, call: Call, wanted: Wanted, operation: str) -> bytes:
        call.progress(operation, 0)
        last = time.monotonic()

        def progress(amount: float) -> None:
            nonlocal last
            if not call.cancelled() and time.monotonic() - last >= 1 and amount < 1:
                last = time.monotonic()
                call.progress(operation, amount)

        with self._whole_periods(self._engine.faults.snapshot_seconds, call):
            return self._engine.studio.take(self._engine.scene.models, wanted, progress)

    def _snapshot(self, call: Call) -> Reply:
        params = call.params
        settings = params.get("image_settings")
        # settings that come without a size have none (0 x 0): only without settings it is the viewport's
        size = self._engine.viewport if settings is None else settings.get("size", [0, 0])
        settings = settings or {"format": "png", "quality": 100}
        path = params.get("file_path", "")
        image_format = Path(path).suffix[1:] if path else settings["format"].lower().removeprefix(".")
        known = image_format if image_format in _FORMATS else "png"
        data = self._rendered(
            call, self._beside(params, size, (known, min(settings["quality"], 100))), "Rendering snapshot ..."
        )
        if image_format not in _FORMATS:
            raise internal(f"Format not supported: '{image_format}'")
        if not path:
            return Reply({"color_buffer": {"offset": 0, "size": len(data)}}, data)
        _write(path, data)
        return Reply({"color_buffer": {"offset": 0, "size": 0}})

    def _export_gbuffers(self, call: Call) -> Reply:
        params = call.params
        size = params.get("resolution", self._engine.viewport)
        wanted = self._beside(params, size, ("exr", 100))
        from airflow_brayns.emulator.exr import encode_layers

        call.progress("Exporting g-buffers ...", 0)
        with self._whole_periods(self._engine.faults.snapshot_seconds, call):
            layers = self._engine.studio.layers(self._engine.scene.models, wanted)
            data = encode_layers({channel: layers[channel] for channel in params["channels"]})
        path = params.get("file_path", "")
        if not path:
            return Reply(None, data)
        _write(path if path.lower().endswith(".exr") else f"{path}.exr", data)
        return Reply(None)

    # ---- the service's own frame -----------------------------------------------------------------------------------
    def _own(self, image: tuple[str, int]) -> Wanted:
        engine = self._engine
        return _wanted(
            engine.viewport,
            engine.view,
            engine.camera,
            engine.renderer,
            engine.current_frame,
            image,
            engine.region,
            engine.near_clip,
        )

    def _render_image(self, call: Call) -> Reply:
        params, frame = call.params, self._engine.frame
        send, force = params["send"], params["force"]
        if force and not send:
            raise invalid_params("Cannot force sending if send is disabled")
        wanted, rendered = self._own((params["format"], params["jpeg_quality"])), False
        if params["render"]:
            self._engine.check_frame_size(self._engine.viewport)
            self._check_drawn()
            rendered = frame.render(self._engine.scene.models, wanted, params["accumulate"])
        samples = self._engine.renderer.params["samples_per_pixel"]
        result = {"accumulation": frame.accumulation, "max_accumulation": samples}
        if not send or not (rendered or force):
            return Reply(result)
        if wanted.image_format not in _FORMATS:
            raise internal(f"Format not supported: '{wanted.image_format}'")
        return Reply(result, frame.picture(wanted))

    def _inspect(self, call: Call) -> dict[str, Any]:
        self._engine.check_frame_size(self._engine.viewport)
        models = self._engine.scene.models
        hit = self._engine.studio.pick(models, self._own(("png", 100)), call.params["position"])
        if hit is None:
            return {"hit": False, "metadata": None, "model_id": 0, "position": [0, 0, 0]}
        model, position = hit
        return {"hit": True, "metadata": {}, "model_id": model.model_id, "position": singles(position)}


def _wanted(
    size: list[int],
    view: Mapping[str, Any],
    camera: Part,
    renderer: Part,
    frame: int,
    image: tuple[str, int],
    region: Mapping[str, Any],
    near_clip: float,
) -> Wanted:
    return Wanted(
        (size[0], size[1]),
        view,
        (camera.name, camera.params),
        (renderer.name, renderer.params),
        frame,
        *image,
        region=(*region["image_start"], *region["image_end"]),
        near_clip=near_clip,
    )


def _write(path: str, data: bytes) -> None:
    try:
        Path(path).write_bytes(data)
    except OSError:
        raise internal(f"Cannot write file '{path}'") from None
