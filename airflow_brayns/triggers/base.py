"""The base of all triggers: arguments that may come from another version of this package, and an event that is not too
early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from inspect import Parameter, signature
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger

from airflow_brayns.errors import BraynsError
from airflow_brayns.services.settings import ClusterSettings
from airflow_brayns.task.lateness import LATEST_SECONDS
from airflow_brayns.version import __version__

HOLD_SECONDS = 5.0


class BraynsTrigger(BaseTrigger):
    """A trigger that outlives an upgrade: what one version serialised, another one takes.

    An argument without a default is in the serialised form of every released version, and is always sent, since each
    demands it. An argument with a default came later: it is sent only where it differs from the default, so that an
    older triggerer takes the trigger too. A constructor raises nothing but a TypeError, which fails the one trigger;
    anything else ends Airflow's trigger runner (3.3.2).

    :param deferred_at: when the task deferred, in ISO 8601; later where Airflow is busy (`BraynsOperator.deferral`); None from
        0.2.0 and before.
    :param newer: arguments of a newer version. They were sent, so they ask for something that this version cannot do:
        the event is an error that says so.
    """

    # By name, the arguments that are dicts of this package's own fields, each with the fields that this version knows.
    fields_of: ClassVar[Mapping[str, frozenset[str]]] = {"overrides": frozenset(ClusterSettings.model_fields)}

    def __init__(self, deferred_at: str | None, newer: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.deferred_at = deferred_at
        self.newer = dict(newer)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See `BaseTrigger.serialize`."""
        sent = {
            name: getattr(self, name)
            for name, parameter in signature(type(self)).parameters.items()
            if parameter.kind is Parameter.KEYWORD_ONLY and getattr(self, name) != parameter.default
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", sent | self.newer

    def check_known(self) -> None:
        """Refuse what a newer version asks for.

        :raises BraynsError: the trigger has arguments or fields of a newer version; the error names them.
        """
        if unknown := sorted([*self.newer, *self._unknown_fields()]):
            raise BraynsError(
                f"A newer version of airflow-brayns deferred this task, and this triggerer's ({__version__}) does not know "
                f"{', '.join(unknown)}.",
                remedy="Upgrade the triggerers, and restart them before the workers.",
            )

    def _unknown_fields(self) -> Iterator[str]:
        for name, known in self.fields_of.items():
            yield from (f"{name}.{field}" for field in getattr(self, name) if field not in known)

    async def hold(self) -> None:
        """Wait until some seconds have passed since the task deferred.

        Airflow's scheduler reads the executor's word that the task's process has ended only a while after the deferral;
        if the task runs again by then, it is taken for failed (apache/airflow#71580, 3.3.2). There is nothing that
        could be awaited: nobody is told when that word was read.
        """
        if self.deferred_at is not None:
            passed = (datetime.now(UTC) - datetime.fromisoformat(self.deferred_at)).total_seconds()
            await asyncio.sleep(min(HOLD_SECONDS + LATEST_SECONDS, max(0.0, HOLD_SECONDS - passed)))
