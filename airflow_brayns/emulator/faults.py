"""The real service's faults, asked for through the environment variable `BRAYNS_EMULATOR`.

The command line is bound to braynsService's own (generation 3 refuses any other flag), so options of the emulator
travel in the environment: `BRAYNS_EMULATOR="version=2.0.0,start_seconds=3"`.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

VARIABLE = "BRAYNS_EMULATOR"


@dataclass(frozen=True)
class Faults:
    """What the emulator does on request.

    :param version: the braynsService to stand for: its first number is the generation of the command line.
    :param start_seconds: time before the port opens.
    :param plugin_seconds: time for each plugin, while the port is already open.
    :param never_listens: 1: start, log, and never open the port.
    :param exit_after_seconds: exit with `exit_code` so long after the port opened (0: stay).
    :param exit_code: see `exit_after_seconds`.
    :param load_seconds: time that a model takes to load.
    :param snapshot_seconds: how often `snapshot` looks for its own end: the real one once a second, so its time is a multiple.
    :param frame_seconds: every picture takes exactly so long and is one made beforehand, with the view written into the file
        (0: render it).
    :param recorded_times: 1: pictures are made beforehand, too, but take what the real one's took: by samples, passes and pixels.
    :param hang_at_picture: never answer while rendering this picture (0: never).
    :param deadly_x: die by a segmentation fault at a picture from a camera whose x is within 1e-6 of this one (0: none).
    :param simulation_frames: last frame of the simulation (0: none loaded).
    :param crash_at_picture: die by a segmentation fault while rendering this picture (1 is the first; 0: never).
    :param quit_crash_share: how often `quit` ends in a segmentation fault; measured on 3.10.1: 19 of 80.
    :param hostile: 1: name, among the plugins, what cannot be encoded, what moves a terminal's cursor, and what forges a line.
    """

    version: str = "3.10.1"
    start_seconds: float = 0.0
    plugin_seconds: float = 0.0
    never_listens: int = 0
    exit_after_seconds: float = 0.0
    exit_code: int = 0
    load_seconds: float = 0.0
    snapshot_seconds: float = 1.0
    frame_seconds: float = 0.0
    recorded_times: int = 0
    hang_at_picture: int = 0
    deadly_x: float = 0.0
    simulation_frames: int = 0
    crash_at_picture: int = 0
    quit_crash_share: float = 0.24
    hostile: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Faults:
        """Read `BRAYNS_EMULATOR`.

        :raises ValueError: for a key it does not know, or a value of the wrong type.
        """
        kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(cls)}
        chosen: dict[str, Any] = {}
        for part in filter(None, environment.get(VARIABLE, "").split(",")):
            key, _, value = part.partition("=")
            if key not in kinds:
                raise ValueError(f"{VARIABLE}: unknown key '{key}'; known: {', '.join(sorted(kinds))}")
            chosen[key] = kinds[key](value)
        return cls(**chosen)

    @property
    def version_numbers(self) -> tuple[int, int, int]:
        """The version as three numbers."""
        major, minor, patch = (int(part) for part in self.version.split("."))
        return major, minor, patch

    def abort(self, what: str) -> None:
        """Die of an exception that nothing catches, with the two lines that the C++ library prints."""
        print("terminate called after throwing an instance of 'std::invalid_argument'", flush=True)
        print(f"  what():  {what}", flush=True)
        os.kill(os.getpid(), signal.SIGABRT)

    @property
    def more_plugins(self) -> list[str]:
        """What it says that it has loaded beside what it has."""
        return ["\ud800evil", "\x1b[2Jclear\x00", "x\n[2026-01-01 00:00:00] INFO - all is well"] if self.hostile else []

    def segfault(self) -> None:
        """Die as a segmentation fault does."""
        os.kill(os.getpid(), signal.SIGSEGV)

    def crashes_at_quit(self) -> bool:
        """Whether this `quit` is one of those that end in a crash."""
        return random.random() < self.quit_crash_share
