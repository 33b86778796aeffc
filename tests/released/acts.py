"""What workers and triggerers do, under whichever version of the package is on the path.

As a program: an act in each line of standard input, its outcome in a line of standard output.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import traceback
from importlib import import_module
from typing import Any

from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import TaskDeferred

from tests.support.task import Ti


def where() -> str:
    """Where the package is that is on the path."""
    return str(import_module("airflow_brayns").__file__)


def execute(operator: str, arguments: dict[str, Any], ti: dict[str, Any]) -> dict[str, Any]:
    """A task's first half, or all of it: what it defers with, or returns."""
    context = _context(ti)
    try:
        returned = _operator(operator, arguments).execute(context)
    except TaskDeferred as deferred:
        path, kwargs = deferred.trigger.serialize()
        told = {"trigger": [path, kwargs], "method": deferred.method_name}
    else:
        told = {"returned": returned}
    return {**told, "xcom": context["ti"].xcom}


def event(path: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a trigger tells, made from its serialised form."""
    trigger = import_string(path)(**kwargs)

    async def first() -> Any:
        async for one in trigger.run():
            return one.payload
        return None

    return dict(asyncio.run(first()))


def resume(
    operator: str, arguments: dict[str, Any], ti: dict[str, Any], method: str, event: dict[str, Any]
) -> dict[str, Any]:
    """A task's second half."""
    context = _context(ti)
    returned = getattr(_operator(operator, arguments), method)(context, event=event)
    return {"returned": returned, "xcom": context["ti"].xcom}


def has(path: str) -> bool:
    """Whether there is such a trigger."""
    try:
        import_string(path)
    except ImportError:
        return False
    return True


def takes(path: str) -> dict[str, list[str]]:
    """The arguments of a trigger: those that it demands, and those that it can do without."""
    parameters = inspect.signature(import_string(path)).parameters.values()
    named = [one for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    return {
        "demanded": sorted(one.name for one in named if one.default is one.empty),
        "optional": sorted(one.name for one in named if one.default is not one.empty),
    }


def connection(extra: dict[str, Any]) -> dict[str, Any]:
    """A connection's fields as they are read."""
    return dict(import_module("airflow_brayns.settings").ClusterSettings.read(extra).model_dump(mode="json"))


def form() -> dict[str, Any]:
    """What the connection's form saves when nothing is typed in: every field, with its default or nothing."""
    [kind] = import_module("airflow_brayns.provider").get_provider_info()["connection-types"]
    return {name: field["schema"].get("default") for name, field in kind["conn-fields"].items()}


def _operator(name: str, arguments: dict[str, Any]) -> Any:
    return getattr(import_module("airflow_brayns"), name)(task_id="task", **arguments)


def _context(told: dict[str, Any]) -> dict[str, Any]:
    ti = Ti()
    for name, value in told.items():
        setattr(ti, name, value)
    return {"ti": ti}


def main() -> None:
    """One act after the other, each with the environment that it is to have."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what is printed on the way is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        os.environ.update(asked["environment"])
        try:
            told = {"told": globals()[asked["act"]](**asked["arguments"])}
        except Exception:
            told = {"raised": traceback.format_exc()}
        answers.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
