"""Reports of a movie's progress: in the task's log at a bearable rate, in the task's state store for pages to read, and
as metrics.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from airflow.sdk import Context

from airflow_brayns.errors import reason_of
from airflow_brayns.hooks.supervisor import at_end, tell
from airflow_brayns.links import keys
from airflow_brayns.movie.interfaces import Progress
from airflow_brayns.movie.used import Used
from airflow_brayns.movie.used import duration as duration
from airflow_brayns.task.metrics import count, level, took

STATE_KEY = keys.PROGRESS
_LOG_SECONDS, _STORE_SECONDS = 30.0, 5.0


class TaskReporter:
    """A reporter that tells a task how its rendering goes.

    :param log: the task's log.
    :param context: the task's context; None where there is neither XCom nor state store (in the triggerer).
    :param frames_dir: the worker's folder that the frames go to, in which a glimpse of the movie is kept; empty where they go
        elsewhere.
    :ivar told_used: what was used, as XCom has it; None until it is told.
    """

    def __init__(self, log: Any, context: Context | None = None, frames_dir: str = "") -> None:
        self._log, self._frames_dir = log, frames_dir
        store = context.get("task_state_store") if context is not None else None
        self._ti = None if context is None else context.get("ti")
        self.told_used: dict[str, Any] | None = None
        self._kept = None if store is None else _Kept(log, store)
        self._logged_at = 0.0
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
        if self._kept is not None:
            self._kept.put(value_of(progress, self._frames_dir), at_once=over)

    def note(self, text: str) -> None:
        """See `Reporter.note`."""
        self._log.info("%s", text)

    def said(self, line: str) -> None:
        """See `Reporter.said`."""
        self._log.info("%s", line)

    def trouble(self, text: str) -> None:
        """See `Reporter.trouble`."""
        self._log.warning("%s", text)

    def used(self, used: Used, total: Used) -> None:
        """See `Reporter.used`."""
        self._log.info("Rendering used %s.", used.text())
        if total != used:
            self._log.info("With the tries before it used %s.", total.text())
        count("brayns.node_seconds_rendering", round(used.rendering))
        count("brayns.node_seconds_starting", round(used.starting))
        count("brayns.node_seconds_waiting", round(used.waiting))
        count("brayns.node_seconds_lost", round(used.lost))
        if used.efficiency is not None:
            level("brayns.efficiency", used.efficiency)
        self.told_used = total.plain()
        if self._ti is not None:
            tell(partial(push_used, self._ti, self.told_used, self._log))


def push_used(ti: Any, told: dict[str, Any], log: Any) -> None:
    """Put what was used into XCom; where Airflow does not take it, the log has it all the same."""
    try:
        ti.xcom_push(key=keys.USED, value=told)
    except Exception as error:  # a movie must not be lost because a page shows less
        log.warning("What was used could not be put into XCom: %s", reason_of(error))


class _Kept:
    """The progress in the task's state store. The thread that asks Airflow stores it, so that a slow API server does
    not hold the loop and, with it, every node. The latest value wins, and the last one is always stored.

    :param store: `context["task_state_store"]`.
    """

    def __init__(self, log: Any, store: Any) -> None:
        self._log, self._store = log, store
        self._lock = threading.Lock()
        self._value: dict[str, Any] | None = None
        self._telling = self._failing = False
        self._told_at = 0.0
        at_end(self._tell)

    def put(self, value: dict[str, Any], *, at_once: bool) -> None:
        """Store a value when it is time, unless a newer one has come by then.

        :param at_once: whether it is time now.
        """
        with self._lock:
            self._value = value
        if at_once or time.monotonic() - self._told_at >= _STORE_SECONDS:
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            if self._telling or self._value is None:
                return
            self._telling = True
        self._told_at = time.monotonic()
        tell(self._set)

    def _set(self) -> None:
        while True:
            with self._lock:
                value, self._value = self._value, None
                if value is None:
                    self._telling = False
                    return
            try:
                self._store.set(STATE_KEY, value)
                self._failing = False
            except Exception as error:  # a movie must not be lost because a page shows less
                if not self._failing:
                    self._log.warning("The progress could not be stored; it is tried again: %s", reason_of(error))
                self._failing = True
                with self._lock:  # the value is kept until the next one, or the end
                    self._value, self._telling = self._value or value, False
                return


def value_of(progress: Progress, frames_dir: str = "") -> dict[str, Any]:
    """The progress as the dict that pages read."""
    return {
        "done": progress.done,
        "total": progress.total,
        "frames_per_second": round(progress.rate, 3),
        "seconds_left": None if progress.left is None else round(progress.left),
        "nodes": dict(progress.nodes),
        **({} if progress.noun == "frames" else {"noun": progress.noun}),
        **({"frames_dir": frames_dir} if frames_dir and progress.noun == "frames" else {}),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def text_of(progress: Progress) -> str:
    """The progress as one line for the log: how far, how fast, how long still, and which node rendered how much."""
    left = "" if progress.left is None else f", {duration(progress.left)} left"
    nodes = ", ".join(f"{node} {number}" for node, number in sorted(progress.nodes.items())[:12])
    more = f" and {len(progress.nodes) - 12} more" if len(progress.nodes) > 12 else ""
    share = 100 * progress.done // max(progress.total, 1)
    return f"{progress.done} of {progress.total} {progress.noun} ({share} %), {progress.rate:.2f} a second{left}; {nodes}{more}"
