"""The hand-over of tasks, in XCom and in the log: what was submitted, and, after one last look, what was found."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Context

from airflow_brayns.errors import ConnectionLost, reason_of
from airflow_brayns.hooks.supervisor import ask
from airflow_brayns.links import keys
from airflow_brayns.links.texts import Login, jobs, log_command, service_url, tunnel
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.settings import FINDING, ClusterSettings
from airflow_brayns.services.waiting import Waiting
from airflow_brayns.task.operator import BraynsOperator

_PROVEN_SECONDS = 5.0  # a proof that is older is made anew
_LOOK_SECONDS = 20.0


def look_again(operator: BraynsOperator, event: dict[str, Any]) -> None:
    """Look once more before a hand-over, since what was found may have ended: a deferred task waits for a free worker,
    a blocking one for connections that stall when they are closed.

    :param event: the event of a trigger that tells what was found, and when.
    :raises AirflowException: what was found has ended.
    """
    if is_fresh(event):
        return
    booking, at = Booking.from_json(event["booking"]), event.get("at")
    operator.read_settings()

    async def main() -> None:
        try:
            async with operator.hook.session(operator.log) as session:
                wait = Waiting(session, booking)
                async with asyncio.timeout(_LOOK_SECONDS):
                    there = await wait.still_there(event.get("services"))
                await wait.still_answer(there)
        except (ConnectionLost, TimeoutError) as error:
            operator.log.warning(
                "Handed on as it was found at %s; it cannot be looked at again: %s", at, reason_of(error)
            )

    operator.block(main())


def is_fresh(event: dict[str, Any]) -> bool:
    """Tell whether what an event tells was proved a moment ago; events of an older version tell no time."""
    at = event.get("at")
    return at is not None and 0 <= (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds() < _PROVEN_SECONDS


async def announce(operator: BraynsOperator, context: Context, booking: Booking, settings: ClusterSettings) -> None:
    """Tell what was submitted in the log and in XCom, at once, for those who look while the task waits."""
    for allocation in booking.allocations:
        word = "Found the running" if allocation.adopted else "Submitted"
        operator.log.info("%s job %s (%s/%d)", word, allocation.job_id, *allocation.key)
    if hasattr(operator, "plugins"):  # the operator starts services
        operator.log.info("%s", settings.who_can_reach())
    ti = context["ti"]
    cluster = {name: getattr(settings, name) for name in FINDING}
    plugins = list(getattr(operator, "_plugins", None) or [])
    told = {**booking.to_json(), "cluster": cluster, "plugins": plugins}

    def push() -> None:
        ti.xcom_push(key=keys.ALLOCATION, value=told)
        ti.xcom_push(key=keys.JOBS, value=jobs([one.job_id for one in booking.allocations], settings.scheduler))

    await ask(push)


def own_allocation(context: Context) -> dict[str, Any]:
    """The XCom `allocation` of this task; empty where there is none."""
    ti = context["ti"]
    return allocation_of(ti, ti.task_id, -1 if ti.map_index is None else ti.map_index)


def allocation_of(ti: Any, task_id: str, map_index: int) -> dict[str, Any]:
    """The XCom `allocation` of a task in the run of `ti`; empty where there is none."""
    value = ti.xcom_pull(task_ids=task_id, key=keys.ALLOCATION, map_indexes=map_index)
    return dict(value) if isinstance(value, dict) else {}


def hand_on(operator: BraynsOperator, context: Context, services: Sequence[dict[str, Any]]) -> list[str]:
    """Push the XComs `endpoint` and `services`, whose form is a contract, and return the list of endpoints."""
    endpoints = [service["endpoint"] for service in services]
    ti = context["ti"]
    ti.xcom_push(key=keys.SERVICES, value=list(services))
    ti.xcom_push(key="endpoint", value=endpoints[0])
    settings, login = operator.read_settings(), login_of(operator)
    ti.xcom_push(key=keys.TUNNEL, value=tunnel(endpoints[0], login, settings.route))
    logs = [
        service["log"] for service in services if service.get("log")
    ]  # of an endpoint that somebody typed in none is known
    ti.xcom_push(key=keys.LOG, value=log_command(logs, login))
    first = services[0]
    url = service_url(endpoints[0], first.get("generation", 3), secure="certificate" in first)
    ti.xcom_push(key=keys.URL, value={"url": url if settings.route == "direct" else ""})
    for service in services:
        operator.log.info("braynsService %s is usable at %s", service["version"], service["endpoint"])
    return endpoints


def login_of(operator: BraynsOperator) -> Login | None:
    """The login node as a person reaches it, with a login of their own; with `route: node` with Airflow's, which alone
    may go on into its nodes.
    """
    settings = operator.read_settings()
    if not settings.ssh_conn_id:
        return None
    found = operator.hook.login(settings.ssh_conn_id)
    return Login(found.username if settings.route == "node" else None, found.host, found.port)
