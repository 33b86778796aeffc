"""Pictures of the scene: traced, or made beforehand where times are asked for; the frame that `render-image` adds passes to.

What a picture takes is the real one's (recorded, 3.10.1 at 640x360 on two cores): a pass takes what its samples take, by pixels, and an
image that is sent takes 0.03 s more: 0.10 s for 4 samples of the production renderer, 0.33 s for 16, 4.8 s for all 16 passes of 16.
"""

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
    from airflow_brayns.emulator.rays import View
    from airflow_brayns.emulator.render import Tracer


@dataclass(frozen=True)
class Wanted:
    """What a request asks for. `camera` and `renderer`: name and parameters; `more`: what else makes it another picture (JSON)."""

    size: tuple[int, int]
    view: Mapping[str, Any]
    camera: tuple[str, Mapping[str, Any]]
    renderer: tuple[str, Mapping[str, Any]]
    frame: int
    image_format: str
    quality: int
    region: tuple[float, ...] = (0, 1, 1, 0)
    near_clip: float = 0.0
    more: tuple[Any, ...] = ()


_RECORDED_PIXELS = 640 * 360
_SAMPLE_SECONDS = {"production": 0.0185}
_OTHER_SAMPLE_SECONDS = 0.002
_SENDING_SECONDS = 0.03
_SMALLEST = 64


@dataclass(frozen=True)
class Exposure:
    """What passes have added up to, not yet an image file: light, or a text where pictures are made beforehand."""

    size: tuple[int, int]
    passes: int
    light: Any = None
    told: str = ""

    def encode(self, image_format: str, quality: int) -> bytes:
        """The bytes of an image file."""
        if self.light is None:
            return labelled(self.size, image_format, self.told)
        if image_format == "exr":
            from airflow_brayns.emulator.exr import encode_layers

            return encode_layers({"color": self._mean})
        from airflow_brayns.emulator.render import developed, encode

        return encode(developed(self._mean), image_format, quality)

    @property
    def _mean(self) -> Any:
        return self.light if self.passes == 1 else self.light / self.passes


class Studio:
    """Takes pictures, with the faults that were asked for."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._tracer: Tracer | None = None
        self._traced_frame = 0
        self._taken = 0
        self.frame = Frame(self)

    def scene_changed(self) -> None:
        """What was prepared for tracing is of no use any more, and the frame's passes begin anew."""
        self._tracer = None
        self.frame.begin_anew()

    def take(self, models: list[Model], wanted: Wanted, progress: Callable[[float], None]) -> bytes:
        """The image's bytes, of one pass; may die on the way, as the real one does."""
        exposure = self.expose(models, wanted, None, 1, progress)
        return self.encode(exposure, wanted)

    def encode(self, exposure: Exposure, wanted: Wanted) -> bytes:
        """The image's bytes, in the time that an image takes to be written and sent."""
        began = time.monotonic()
        data = exposure.encode(wanted.image_format, wanted.quality)
        if not self._faults.frame_seconds:
            _wait_until(began + _SENDING_SECONDS * _share(wanted.size))
        return data

    def expose(
        self,
        models: list[Model],
        wanted: Wanted,
        before: Exposure | None,
        passes: int,
        progress: Callable[[float], None] = lambda amount: None,
    ) -> Exposure:
        """So many passes more than `before`. Each has all the samples of the renderer, and other ones than those before it."""
        if min(wanted.size) < _SMALLEST:
            self._faults.abort("Frame size must be greather than or equal to 64x64")
        lights = [model.light for model in models if model.light is not None and model.visible]
        if wanted.renderer[0] == "production" and not lights:
            self._faults.segfault()
        self._meet_faults(wanted)
        end = time.monotonic() + self._seconds(wanted, passes)
        if self._faults.frame_seconds or self._faults.recorded_times:
            exposure = _made_beforehand(wanted, passes + (before.passes if before else 0))
        else:
            exposure = before or Exposure(wanted.size, 0)
            for number in range(passes):
                light = self._traced(models, lights, wanted, exposure.passes, _part(progress, number, passes))
                exposure = Exposure(
                    wanted.size, exposure.passes + 1, light if exposure.light is None else exposure.light + light
                )
        _wait_until(end, progress)
        return exposure

    def _meet_faults(self, wanted: Wanted) -> None:
        self._taken += 1
        x = wanted.view["position"][0]
        if self._faults.crash_at_picture == self._taken or (
            self._faults.deadly_x and abs(x - self._faults.deadly_x) < 1e-6
        ):
            self._faults.segfault()
        if self._faults.hang_at_picture == self._taken:
            while True:
                time.sleep(3600)

    def _seconds(self, wanted: Wanted, passes: int) -> float:
        if self._faults.frame_seconds:
            return self._faults.frame_seconds
        name, settings = wanted.renderer
        samples = passes * int(settings["samples_per_pixel"])
        return samples * _SAMPLE_SECONDS.get(name, _OTHER_SAMPLE_SECONDS) * _share(wanted.size)

    def _traced(
        self, models: list[Model], lights: list[Any], wanted: Wanted, number: int, progress: Callable[[float], None]
    ) -> Any:
        from airflow_brayns.emulator.render import Quality

        name, settings = wanted.renderer
        ambient = 1 if name == "production" else settings.get("ao_samples", 0)
        quality = Quality(
            settings["samples_per_pixel"],
            settings.get("enable_shadows", True),
            ambient,
            tuple(settings["background_color"]),
            name == "production",
        )
        return self._prepared(models, wanted).light(wanted.size, _view(wanted), lights, quality, progress, number)

    def _prepared(self, models: list[Model], wanted: Wanted) -> Tracer:
        from airflow_brayns.emulator.render import Tracer

        simulated = any(model.content.simulation is not None for model in models)
        frame = wanted.frame if simulated else 0
        if self._tracer is None or self._traced_frame != frame:
            self._tracer, self._traced_frame = Tracer(models, frame), frame
        return self._tracer

    def layers(self, models: list[Model], wanted: Wanted) -> dict[str, Any]:
        """Colour, depth, albedo and normal of what is seen at each pixel, as floats."""
        from airflow_brayns.emulator.rays import camera_rays

        width, height = wanted.size
        lights = [model.light for model in models if model.light is not None and model.visible]
        seen = self._prepared(models, wanted).seen(*camera_rays(width, height, _view(wanted), (0.5, 0.5)))
        return {
            "color": self._traced(models, lights, wanted, 0, lambda amount: None),
            "depth": seen.distance.reshape(height, width, 1) + wanted.near_clip,
            "albedo": seen.color.reshape(height, width, 3),
            "normal": seen.normal.reshape(height, width, 3),
        }

    def pick(self, models: list[Model], wanted: Wanted, place: list[float]) -> tuple[Model, Any] | None:
        """The model under a point of the picture (x to the right, y downwards, from 0 to 1), and where in the scene."""
        from airflow_brayns.emulator.rays import ray_through

        if not all(0 <= part <= 1 for part in place):
            return None
        origin, direction = ray_through(place, wanted.size, _view(wanted))
        seen = self._prepared(models, wanted).seen(origin, direction)
        if seen.model[0] < 0:
            return None
        shown = [model for model in models if model.visible and model.geometry is not None]
        return shown[int(seen.model[0])], (origin + direction * seen.distance[:, None])[0]


