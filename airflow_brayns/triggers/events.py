"""What a trigger tells Airflow, made safe at one place.

An event that cannot be encoded ends Airflow's trigger runner, and every other DAG's deferral with it: only a
`NotImplementedError` is taken for an event that is to be left out, and half a character raises another (3.3.2, run). The same
holds for the traceback of an exception that a trigger lets out.
"""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_brayns.plain import LONGEST, plain, plain_text

Trigger = TypeVar("Trigger", bound=BaseTrigger)
Run = Callable[[Trigger], AsyncIterator[TriggerEvent]]


def safe_events(run: Run[Trigger]) -> Run[Trigger]:
    """Decorates a trigger's `run`: each event is made of plain values, and an exception becomes the event `error`.

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


def _failure(trigger: BaseTrigger, error: Exception) -> dict[str, Any]:
    message = f"{type(error).__name__} in {type(trigger).__name__}: {error}. The triggerer's log has the traceback."
    event = {"status": "error", "message": message, "retry": True, "booking": getattr(trigger, "booking", None)}
    return dict(plain({key: value for key, value in event.items() if value is not None}, LONGEST))
