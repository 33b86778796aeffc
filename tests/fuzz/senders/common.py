"""What senders share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from airflow_brayns.cluster.shell import quote
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.specification import MovieSpecification
from tests.fuzz.bench import Bench

NAME = "ab-0123456789ab000"
Sender = Callable[[Bench, Random, Sequence[str]], int]


class Quoting:
    """How values are quoted, so that the self-test can take the quotes away."""

    quote = staticmethod(quote)


# ---- frames and movies on the cluster ---------------------------------------------------------------------------------
def a_specification(**changes: Any) -> MovieSpecification:
    """A movie of three frames."""
    values: dict[str, Any] = {"models": [{"path": "/data/cube.obj"}], "resolution": [96, 64], "frames": 3}
    return MovieSpecification.check({**values, **changes})


def a_plan(specification: MovieSpecification | None = None) -> Plan:
    """Its frames."""
    spec = specification or a_specification()
    facts = SceneFacts.read({"min": [0, 0, 0], "max": [1, 1, 1]}, {})
    return Plan(spec, facts, scene_hash(spec))
