"""A text that is a template, rendered in a process of its own: what is written in a file is not its DAG's author's word.

Who may trigger a DAG may name a file of his own. Its text gets plain values, Jinja's sandbox, a limit on memory and time, and a
process that has no environment and knows nothing of Airflow: there is nothing to be had by it.
Read by a process as a program; it needs nothing but Jinja, which comes with Airflow.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import traceback
from datetime import datetime
from typing import Any

TIME = "__time__"  # a mapping with this key is a time
_NAME = "<file>"
_CPU_SECONDS = 5
_MEMORY = 1 << 30
_LONGEST = 20_000_000


def limit() -> None:
    """A loop that never ends, or a text that grows for ever, ends the process; nothing else."""
    for what, most in ((resource.RLIMIT_CPU, _CPU_SECONDS), (resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # some systems know no such limit
            resource.setrlimit(what, (most, most))


def read_time(value: dict[str, Any]) -> Any:
    """Times travel as text."""
    return datetime.fromisoformat(value[TIME]) if set(value) == {TIME} else value


def render(text: str, values: dict[str, Any]) -> str:
    """The text with its templates filled in.

    :raises jinja2.TemplateError: naming what is wrong.
    """
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    for name in ("lipsum", "cycler", "joiner"):
        del environment.globals[name]
    environment.filters.update(  # as Airflow's, so that a text may move between a DAG and a file
        ds=lambda time: time.strftime("%Y-%m-%d"),
        ds_nodash=lambda time: time.strftime("%Y%m%d"),
        ts=lambda time: time.isoformat(),
        ts_nodash=lambda time: time.strftime("%Y%m%dT%H%M%S"),
        ts_nodash_with_tz=lambda time: time.isoformat().replace("-", "").replace(":", ""),
    )
    code = environment.compile(text, _NAME, _NAME)
    return environment.template_class.from_code(environment, code, environment.make_globals(values)).render()


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """What is told: `text`, or `error` with its `line`."""
    try:
        text = render(asked["text"], asked["values"])
        if len(text) > _LONGEST:
            return {"error": f"becomes longer than {_LONGEST:,} characters", "line": None}
        return {"text": text}
    except MemoryError:
        return {"error": "needs too much memory", "line": None}
    except Exception as error:  # whatever a template can raise
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _NAME]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        return {"error": (str(error) or type(error).__name__)[:300], "line": line}


def main() -> None:
    """One question on stdin, one answer on stdout, both JSON."""
    limit()
    json.dump(answer(json.load(sys.stdin, object_hook=read_time)), sys.stdout)


if __name__ == "__main__":
    main()