def _view(wanted: Wanted) -> View:
    from airflow_brayns.emulator.rays import View

    view, (camera, lens) = wanted.view, wanted.camera
    return View(
        tuple(view["position"]),
        tuple(view["target"]),
        tuple(view["up"]),
        camera,
        lens.get("fovy", 45),
        lens.get("height", 1),
        wanted.region,
        wanted.near_clip,
        lens.get("aperture_radius", 0),
        lens.get("focus_distance", 1),
    )


class Frame:
    """The service's own frame, which `render-image` adds passes to until all samples are there or something changes.

    Recorded: a real change, and a projection or renderer that is set, even to what it was, begin anew; what is set to the values
    it had, and another size that is taken back, do not. When all passes are there, the old picture comes back at once.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._exposure: Exposure | None = None
        self._of = ""

    @property
    def accumulation(self) -> int:
        """How many passes the frame holds."""
        return self._exposure.passes if self._exposure else 0

    def begin_anew(self) -> None:
        """The next pass is the first again; until then the old picture stays."""
        self._of = ""

    def render(self, models: list[Model], wanted: Wanted, all_passes: bool) -> bool:
        """Add one pass, or all that are missing; False where none was missing."""
        of = json.dumps(
            [
                wanted.size,
                dict(wanted.view),
                wanted.camera,
                wanted.renderer,
                wanted.frame,
                wanted.region,
                wanted.near_clip,
                wanted.more,
            ]
        )
        before = self._exposure if of == self._of else None
        missing = wanted.renderer[1]["samples_per_pixel"] - (before.passes if before else 0)
        if missing <= 0:
            return False
        self._exposure = self._studio.expose(models, wanted, before, missing if all_passes else 1)
        self._of = of
        return True

    def picture(self, wanted: Wanted) -> bytes:
        """The image's bytes as `wanted` says of format and quality; none before the first pass."""
        return self._studio.encode(self._exposure, wanted) if self._exposure else b""


def _share(size: tuple[int, int]) -> float:
    return size[0] * size[1] / _RECORDED_PIXELS


def _part(progress: Callable[[float], None], number: int, passes: int) -> Callable[[float], None]:
    return lambda amount: progress((number + amount) / passes)


def _wait_until(end: float, progress: Callable[[float], None] | None = None) -> None:
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.05))
        if progress is not None:
            progress(0.5)


def _made_beforehand(wanted: Wanted, passes: int) -> Exposure:
    """No two views have the same bytes, and no two passes."""
    told = [wanted.view["position"], wanted.camera[1].get("fovy"), wanted.frame, *([passes] if passes > 1 else [])]
    return Exposure(wanted.size, passes, told=json.dumps(told))


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
