"""The operator that gives a session more time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException

from airflow_brayns.cluster.extension import Granted
from airflow_brayns.errors import AllocationLost, BraynsError, InvalidSetting, SubmissionLimited, SubmissionRefused
from airflow_brayns.links import keys
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.extending import Extended, extend
from airflow_brayns.task.fields import booking_of, whole_number
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.operator import BraynsOperator

MOST_MINUTES = 1420
_SAID = {
    Granted.ROOM: "Job %s has as much time left.",
    Granted.RAISED: "The time limit of job %s was raised.",
    Granted.REFUSED: "The time limit was not raised (%s): job %s is queued to follow on, with the same services.",
    Granted.WAITS: "Job %s is queued to follow on already, with all of its time before it.",
}


class ExtendSessionOperator(BraynsOperator):
    """Gives a session more time, whenever it is cleared: from then on it lasts so many minutes again. When it runs first it does nothing but
    tell that it may be cleared, which the page *Brayns* then offers as *Extend…*.

    Where the job has as much time left, or Slurm lets its user raise the limit (as a rule it does not), the services go on. Else
    a job with the same services is queued that follows on: `BraynsSessionSensor` holds both, and goes on with the second
    one when the first has ended. It is given back together with the first. Cleared twice it asks once, since what counts is what is
    left. Where nothing can be extended any more, or Slurm takes no further job, it is skipped, and says why.

    Put it behind the task that allocates, and not inside `brayns_service(...)`: clearing a task of that block clears the
    allocation, too. Give it the same fields as the task that allocates, since what follows on is asked for with them.

    :param allocation: XCom key `allocation` of `BraynsServiceOperator` (templated)
    :param minutes: how long the session lasts from now on, 1 to 1420 (templated)
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "allocation", "minutes")

    def __init__(self, *, allocation: Any, minutes: int | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allocation = allocation
        self.minutes = minutes

    @guarded
    def execute(self, context: Context) -> dict[str, Any]:
        """Ask for more time, or tell that it may be asked for; return what the page is told."""
        booking, minutes = booking_of(self.allocation), self._whole_minutes()
        jobs = [one.job_id for one in booking.allocations]
        told: dict[str, Any] = {"allocation": booking.name, "jobs": jobs, "minutes": minutes}
        if not self._is_asked(context, told):
            self.log.info("To give the session %d minutes from then on, clear this task while it lasts.", minutes)
            return self._tell(context, told)
        return self._tell(context, told | self._extend(context, booking, minutes, told))

    def _whole_minutes(self) -> int:
        minutes = whole_number("minutes", self.minutes)
        if not 1 <= minutes <= MOST_MINUTES:
            raise InvalidSetting("minutes", f"must be from 1 to {MOST_MINUTES}, not {minutes}")
        return minutes

    def _is_asked(self, context: Context, told: dict[str, Any]) -> bool:
        """Tell whether somebody has cleared the task since it told of this very booking."""
        store = context.get("task_state_store")
        before = store.get(keys.EXTENSION) if store is not None else None
        return isinstance(before, dict) and all(before.get(key) == told[key] for key in ("allocation", "jobs"))

    def _extend(self, context: Context, booking: Booking, minutes: int, told: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC)
        until = (now + timedelta(minutes=minutes)).replace(microsecond=0)
        self.read_settings()
        owner = self.owner_of(context)
        at = {"at": now.isoformat(timespec="seconds")}

        async def main() -> list[Extended] | BraynsError:
            async with self.hook.session(self.log) as session:
                try:
                    return await extend(session, booking, owner, minutes * 60, until)
                except (AllocationLost, SubmissionRefused) as error:
                    if error.retry and not isinstance(error, SubmissionLimited):
                        raise
                    return error

        found = self.block(main())
        if isinstance(found, BraynsError):  # no fault of the session's, which goes on to its end
            self._tell(context, told | at | {"how": "refused", "why": found.why})
            raise AirflowSkipException(str(found))
        return at | self._outcome(found, until)

    def _outcome(self, found: Sequence[Extended], until: datetime) -> dict[str, Any]:
        """What the page is told, of several allocations by the one that has to wait."""
        for one in found:
            words = (one.why or "Slurm said nothing", one.job_id) if one.granted is Granted.REFUSED else (one.job_id,)
            self.log.info(_SAID[one.granted], *words)
        waiting = [one for one in found if one.granted in (Granted.REFUSED, Granted.WAITS)]
        if waiting:
            jobs = [one.job_id for one in waiting]
            return {"how": "follow_on", "following": jobs, "why": next((one.why for one in waiting if one.why), "")}
        raised = any(one.granted is Granted.RAISED for one in found)
        return {"how": "raised" if raised else "room", "until": until.isoformat()}

    def _tell(self, context: Context, told: dict[str, Any]) -> dict[str, Any]:
        """Keep it where the next try finds it, and the page."""
        if (store := context.get("task_state_store")) is not None:
            store.set(keys.EXTENSION, told)
        return told
