"""The camera of a specification: its way through the movie, its lens, and the key frames that it goes through."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from airflow_brayns.movie.camera_curve import first_problem, view_problem
from airflow_brayns.movie.easing import Easing
from airflow_brayns.movie.fields import LARGEST, MOST_FRAMES, Angle, Part, Vector, misplaced

NEAR_CLIP = 1e-6  # braynsService's own value
Size = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]


class Keyframe(Part):
    """A key frame: where the camera is in one frame.

    :param frame: the frame's number in the movie; the first is 0.
    :param position: where the camera is, in the scene's units.
    :param target: the point that it looks at.
    :param up: the direction that is up in the picture.
    :param fovy: vertical field of view in degrees; None for the camera's.
    :param easing: how the camera goes on to the next key frame, straight: `linear`, `ease-in`, `ease-out` or
        `ease-in-out`; None for the camera's, or, where that has none, a smooth curve through the key frames beside it.
    """

    frame: int = Field(ge=0, le=MOST_FRAMES)
    position: Vector
    target: Vector
    up: Vector = (0.0, 1.0, 0.0)
    fovy: float | None = Field(default=None, gt=0, lt=180)
    easing: Easing | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.position == self.target:
            raise ValueError("position and target are the same point")
        if problem := view_problem(self.position, self.target, self.up):
            raise misplaced(("up",), problem)
        return self


class Camera(Part):
    """The camera's way through the movie.

    :param path: `turntable` (around the vertical), `swing` (to both sides and back), `still`, or `keyframes`.
    :param turns: how often a turntable goes around; negative for the other way.
    :param swing: degrees that a swing goes to each side.
    :param view: the side that it begins at: `front` (x to the right, y up, from +z), `back`, `left`, `right`, `top` or
        `bottom`; None for the front. From `top` and `bottom` the picture turns.
    :param start_angle: degrees about the vertical in the first frame, from that side on.
    :param elevation: degrees above the horizon.
    :param projection: `perspective`, or `orthographic`, in which what is far away is as large as what is near.
    :param fovy: vertical field of view in degrees, of a perspective.
    :param height: what is as high as the picture, in the scene's units, of an orthographic camera; None to fit.
    :param aperture_radius: depth of field, of a perspective: the larger, in the scene's units, the less is sharp; 0 for all.
    :param focus_distance: how far away from the camera it is sharp, in the scene's units; None for the target.
    :param near_clip: what is nearer to the camera is not shown, in the scene's units.
    :param distance: the distance from the target; None to fit the scene into the picture.
    :param fit: the number of the one model that is fitted, and looked at, the first is 0; None for the whole scene.
    :param margin: the room around a fitted scene; 1.0 for none.
    :param target: the point that the camera looks at; None for the scene's middle.
    :param keyframes: at least one key frame, in order, for `keyframes`; between them position, target, up and field of
        view go on smoothly.
    :param easing: how the way begins and ends: `linear`, `ease-in`, `ease-out` or `ease-in-out`; None for `linear`, or,
        through key frames, a smooth curve.
    """

    path: Literal["turntable", "swing", "still", "keyframes"] = "turntable"
    turns: Angle = 1.0
    swing: Angle = 40.0
    view: Literal["front", "back", "left", "right", "top", "bottom"] | None = None
    start_angle: Angle = 0.0
    elevation: float = Field(default=0.0, ge=-89, le=89)
    projection: Literal["perspective", "orthographic"] = "perspective"
    fovy: float = Field(default=45.0, gt=0, lt=180)
    height: Size | None = None
    aperture_radius: float = Field(default=0.0, ge=0, le=LARGEST, allow_inf_nan=False)
    focus_distance: Size | None = None
    near_clip: float = Field(default=NEAR_CLIP, ge=0, le=LARGEST, allow_inf_nan=False)
    distance: float | None = Field(default=None, gt=0, le=LARGEST, allow_inf_nan=False)
    margin: float = Field(default=1.08, gt=0, le=1e6, allow_inf_nan=False)
    fit: int | None = Field(default=None, ge=0)
    target: Vector | None = None
    keyframes: tuple[Keyframe, ...] = ()
    easing: Easing | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.path == "keyframes") != bool(self.keyframes):
            raise ValueError("`keyframes` are given with path 'keyframes', and only with it")
        for index, (one, other) in enumerate(pairwise(self.keyframes), 1):
            if one.frame >= other.frame:
                raise misplaced(
                    ("keyframes", index, "frame"),
                    f"is {other.frame} behind {one.frame}; key frames must be in order, each frame once",
                )
        if self.keyframes and (found := first_problem(self.keyframes, self.easing)):
            index, problem = found
            raise misplaced(("keyframes", index), problem)
        for name, text in self._lens_problems():
            raise misplaced((name,), text)
        if self.target and self.distance and self.distance <= max(map(abs, self.target)) * 1e-12:
            raise misplaced(("distance",), "is nothing beside the target's place: the camera would stand in it")
        return self

    def _lens_problems(self) -> Iterator[tuple[str, str]]:
        """What does not go together of the newer words, and what to do."""
        for name in ("view", "fit"):
            if self.keyframes and getattr(self, name) is not None:
                yield name, "the key frames say where the camera is; leave it out, or take another `path`"
        if self.view in ("top", "bottom") and self.elevation:
            yield "elevation", f"is 90 degrees at view {self.view}; leave one of them out"
        if self.projection == "orthographic":
            for name in ("aperture_radius", "focus_distance"):
                if getattr(self, name):
                    yield name, "an orthographic camera has no depth of field; leave it out, or take `perspective`"
        elif self.height is not None:
            yield "height", "is for `projection: orthographic`; a perspective has `fovy` and `distance`"
        elif self.focus_distance is not None and not self.aperture_radius:
            yield "focus_distance", "everything is sharp as long as `aperture_radius` is 0; give one, or leave it out"
