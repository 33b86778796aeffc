"""Parts: what came of each, kept line by line, so that the whole can be done bit by bit."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOREIGN, GAPS, NEVER, LEFT, DOUBLED = "foreign endpoint", "movie with gaps", "never ended", "left behind", "doubled"
WRONG = (FOREIGN, GAPS, NEVER)


@dataclass
class Finding:
    """Something that must not be.

    :param at: seconds since the part began.
    :param kills: the last ones before it.
    :param logs: where everything of the run is kept.
    """

    kind: str
    seed: int
    at: float
    run_id: str
    text: str
    kills: list[str]
    logs: str


@dataclass
class Part:
    """So many runs of one seed.

    :param ended_by_itself: parts of Airflow that had to be started again without having been killed.
    :param taken: endpoints whose service was killed after the hand-over, and whose port then was another's.
    :param reaped: what was there 20 s after the idle limit, so that the reaper was called.
    :param clean: seconds from a run's end until nothing of it was left.
    """

    seed: int
    when: str
    ended: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    ended_by_itself: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    minutes: float = 0.0
    at_once: list[int] = field(default_factory=list)
    endpoints: int = 0
    movies: int = 0
    taken: int = 0
    reaped: list[str] = field(default_factory=list)
    clean: dict[str, float] = field(default_factory=dict)
    interrupted: str = ""

    @property
    def rows(self) -> int:
        return sum(self.ended.values())

    def line(self) -> str:
        """As it is kept."""
        counted = {kind: sum(one.kind == kind for one in self.findings) for kind in (LEFT, DOUBLED, *WRONG)}
        return (
            json.dumps(
                {**vars(self), "findings": list(map(asdict, self.findings)), "rows": self.rows, "counted": counted}
            )
            + "\n"
        )


def keep(part: Part, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(part.line())


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def numbers(parts: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    """Rows, left behind, doubled, wrong, over all parts."""
    counted: Counter[str] = Counter()
    for part in parts:
        counted.update(part["counted"])
    return sum(part["rows"] for part in parts), counted[LEFT], counted[DOUBLED], sum(counted[kind] for kind in WRONG)


def summary(parts: list[dict[str, Any]]) -> str:
    """All parts: kills by kind, ends, findings, and the last line."""
    kills: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for part in parts:
        kills.update(part["kills"])
        ends.update(part["ended"])
    lines = [f"{len(parts)} part(s), {sum(part['minutes'] for part in parts):.0f} minutes"]
    lines.append("runs: " + ", ".join(f"{number} {state}" for state, number in ends.most_common()))
    lines.append(
        f"checked: {sum(part['endpoints'] for part in parts)} endpoints, {sum(part['movies'] for part in parts)} movies; "
        f"ports that another service got after its own was killed: {sum(part['taken'] for part in parts)}"
    )
    lines.append(
        f"{sum(kills.values())} kills: " + ", ".join(f"{number} {kind}" for kind, number in kills.most_common())
    )
    for part in parts:
        lines += [f"the reaper was called: seed {part['seed']}, {text}" for text in part["reaped"]]
        for one in part["findings"]:
            lines.append(f"{one['kind']}: seed {one['seed']} at {one['at']:.0f} s, {one['run_id']}: {one['text']}")
            lines += [f"    after {kill}" for kill in one["kills"][-6:]]
    rows, left, doubled, wrong = numbers(parts)
    lines.append(f"{rows} rows, {left} left behind, {doubled} doubled, {wrong} wrong")
    return "\n".join(lines)
