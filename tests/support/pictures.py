"""What a person sees of a movie, and what a writer that was killed has left of one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from PIL import Image

from airflow_brayns.movie.ffmpeg import ffmpeg


def named(red: int, blue: int) -> str:
    assert abs(red - blue) > 60, (red, blue)
    return "red" if red > blue else "blue"


def shown(file: Path) -> str:
    """The colour in the first frame's corner: what a person sees."""
    if file.suffix == ".jpg":
        with Image.open(file) as picture:
            data = picture.convert("RGB").tobytes()
        reds, blues = data[0::3], data[2::3]
        return named(
            sum(255 for red, blue in zip(reds, blues, strict=True) if red > 150 > blue),
            sum(255 for red, blue in zip(reds, blues, strict=True) if blue > 150 > red),
        )
    command = [ffmpeg(), "-v", "error", "-i", str(file), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    red, _, blue = data[:3]
    return named(red, blue)


def left(folder: Path, name: str, age: float) -> Path:
    path = folder / name
    path.write_bytes(b"half")
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path
