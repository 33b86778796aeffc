"""How a session stands, stored in its task's XCom for the page: until when it is held, and what follows on."""

from __future__ import annotations

from typing import Any

from airflow_brayns.services.holding import Held
from airflow_brayns.task.wait_report import Store, facts_of


class SessionReport:
    """A memory of what was stored of a session, for `hold`.

    :param store: stores a dict, at once or later; it raises no error.
    :param allocation: the booking's name.
    """

    def __init__(self, store: Store, allocation: str) -> None:
        self._store, self._allocation = store, allocation
        self._told: dict[str, Any] | None = None

    def __call__(self, held: Held) -> None:
        """Take what there is to tell; what was told is not told again."""
        told = told_of(self._allocation, held)
        if told != self._told:
            self._told = told
            self._store(told)


def told_of(allocation: str, held: Held) -> dict[str, Any]:
    """A session as the dict that pages read."""
    told: dict[str, Any] = {
        "allocation": allocation,
        "until": held.until.isoformat(timespec="seconds") if held.until else None,
    }
    if held.following:
        told["following"] = {status.job_id: facts_of(status) for status in held.following}
        told["services"] = [service.to_json() for service in held.services]
    if held.ended:
        told["ended"] = list(held.ended)
    return told
