"""Files of Python that make movies, for tests."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

NEEDS_CLIENT = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="the official client does not import on Python 3.13 (facts/brayns.md)"
)
HEAD = """
import brayns

frames, fps, resolution, output = 4, 25, (96, 64), "growth.mp4"
renderer = {"name": "interactive"}
"""
SCENE = """
def scene(service):
    brayns.add_light(service, brayns.DirectionalLight(4))
    brayns.MeshLoader().load_models(service, CUBE)
"""
FRAME = """
def frame(service, number):
    target = brayns.Bounds(brayns.Vector3(-1, -1, -1), brayns.Vector3(1, 1, 1))
    camera = brayns.CameraController(target=target, aspect_ratio=1.5).camera
    camera.position = brayns.Vector3(4 + number, 3, 5 - number)
    return camera
"""
ROOT = Path(__file__).parents[1]


def script(folder: Path, frame: str = FRAME, *, scene: str = SCENE, head: str = HEAD, name: str = "growth.py") -> Path:
    """Write a file that makes a movie of a cube.

    :param frame: its function `frame`, and whatever else it has; so are the others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    cube = f"CUBE = {str(ROOT / 'data' / 'cube.obj')!r}\n"
    file.write_text(textwrap.dedent(head) + cube + textwrap.dedent(scene) + textwrap.dedent(frame))
    return file
