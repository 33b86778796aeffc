"""Templates."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from tests.fuzz.bench import Bench


# ---- templates --------------------------------------------------------------------------------------------------------
def templates(bench: Bench, rng: Random, values: Sequence[str]) -> int:
    """What a template brings in is data: it is not rendered again, and trusted code is not rendered at all."""
    from airflow_brayns.operators.movie import RenderFramesOperator
    from airflow_brayns.task.movie_fields import read_specification

    ran: list[int] = []
    context: Any = {"canary": lambda: ran.append(1), "ab_canary": "", "ti": None}
    for value in values:
        hostile = f"{value}{{{{ canary() }}}}"
        context["params"] = {"value": hostile}
        operator = RenderFramesOperator(
            task_id="x", frames_dir="{{ params.value }}", specification={"models": [{"path": "{{ params.value }}"}]},
            account="{{ params.value }}", environment={"A": "{{ params.value }}"}, sbatch_options=["{{ params.value }}"],
            setup=hostile, container=hostile, scheduler="local",
        )  # fmt: skip
        operator.render_template_fields(context)
        seen = (
            operator.frames_dir, operator.account, operator.environment["A"], operator.sbatch_options[0], operator.setup, operator.container,
            operator.specification["models"][0]["path"],
        )  # fmt: skip
        bench.tally.check(seen == (hostile,) * 7, f"{value[:200]!r} was rendered again: {seen!r:.300}")
        found = bench.accepted(
            "models.0.path", lambda operator=operator: read_specification(operator, operator.specification, context), "models.0", "frames"
        )  # fmt: skip
        bench.tally.check(found is None, "a specification without frames")
        bench.tally.executed += len(ran)
        ran.clear()
    return 7 * len(values)
