"""The shots of a specification: each with its own camera, lights and models, cut or faded into each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from airflow_brayns.movie.camera_fields import Camera
from airflow_brayns.movie.fields import MOST_FRAMES, Part
from airflow_brayns.movie.lights import NO_LIGHT, Light
from airflow_brayns.movie.overlay_fields import Line

Problem = tuple[tuple[str | int, ...], str]


class Shot(Part):
    """A shot of a movie. Each frame of it is rendered as it is; where two shots fade into each other, they do when the
    movie is encoded, and it is shorter by that.

    :param frames: how many it has.
    :param camera: its camera; frames in it are counted from the shot's first, which is 0.
    :param lights: its lights; None for the movie's.
    :param hide: the numbers of the models that are not shown in it; the first is 0.
    :param fade: over how many frames it fades in from the shot before; 0 for a cut.
    :param title: a line of text at the top, in place of that of `overlays`; empty for none, None for that one.
    """

    frames: int = Field(ge=1, le=MOST_FRAMES)
    camera: Camera = Camera()
    lights: tuple[Light, ...] | None = None
    hide: tuple[int, ...] = ()
    fade: int = Field(default=0, ge=0, le=MOST_FRAMES)
    title: Line | None = None


def never_moves(camera: Camera, frames: int) -> str:
    """What to say of a camera whose key frames all lie behind the last of so many frames; empty for another one."""
    numbers = [one.frame for one in camera.keyframes]
    if len(numbers) < 2 or numbers[0] < frames:
        return ""
    return f"is {numbers[0]}, and the last frame is {frames - 1}: the camera would never move"


def shot_problems(shots: Sequence[Shot], models: int) -> Iterator[Problem]:
    """What cannot be of some shots: where, and what would be right.

    :param models: how many there are.
    """
    for index, shot in enumerate(shots):
        if shot.lights is not None and not any(light.shines for light in shot.lights):
            yield ("shots", index, "lights"), NO_LIGHT
        for number, one in enumerate(shot.hide):
            if not 0 <= one < models:
                yield ("shots", index, "hide", number), f"there is no model {one}; the last one is {models - 1}"
        if shot.camera.fit is not None and shot.camera.fit >= models:
            yield (
                ("shots", index, "camera", "fit"),
                f"there is no model {shot.camera.fit}; the last one is {models - 1}",
            )
        numbers = [one.frame for one in shot.camera.keyframes]
        # Key frames that begin with the shot and end behind it are a movement that the shot cuts off, as a movie's are.
        if numbers and numbers[0] > 0 and (last := numbers[-1]) > shot.frames:
            yield (
                ("shots", index, "camera", "keyframes", len(numbers) - 1, "frame"),
                f"is {last}, and the shot has {shot.frames} frames: count them from the shot's first, which is 0",
            )
        if shot.fade and not index:
            yield ("shots", index, "fade"), "nothing is before the first shot; leave it out"
        room = min(shot.frames, shots[index - 1].frames - shots[index - 1].fade) if index else shot.frames
        if shot.fade > room:
            told = f"{shot.fade} frames are more than the {room} that this shot and what is left of the one before have"
            yield ("shots", index, "fade"), told


def length_problems(frames: int | None, frame_range: tuple[int, int] | None) -> Iterator[Problem]:
    """What cannot be of a movie's length, and of the part of it that is rendered: where, and what would be right.

    :param frames: how many the movie has; None where that is not known yet.
    """
    if frames is not None and frames > MOST_FRAMES:
        yield ("frames",), f"{frames} are more than {MOST_FRAMES}; make several movies"
    if frame_range and frames is not None and frame_range[1] >= frames:
        yield ("frame_range",), f"the movie's last frame is {frames - 1}"


def shot_at(shots: Sequence[Shot], frame: int) -> tuple[Shot, int]:
    """The shot that a frame is of, and the number of the frame in it."""
    for shot in shots:
        if frame < shot.frames:
            return shot, frame
        frame -= shot.frames
    raise IndexError(frame)
