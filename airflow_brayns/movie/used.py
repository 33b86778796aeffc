"""What a movie's rendering has used: the time for which nodes were held for it, told apart by what they did."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

_HOUR = 3600.0


@dataclass(frozen=True)
class Used:
    """The node seconds that rendering has used, by what the nodes did; together they are the time that nodes were held.

    :param rendering: at frames that are whole.
    :param starting: from a node's coming until its service has the scene; a start after a fault is lost.
    :param waiting: usable, and at no frame.
    :param lost: lost to faults: services that died or never became usable, until another had the scene in their place;
        frames that were rendered in vain; nodes that a killed try left with nobody to render.
    :param frames: how many frames came out whole.
    """

    rendering: float = 0.0
    starting: float = 0.0
    waiting: float = 0.0
    lost: float = 0.0
    frames: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def node_seconds(self) -> float:
        """The node seconds, whatever the nodes did."""
        return self.rendering + self.starting + self.waiting + self.lost

    @property
    def node_hours(self) -> float:
        """The node-hours, whatever the nodes did."""
        return self.node_seconds / _HOUR

    @property
    def efficiency(self) -> float | None:
        """The share of the node seconds that went into whole frames; None where nothing was used."""
        return self.rendering / self.node_seconds if self.node_seconds else None

    def seconds(self) -> dict[str, float]:
        """The node seconds by what the nodes did."""
        return {"rendering": self.rendering, "starting": self.starting, "waiting": self.waiting, "lost": self.lost}

    def plain(self) -> dict[str, Any]:
        """What was used as plain JSON values, in node-hours."""
        hours = {name: round(seconds / _HOUR, 6) for name, seconds in self.seconds().items()}
        efficiency = None if self.efficiency is None else round(self.efficiency, 4)
        return {"node_hours": round(self.node_hours, 6), **hours, "efficiency": efficiency, "frames": self.frames}

    def text(self) -> str:
        """A line for the log."""
        if self.efficiency is None:
            return "no node-hours"
        told = {name: hours_text(seconds / _HOUR, self.node_hours) for name, seconds in self.seconds().items()}
        return (
            f"{hours_text(self.node_hours)} node-hours: {told['rendering']} rendering, {told['starting']} starting, "
            f"{told['waiting']} waiting, {told['lost']} lost to faults; efficiency {100 * self.efficiency:.0f} %"
        )


def hours_text(hours: float, like: float | None = None) -> str:
    """Words for node-hours, with as many digits as a number of that size needs.

    :param like: a number from which the digits are taken, so that those of one line can be compared.
    """
    of = hours if like is None else like
    return f"{hours:.{1 if of >= 100 else 2 if of >= 1 else 4}f}"


def duration(seconds: float) -> str:
    """Words for a number of seconds: `1 h 05 min`, `3 min 20 s`, `12 s`."""
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


@dataclass(frozen=True)
class UsedRecord:
    """The record of what one try has used until some moment, a line of the manifest; the latest one of a try counts.

    :param movie: the movie that it was used for, the same for every try of one task instance.
    :param holder: the try's token.
    :param at: the moment, by the clock of whoever wrote it (`time.time()`).
    :param spent: the budget in node-hours by which the try ended; 0 where it did not.
    :param held: the nodes that the try went on to hold, see `RenderService.place`; none in its last record.
    :param late: the seconds at whole frames that came after this record of a try that was killed; they are in `used`, and in
        no line.
    """

    movie: str
    holder: str
    at: float
    used: Used
    held: tuple[str, ...] = ()
    spent: float = 0.0
    late: float = 0.0

    def with_frames(self, seconds: Collection[float]) -> UsedRecord:
        """This record of a killed try with the frames that came after it; the record of one that has ended is complete.

        :param seconds: the seconds of each whole frame of the try; none where its version did not tell whose they are.
        """
        if not self.held or not seconds:
            return self
        late = max(0.0, sum(seconds) - self.used.rendering)
        used = replace(self.used, rendering=self.used.rendering + late, frames=len(seconds))
        return replace(self, used=used, late=late)

    def line(self) -> str:
        """The line of the manifest that holds this record."""
        used = {name: round(seconds, 6) for name, seconds in self.used.seconds().items()}
        told = {"used": {**used, "frames": self.used.frames}, "movie": self.movie, "holder": self.holder}
        return (
            json.dumps({**told, "at": round(self.at, 3), "held": self.held, "spent": self.spent}, separators=(",", ":"))
            + "\n"
        )

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> UsedRecord:
        """Read what `line` wrote.

        :raises ValueError: a number is none, or is below zero.
        """
        told = value["used"]
        rendering, starting, waiting, lost = (
            seconds_of(told[name]) for name in ("rendering", "starting", "waiting", "lost")
        )
        used = Used(rendering, starting, waiting, lost, int(seconds_of(told["frames"])))
        held = tuple(map(str, value["held"]))
        spent = seconds_of(value.get("spent", 0))
        return cls(str(value["movie"]), str(value["holder"]), seconds_of(value["at"]), used, held, spent)


def seconds_of(value: Any) -> float:
    """Read a number of seconds, or of frames, in a manifest.

    :raises ValueError: it is none, or is below zero.
    """
    if type(value) not in (int, float) or not 0 <= value < 1e15:
        raise ValueError("not a number of seconds")
    return float(value)
