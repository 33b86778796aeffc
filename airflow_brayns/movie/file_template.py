"""Templates in a specification's file, rendered in a process of their own, since a file's text is not the word of the
DAG's author.

Whoever may trigger a DAG may name a file of their own. Its text gets plain values, Jinja's sandbox, a limit on memory
and time, and a process that has no environment and knows nothing of Airflow: there is nothing to be had by it. That
process reads this module as its program, which needs nothing but Jinja, and that comes with Airflow.
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
    """Limit this process, so that a loop which never ends, or a text which grows for ever, ends it and nothing else."""
    for what, most in ((resource.RLIMIT_CPU, _CPU_SECONDS), (resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # some systems know no such limit
            resource.setrlimit(what, (most, most))


def read_time(value: dict[str, Any]) -> Any:
    """Read a time from the mapping that it travels as; another mapping is returned as it is."""
    return datetime.fromisoformat(value[TIME]) if set(value) == {TIME} else value


def render(text: str, values: dict[str, Any]) -> str:
    """Fill in the templates of a text.

    :raises jinja2.TemplateError: a template is wrong; the error says how.
    """
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    for name in ("lipsum", "cycler", "joiner"):
        del environment.globals[name]
    environment.filters.update(  # these are Airflow's, so that a text may move between a DAG and a file
        ds=lambda time: time.strftime("%Y-%m-%d"),
        ds_nodash=lambda time: time.strftime("%Y%m%d"),
        ts=lambda time: time.isoformat(),
        ts_nodash=lambda time: time.strftime("%Y%m%dT%H%M%S"),
        ts_nodash_with_tz=lambda time: time.isoformat().replace("-", "").replace(":", ""),
    )
    code = environment.compile(text, _NAME, _NAME)
    return environment.template_class.from_code(environment, code, environment.make_globals(values)).render()


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Answer a question: `text`, or `error` with its `line`.

    :param asked: `text` with templates, and the `values` for them.
    """
    try:
        text = render(asked["text"], asked["values"])
        if len(text) > _LONGEST:
            return {"error": f"becomes longer than {_LONGEST:,} characters", "line": None}
        return {"text": text}
    except MemoryError:
        return {"error": "needs too much memory", "line": None}
    except Exception as error:  # a template can raise anything
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _NAME]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        return {"error": (str(error) or type(error).__name__)[:300], "line": line}


def main() -> None:
    """Read one question from stdin and write its answer to stdout, both as JSON."""
    limit()
    json.dump(answer(json.load(sys.stdin, object_hook=read_time)), sys.stdout)


if __name__ == "__main__":
    main()
