"""A bare loop of the official client: set the view, take the picture, write the file. Prints seconds a frame."""

from __future__ import annotations

import math
import sys
import tempfile
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import brayns  # noqa: E402

endpoint, frames, way, scene, samples = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
instance = brayns.Connector(endpoint).connect()
brayns.clear_models(instance)
brayns.clear_lights(instance)
brayns.MeshLoader().load_models(instance, scene)
brayns.add_light(instance, brayns.AmbientLight())
renderer = brayns.ProductionRenderer(samples) if samples else brayns.InteractiveRenderer(samples_per_pixel=4)
resolution = brayns.Resolution(640, 360)
brayns.set_renderer(instance, renderer)
brayns.set_resolution(instance, resolution)
brayns.set_camera_projection(instance, brayns.PerspectiveProjection())
folder = Path(tempfile.mkdtemp())
began = 0.0
for frame in range(frames + 1):
    if frame == 1:
        began = time.monotonic()
    angle = 2 * math.pi * frame / frames
    view = brayns.View(brayns.Vector3(5 * math.sin(angle), 0, 5 * math.cos(angle)), brayns.Vector3.zero)
    path = str(folder / f"{frame:05d}.png")
    brayns.set_camera_view(instance, view)
    if way == "snapshot":
        brayns.Snapshot(resolution=resolution, renderer=renderer).save(instance, path)
    elif way == "one-pass":  # what sets the projection begins the picture anew
        brayns.set_camera_projection(instance, brayns.PerspectiveProjection())
        brayns.Image(accumulate=False, force_download=True).save(instance, path)
    else:
        brayns.Image(accumulate=True, force_download=True).save(instance, path)
print((time.monotonic() - began) / frames)
instance.disconnect()
