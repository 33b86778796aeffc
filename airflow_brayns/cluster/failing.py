"""Failing nodes: those on which services failed in several jobs within a day, while others did well with the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from airflow_brayns.cluster.answers import decode, whole
from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors.plain import one_line, visible

_LONGEST_WHY = 300


@dataclass(frozen=True)
class Failure:
    """A service that is of no use, and has not ended; of those that end, their keeper knows.

    :param kind: what it is compared with: `start`, others that were started with the same; `ready`, the same, but it may
        only be out of reach; `run`, others that render the same.
    :param why: for people.
    """

    service: str
    kind: Literal["start", "ready", "run"]
    why: str

    def words(self, name: str, incarnation: int) -> str:
        """The call of services.sh that notes it."""
        return f"useless {name} {int(incarnation)} {self.service} {self.kind} {quote(one_line(self.why, _LONGEST_WHY))}"


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
