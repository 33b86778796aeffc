"""Holding services for a person, for as long as asked and as long as they are there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from airflow_brayns.errors import BraynsError, InvalidSetting
from airflow_brayns.links import keys
from airflow_brayns.services.holding import hold
from airflow_brayns.services.tasks import within
from airflow_brayns.task.fields import PATIENCE_SECONDS, booking_of, is_set, patience_of, started_of, word_list
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.operator import BraynsOperator
from airflow_brayns.task.session_report import SessionReport
from airflow_brayns.task.wait_report import Store, in_task

if TYPE_CHECKING:
    from airflow_brayns.triggers.session import BraynsSessionTrigger


class BraynsSessionSensor(BraynsOperator):
    """Watches services that somebody works with, until a time, without a worker slot. They count as used meanwhile.

    Succeeds when the time is over, or when somebody gives the nodes back (`airflow brayns release`); fails at once, and for good,
    when a service or its job ends. `ExtendSessionOperator` gives it more time: it is held longer, or what follows on is held, too. Returns why it ended. It owns nothing: put it inside `brayns_service(...)`, which gives the
    nodes back as soon as it ends.

    :param allocation: what the services run in: XCom key `allocation` of `BraynsServiceOperator`, or what
        `StartBraynsServiceOperator` returned, whose services are held (templated)
    :param until: when it ends: a datetime, or ISO 8601, UTC where it tells no zone; None for as long as the allocation lasts
        (templated)
    :param deferrable: wait in the triggerer; False to hold a worker slot.
    :param patience: with `deferrable`: seconds to wait in the worker first, see `AllocateNodesOperator`.
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "allocation", "until")

    def __init__(
        self,
        *,
        allocation: Any,
        until: datetime | str | None = None,
        deferrable: bool = True,
        patience: float | timedelta = PATIENCE_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.allocation = allocation
        self.until = until
        self.deferrable = deferrable
        self.patience = patience

    @guarded
    def execute(self, context: Context) -> str:
        """Watch here for a while, then in the triggerer."""
        trigger = self._trigger()
        self._tell(context)
        patience = patience_of(self.patience) if self.deferrable else None
        why = (
            None
            if patience == 0
            else self.block(within(patience, self._hold(trigger, in_task(context["ti"], self.log, keys.HELD))))
        )
        if why is not None:
            return self._ended(context, why)
        trigger.deferred_at = self.deferral()
        self.defer(trigger=trigger, method_name="resume", timeout=self.execution_timeout)
        raise AssertionError

    async def _hold(self, trigger: BraynsSessionTrigger, store: Store) -> str:
        async with self.hook.session(self.log) as session:
            booking = booking_of(self.allocation)
            try:
                return await hold(
                    session, booking, self._time(), self._services(),
                    plugins=self._plugins(), tell=SessionReport(store, booking.name),
                )  # fmt: skip
            finally:
                trigger.booking["told"] = session.told.to_json()

    def _trigger(self) -> BraynsSessionTrigger:
        from airflow_brayns.triggers.session import BraynsSessionTrigger  # as in operators.cluster

        self.read_settings()
        return BraynsSessionTrigger(
            cluster_conn_id=self.cluster_conn_id,
            overrides=self.waiting_overrides,
            # The plugins are no argument of their own: an older triggerer would refuse it, and does without.
            booking={**booking_of(self.allocation).to_json(), "plugins": self._plugins()},
            services=self._services(),
            until=until.isoformat() if (until := self._time()) else None,
        )

    def _services(self) -> list[str] | None:
        found = started_of(self.allocation).get("services")
        return None if found is None else list(found)

    def _plugins(self) -> list[str]:
        """What the services were asked to load, as whoever started them tells."""
        return word_list("plugins", started_of(self.allocation).get("plugins"))

    def _time(self) -> datetime | None:
        """Read `until`.

        :raises InvalidSetting: it is no time.
        """
        if not is_set(self.until):
            return None
        try:
            found = self.until if isinstance(self.until, datetime) else datetime.fromisoformat(str(self.until))
        except ValueError:
            raise InvalidSetting(
                "until", f"must be a time such as 2026-01-31T18:00+01:00, not {str(self.until)[:40]!r}"
            ) from None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    @guarded
    def resume(self, context: Context, event: dict[str, Any]) -> str:
        """Come back from the triggerer."""
        if event["status"] != "success":
            raise BraynsError.from_json(event)
        return self._ended(context, event["why"])

    def _tell(self, context: Context, why: str = "") -> None:
        """Tell in XCom what is held and until when and, at its end, why it ended."""
        until = until.isoformat() if (until := self._time()) else None
        told = {"allocation": booking_of(self.allocation).name, "until": until, **({"why": why} if why else {})}
        context["ti"].xcom_push(key=keys.HELD, value=told)

    def _ended(self, context: Context, why: str) -> str:
        self._tell(context, why)
        self.log.info("The session has ended: %s", why)
        return why
