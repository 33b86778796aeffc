"""Values that the text of a specification's file may use in its templates, and its rendering with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import date, datetime
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie import file_template

# The entries of the task's context that a file may use: plain values and times, nothing that leads to connections,
# variables or XCom.
_TEXTS = ("ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz", "run_id")
_TIMES = ("logical_date", "data_interval_start", "data_interval_end")
_OF_THE_RUN = ("dag_id", "run_id", "run_type", "conf", "run_after", *_TIMES)
_OF_THE_TASK = ("dag_id", "run_id", "task_id", "map_index", "try_number")
NAMES = ("params", *_TEXTS, *_TIMES, "dag_run", "dag_id", "task_id", "map_index", "try_number")
_SECONDS = 60.0  # the time-out of a rendering on a machine that stands still; its processor time has a limit of its own
_MARKS = ("{{", "{%", "{#")


def file_values(context: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The values that a file's text is rendered with, as plain JSON: those of `NAMES` that the run has, and the
    author's.

    :param context: the task's context.
    :param more: the values that the DAG's author gives besides (`template_values`).
    :raises InvalidSetting: `template_values` holds something that is no plain value.
    """
    found: dict[str, Any] = {name: context[name] for name in (*_TEXTS, *_TIMES) if context.get(name) is not None}
    found["params"] = dict(context.get("params") or {})
    if (run := context.get("dag_run")) is not None:
        found["dag_run"] = {name: getattr(run, name, None) for name in _OF_THE_RUN}
    if (ti := context.get("ti")) is not None:
        found = {**{name: getattr(ti, name, None) for name in _OF_THE_TASK}, **found}
    values = json.loads(json.dumps(found, default=partial(_plain, "params")))
    given = json.dumps(dict(more or {}), default=partial(_plain, "template_values"))
    return {**values, **json.loads(given)}


def _plain(field: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return {file_template.TIME: value.isoformat()}
    if isinstance(value, date | PurePath):
        return str(value)
    if isinstance(value, str):  # a member of an enumeration of texts
        return str.__str__(value)
    raise InvalidSetting(
        field, f"a file's text takes plain values only, not {type(value).__name__}", remedy="give plain values only."
    )


def render_file(text: str, values: Mapping[str, Any], name: str) -> str:
    """Fill in the templates of a file's text, see `movie.file_template`.

    :param name: the file's name, for errors.
    :raises InvalidSetting: a template cannot be rendered; the error names the line, and what may be used.
    """
    if not any(mark in text for mark in _MARKS):
        return text
    asked = json.dumps({"text": text, "values": dict(values)})
    command = [sys.executable, "-P", "-s", file_template.__file__]
    environment = {"PYTHONPATH": os.pathsep.join(one for one in sys.path if one), "PYTHONUTF8": "1"}
    try:
        done = subprocess.run(
            command, input=asked, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=_SECONDS,
            cwd="/", check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _endless(name) from None
    if done.returncode < 0:
        raise _endless(name)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise InvalidSetting(
            "specification", f"{name} could not be rendered: {last[0][:300]}", remedy="correct the file's templates."
        ) from None
    if "text" in told:
        return str(told["text"])
    where = f"{name} line {told['line']}" if told["line"] else name
    more = sorted(set(values) - set(NAMES))
    raise InvalidSetting(
        where,
        f"{told['error']}.",
        remedy=f"use {', '.join([*NAMES, *more])}; a DAG's author gives a file more by `template_values`.",
    )


def _endless(name: str) -> InvalidSetting:
    return InvalidSetting(
        "specification", f"{name}: its templates do not come to an end.", remedy="write them shorter."
    )


def values_for(context: Mapping[str, Any] | None, more: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values that the functions of a file of Python may be given: the run's params, and the author's, which win.

    :raises InvalidSetting: one of them is no plain value.
    """
    found = file_values({"params": (context or {}).get("params") or {}}, {"template_values": dict(more or {})})
    return {**found["params"], **found["template_values"]}


def renderer_of(path: Path, context: Mapping[str, Any] | None, more: Mapping[str, Any] | None) -> Any:
    """The function by which `MovieSpecification.read_file` renders a file's text; None to take the text as it is."""
    if context is None:
        return None
    return lambda text: render_file(text, file_values(context, more), path.name)
