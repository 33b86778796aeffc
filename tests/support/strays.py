"""Airflows whose tests were killed: their processes have sessions of their own, and would go on for ever beside the next tests."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from pathlib import Path

KEPT = Path(tempfile.gettempdir()) / f"airflow-brayns-tests.{os.getuid()}"


def started(pid: int) -> str:
    """The kernel's start time of a process: ids are given out again. Empty for none, and for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def session_of(pid: int) -> int:
    """Whose session a process is in; 0 where it has gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[3])
    except (OSError, IndexError, ValueError):
        return 0


def remember(session: int) -> None:
    """Write down a session that this process has begun."""
    KEPT.mkdir(mode=0o700, exist_ok=True)
    (KEPT / f"{session}.{started(session)}.{os.getpid()}.{started(os.getpid())}").touch()


def end_strays() -> list[int]:
    """End what tests began that are no more; the ids of what was ended."""
    ended = []
    for path in KEPT.glob("*.*.*.*"):
        session, began, owner, owner_began = path.name.split(".")
        if owner_began and started(int(owner)) == owner_began:
            continue
        # As long as one process is in a session, its number is given to nobody else (Linux); so only a new leader is a stranger.
        if started(int(session)) in ("", began):
            for found in Path("/proc").glob("[0-9]*"):
                if session_of(int(found.name)) == int(session):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(found.name), signal.SIGKILL)
                        ended.append(int(found.name))
        path.unlink(missing_ok=True)
    return ended
