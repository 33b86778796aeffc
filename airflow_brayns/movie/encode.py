"""Frames to an H.264 movie with ffmpeg: the machine's own, or the one that imageio-ffmpeg brings."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from pathlib import Path

from airflow_brayns.errors import InvalidSetting, RenderingFailed

_NUMBERED = re.compile(r"(\d{5,})\.png")


def ffmpeg() -> str:
    """Path of an ffmpeg.

    :raises RenderingFailed: there is none.
    """
    if found := shutil.which("ffmpeg"):
        return found
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise RenderingFailed(f"No ffmpeg: {error}. Install ffmpeg on the worker.", retry=False) from error


def sequence(folder: Path) -> list[Path]:
    """The frames of a folder in order.

    :raises RenderingFailed: there are none, or some are missing; the message lists them.
    """
    numbers = {int(match[1]): path for path in folder.glob("*.png") if (match := _NUMBERED.fullmatch(path.name))}
    if not numbers:
        raise RenderingFailed(f"frames: there are none in {folder}.", retry=False)
    gaps = [number for number in range(max(numbers) + 1) if number not in numbers]
    if gaps:
        shown = ", ".join(map(str, gaps[:20])) + (" …" if len(gaps) > 20 else "")
        raise RenderingFailed(
            f"frames: {len(gaps)} are missing in {folder}: {shown}. Render them, then encode.", retry=False
        )
    return [numbers[number] for number in sorted(numbers)]


async def encode_movie(folder: Path, output: Path, *, fps: int = 25, frames: int | None = None) -> Path:
    """Encode the frames of a folder to an MP4 that any player takes (H.264, yuv420p).

    :param fps: frames a second.
    :param frames: how many there must be; None for as many as there are.
    :raises RenderingFailed: gaps, or ffmpeg failed; with its last lines.
    """
    if fps < 1:
        raise InvalidSetting("fps", f"must be at least 1, not {fps}")
    found = sequence(folder)
    if frames is not None and len(found) != frames:
        raise RenderingFailed(f"frames: {folder} holds {len(found)}, but the movie has {frames}.", retry=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem}.part{output.suffix}")
    digits = len(found[0].stem)
    process = await asyncio.create_subprocess_exec(
        ffmpeg(), "-y", "-v", "error", "-nostdin", "-framerate", str(fps), "-i", str(folder / f"%0{digits}d.png"),
        "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18", "-colorspace", "bt709", "-color_primaries", "bt709",
        "-color_trc", "bt709", "-vf", "scale=out_color_matrix=bt709", "-movflags", "+faststart", str(partial),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if process.returncode != 0:
        partial.unlink(missing_ok=True)
        raise RenderingFailed(
            f"ffmpeg failed with exit code {process.returncode}: {said.decode('utf-8', 'replace')[-800:]}"
        )
    partial.replace(output)
    return output
