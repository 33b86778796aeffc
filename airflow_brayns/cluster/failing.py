"""Failing nodes: those on which services failed in several jobs within a day, while others did well with the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_brayns.cluster.answers import decode, whole
from airflow_brayns.errors.plain import one_line, visible

_LONGEST_WHY = 300


@dataclass(frozen=True)
class FailingNode:
    """A node on which services fail.

    :param jobs: in how many jobs of the last day one failed there.
    :param why: what became of one of them, in the words of its wrapper or keeper.
    """

    node: str
    jobs: int
    why: str

    def __str__(self) -> str:
        return f"{self.node}: services failed there in {self.jobs} jobs within a day, such as: {self.why}"


def read_failing(told: Iterable[tuple[str, list[str]]]) -> list[FailingNode]:
    """Read what `failing` in failing.sh prints."""
    found = []
    for word, fields in told:
        match word, fields:
            case "failing", [node, jobs, why] if number := whole(jobs):
                found.append(FailingNode(visible(node)[:253], number, one_line(decode(why), _LONGEST_WHY)))
    return found
