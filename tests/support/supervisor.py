"""Airflow's supervisor as a task sees it: answers, and notes every question that is asked inside a loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import traceback
from collections.abc import Mapping
from typing import Any

from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    ConnectionResult,
    DagRunStateResult,
    DRCount,
    OKResponse,
    TaskStatesResult,
    VariableResult,
    XComResult,
)

from tests.support.task import Ti

_FIELDS = dict.fromkeys(["host", "schema", "login", "password", "port"])


class Supervisor:
    """In place of `task_runner.SUPERVISOR_COMMS`.

    :param connections: by id, as the JSON of an `AIRFLOW_CONN_` variable.
    """

    def __init__(self, connections: Mapping[str, Any]) -> None:
        self.connections = connections
        self.state = "running"
        self.asked: list[str] = []
        self.inside: list[str] = []
        self.stored: list[Any] = []

    def send(self, msg: Any) -> Any:
        kind = type(msg).__name__
        self.asked.append(kind)
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            self.inside.append(f"{kind}: {''.join(traceback.format_stack(limit=8)[:-1])}")
        return self._answer(msg)

    async def asend(self, msg: Any) -> Any:
        self.inside.append(f"{type(msg).__name__}, by asend")
        return self.send(msg)

    def _answer(self, message: Any) -> Any:
        match type(message).__name__:
            case "GetConnection":
                values = dict(self.connections[message.conn_id])
                values["extra"] = json.dumps(values.get("extra", {}))
                return ConnectionResult(conn_id=message.conn_id, **{**_FIELDS, **values})
            case "GetVariable":
                return VariableResult(key=message.key, value="a-mark-of-the-tests")
            case "GetTaskStates":
                return TaskStatesResult(task_states={"run": {"task": self.state}})
            case "GetDRCount":
                return DRCount(count=1)
            case "GetDagRunState":
                return DagRunStateResult.model_validate({"state": "failed"})
            case "SetTaskStateStore":
                self.stored.append(message.value)
        return OKResponse(ok=True)


class AskingTi(Ti):
    """Whose XCom goes through the supervisor, as a real one's does."""

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        task_runner.SUPERVISOR_COMMS.send(XComResult(key=key, value=None))
        return super().xcom_pull(task_ids, key, map_indexes)

    def xcom_push(self, key: str, value: Any) -> None:
        task_runner.SUPERVISOR_COMMS.send(XComResult(key=key, value=None))
        super().xcom_push(key, value)
