"""The simulation of a specification: which of its frames is shown in which frame of the movie."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from airflow_brayns.movie.easing import EASINGS, Easing
from airflow_brayns.movie.fields import MOST_FRAMES, Part, misplaced


class SimulationKeyframe(Part):
    """A key frame of the simulation: which of its steps a frame of the movie shows.

    :param frame: the frame's number in the movie; the first is 0.
    :param step: the simulation's frame; negative ones count from its end, -1 is the last.
    :param easing: how it goes on to the next key frame: `linear`, `ease-in`, `ease-out` or `ease-in-out`.
    """

    frame: int = Field(ge=0, le=MOST_FRAMES)
    step: int = Field(ge=-(10**12), le=10**12)
    easing: Easing = "linear"


class Simulation(Part):
    """The frames of a simulation that are shown, counted as the official client's `MovieFrames` does, or by key frames.

    :param start, end: the first and the last frame of the simulation; negative ones count from its end, -1 is the last.
    :param slowing_factor: how much slower than real time; 2 is twice slower.
    :param keyframes: the simulation's frame in some frames of the movie, in order, the first at frame 0; between them it
        goes on evenly, or as `easing` says. The movie ends with the last one.
    """

    start: int = Field(default=0, ge=-(10**12), le=10**12)
    end: int = Field(default=-1, ge=-(10**12), le=10**12)
    slowing_factor: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    keyframes: tuple[SimulationKeyframe, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.keyframes:
            if (self.start < 0) == (self.end < 0) and self.start > self.end:
                raise misplaced(("end",), f"give one behind the start: {self.end} is before {self.start}")
            return self
        for name, value in (("start", 0), ("end", -1), ("slowing_factor", 1.0)):
            if getattr(self, name) != value:
                raise misplaced((name,), "follows from `keyframes`; leave one of them out")
        if self.keyframes[0].frame:
            raise misplaced(("keyframes", 0, "frame"), "the first key frame is at frame 0, where the movie begins")
        for index, (one, other) in enumerate(pairwise(self.keyframes), 1):
            if one.frame >= other.frame:
                raise misplaced(("keyframes", index, "frame"), "key frames must be in order, each frame once")
        return self

    def steps(self, first: int, last: int) -> list[int]:
        """The simulation's frame in each frame of the movie, by the key frames.

        :param first, last: the first and the last frame that the simulation has.
        :raises Misplaced: a key frame shows another one.
        """
        steps = [one.step + last + 1 if one.step < 0 else one.step for one in self.keyframes]
        for index, step in enumerate(steps):
            if not first <= step <= last:
                told = f"the simulation has no frame {self.keyframes[index].step}: it goes from {first} to {last}"
                raise misplaced(("simulation", "keyframes", index, "step"), told)
        frames = [one.frame for one in self.keyframes]
        found = []
        for frame in range(frames[-1] + 1):
            left = min(bisect_right(frames, frame) - 1, max(len(frames) - 2, 0))
            right = min(left + 1, len(frames) - 1)
            span = frames[right] - frames[left]
            share = EASINGS[self.keyframes[left].easing]((frame - frames[left]) / span) if span else 0.0
            found.append(round(steps[left] + share * (steps[right] - steps[left])))
        return found
