"""A task instance as far as operators see it, and the triggerer's part, without a running Airflow."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import Any

from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import TaskDeferred

NAME_OF_EMULATOR = str(Path(sys.executable).parent / "brayns-emulator")


class Ti:
    """A task instance as far as operators see it."""

    def __init__(self, task_id: str = "task") -> None:
        self.id = uuid.uuid4()
        self.dag_id, self.run_id, self.task_id, self.map_index, self.try_number = (
            "dag",
            f"run-{uuid.uuid4()}",
            task_id,
            -1,
            1,
        )
        self.xcom: dict[str, Any] = {}

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        return self.xcom.get(key)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = json.loads(json.dumps(value))


def run_trigger(deferred: TaskDeferred) -> dict[str, Any]:
    """As the triggerer does: from its serialised form, until the first event."""
    path, arguments = deferred.trigger.serialize()
    trigger = import_string(path)(**json.loads(json.dumps(arguments)))

    async def first() -> Any:
        async for event in trigger.run():
            return event.payload
        return None

    return asyncio.run(first())
