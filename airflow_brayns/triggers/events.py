"""Events of triggers, which are made safe in this place before Airflow gets them.

An event that cannot be encoded ends Airflow's trigger runner, and every other DAG's deferral with it: only a
`NotImplementedError` is taken for an event that is to be left out, and half a character raises another (3.3.2, run).
The same holds for the traceback of an exception that a trigger lets out.
"""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_brayns.errors import BraynsError, Unexpected
from airflow_brayns.errors.plain import LONGEST, plain, plain_text

Trigger = TypeVar("Trigger", bound=BaseTrigger)
Run = Callable[[Trigger], AsyncIterator[TriggerEvent]]


def safe_events(run: Run[Trigger]) -> Run[Trigger]:
    """Decorate a trigger's `run`, so that each event is made of plain values, and an exception becomes the event
    `error`.

    The task that resumes fails with its message, and keeps its retries; the traceback is in the triggerer's log.
    """

    @wraps(run)
    async def safely(self: Trigger) -> AsyncIterator[TriggerEvent]:
        try:
            async with aclosing(run(self)) as events:  # type: ignore[type-var]
                async for event in events:
                    yield TriggerEvent(plain(event.payload, LONGEST))
        except Exception as error:
            self.log.error("%s", plain_text("".join(traceback.format_exception(error))))
            yield TriggerEvent(_failure(self, error))

    return safely


def failed(error: BraynsError, **place: Any) -> dict[str, Any]:
    """The event `error`, of which the task makes its own error.

    :param place: where it happened, as further keys of the event.
    """
    return {"status": "error", **error.to_json(), **place}


def without_told(booking: dict[str, Any]) -> dict[str, Any]:
    """A trigger's booking as an event has it: what the log has shown is for the triggerer alone."""
    return {name: value for name, value in booking.items() if name != "told"}


def _failure(trigger: BaseTrigger, error: Exception) -> dict[str, Any]:
    where = f"{type(error).__name__} in {type(trigger).__name__}"
    told = Unexpected(f"{where}: {error}.", remedy="Look at the traceback in the triggerer's log, and report it.")
    booking = getattr(trigger, "booking", None)
    place = {} if booking is None else {"booking": without_told(booking)}
    return dict(plain(failed(told, **place), LONGEST))
