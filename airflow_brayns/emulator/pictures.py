"""A picture of the scene as bytes of an image file: traced, or one made beforehand where a fixed time a frame is asked for."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_brayns.emulator.faults import Faults
from airflow_brayns.emulator.scene import Model

if TYPE_CHECKING:
    from airflow_brayns.emulator.render import Tracer


class Cancelled(Exception):  # noqa: N818
    """The picture was given up because the client asked for it; what is told of progress raises it."""


@dataclass(frozen=True)
class Wanted:
    """What a request asks for. `camera` and `renderer`: name and parameters."""

    size: tuple[int, int]
    view: Mapping[str, Any]
    camera: tuple[str, Mapping[str, Any]]
    renderer: tuple[str, Mapping[str, Any]]
    frame: int
    image_format: str
    quality: int


class Studio:
    """Takes pictures, with the faults that were asked for."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._tracer: Tracer | None = None
        self._taken = 0

    def scene_changed(self) -> None:
        """What was prepared for tracing is of no use any more."""
        self._tracer = None

    def take(self, models: list[Model], wanted: Wanted, progress: Callable[[float], None]) -> bytes:
        """The image's bytes; may die on the way, as the real one does."""
        lights = [model.light for model in models if model.light is not None and model.visible]
        if wanted.renderer[0] == "production" and not lights:
            self._faults.segfault()
        self._taken += 1
        x = wanted.view["position"][0]
        if self._faults.crash_at_picture == self._taken or (
            self._faults.deadly_x and abs(x - self._faults.deadly_x) < 1e-6
        ):
            self._faults.segfault()
        if self._faults.hang_at_picture == self._taken:
            while True:
                time.sleep(3600)
        if self._faults.frame_seconds:
            return self._made_beforehand(wanted, progress)
        return self._traced(models, lights, wanted, progress)

    def _traced(
        self, models: list[Model], lights: list[Any], wanted: Wanted, progress: Callable[[float], None]
    ) -> bytes:
        from airflow_brayns.emulator.render import Quality, Tracer, View, encode

        if self._tracer is None:
            self._tracer = Tracer(models)
        name, settings = wanted.renderer
        ambient = 1 if name == "production" else settings.get("ao_samples", 0)
        quality = Quality(
            settings["samples_per_pixel"],
            settings.get("enable_shadows", True),
            ambient,
            tuple(settings["background_color"]),
        )
        view, (camera, lens) = wanted.view, wanted.camera
        what = View(
            tuple(view["position"]),
            tuple(view["target"]),
            tuple(view["up"]),
            camera,
            lens.get("fovy", 45),
            lens.get("height", 1),
        )
        picture = self._tracer.render(wanted.size, what, lights, quality, progress)
        return encode(picture, wanted.image_format, wanted.quality)

    def _made_beforehand(self, wanted: Wanted, progress: Callable[[float], None]) -> bytes:
        end = time.monotonic() + self._faults.frame_seconds
        told = json.dumps([wanted.view["position"], wanted.camera[1].get("fovy"), wanted.frame])
        data = labelled(wanted.size, wanted.image_format, told)
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
            progress(0.5)
        return data


@cache
def _plain(size: tuple[int, int]) -> Any:
    from PIL import Image

    return Image.linear_gradient("L").resize(size).convert("RGB")


@cache
def _around(size: tuple[int, int], image_format: str) -> tuple[bytes, bytes]:
    """A PNG before and after the place where a text can go in."""
    buffer = io.BytesIO()
    if image_format == "png":
        _plain(size).save(buffer, "PNG")
        return buffer.getvalue()[:33], buffer.getvalue()[33:]  # signature and IHDR
    _plain(size).save(buffer, "JPEG")
    return buffer.getvalue()[:2], buffer.getvalue()[2:]


def labelled(size: tuple[int, int], image_format: str, text: str) -> bytes:
    """An image with a text in its file, so that no two views have the same bytes."""
    import zlib

    before, after = _around(size, image_format)
    if image_format != "png":
        return before + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text.encode() + after
    body = b"tEXtview\0" + text.encode()
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return before + chunk + after
