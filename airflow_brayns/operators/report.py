"""Progress that can be trusted: in the task log at a sane rate, in the task's state store for pages to read, as metrics."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Context

from airflow_brayns.movie.supply import Progress
from airflow_brayns.observe import count, took

STATE_KEY = "brayns_progress"
_LOG_SECONDS, _STORE_SECONDS = 30.0, 5.0


class TaskReporter:
    """Tells a task what its rendering does.

    :param log: the task's.
    :param context: the task's; None where there is no state store (in the triggerer).
    """

    def __init__(self, log: Any, context: Context | None = None) -> None:
        self._log = log
        self._store: Any = context.get("task_state_store") if context is not None else None
        self._logged_at = self._stored_at = 0.0
        self._logged_share = -1

    def progress(self, progress: Progress) -> None:
        """See `Reporter.progress`."""
        count("brayns.frames")
        took("brayns.frame_time", progress.seconds)
        now, over = time.monotonic(), progress.done >= progress.total
        share = 20 * progress.done // max(progress.total, 1)
        if over or now - self._logged_at >= _LOG_SECONDS or (share > self._logged_share and now - self._logged_at >= 1):
            self._logged_at, self._logged_share = now, share
            self._log.info("%s", text_of(progress))
        if self._store is not None and (over or now - self._stored_at >= _STORE_SECONDS):
            self._stored_at = now
            self._keep(progress)

    def _keep(self, progress: Progress) -> None:
        value = {
            "done": progress.done,
            "total": progress.total,
            "frames_per_second": round(progress.rate, 3),
            "seconds_left": None if progress.left is None else round(progress.left),
            "nodes": progress.nodes,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            self._store.set(STATE_KEY, value)
        except Exception as error:  # a page that shows less is no reason to lose a movie
            self._log.warning("The progress could not be stored: %s", error)
            self._store = None

    def note(self, text: str) -> None:
        """See `Reporter.note`."""
        self._log.info("%s", text)

    def trouble(self, text: str) -> None:
        """See `Reporter.trouble`."""
        self._log.warning("%s", text)


def text_of(progress: Progress) -> str:
    """One line: how far, how fast, how long still, and who rendered how much."""
    left = "" if progress.left is None else f", {duration(progress.left)} left"
    nodes = ", ".join(f"{node} {number}" for node, number in sorted(progress.nodes.items())[:12])
    more = f" and {len(progress.nodes) - 12} more" if len(progress.nodes) > 12 else ""
    share = 100 * progress.done // max(progress.total, 1)
    return f"{progress.done} of {progress.total} frames ({share} %), {progress.rate:.2f} a second{left}; {nodes}{more}"


def duration(seconds: float) -> str:
    """`1 h 05 min`, `3 min 20 s`, `12 s`."""
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
