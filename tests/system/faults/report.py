"""What the table looks like."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.cluster import REPO
from tests.system.faults.table import Outcome

RESULTS = REPO / "build" / "faults.json"
HEAD = f"{'fault / stage':44} {'task/run: expected':24} {'got':22} {'jobs':>6} {'alive':>5} {'left':>4} {'by':>5} {'clean':>7} reads"


def line(one: Outcome) -> str:
    """One row; `jobs`: ever submitted; `alive`: at once at most; `left`: jobs and processes after `by` seconds."""
    clean = "never" if one.clean_after is None else f"{one.clean_after:.1f} s"
    least, most = one.allowed
    allowed = f"/{least}" if least == most else f"/{least}-{most}"
    reads = f"{'ok' if one.read else 'MISSING'}: {one.reads}"
    verdict = " ".join(
        word for word, holds in (("WRONG", one.wrong), ("LEFT", bool(one.left)), ("DOUBLED", one.doubled)) if holds
    )
    text = f"{one.name:44} {one.expected:24} {one.got:22} {f'{one.jobs}{allowed}':>6} {one.alive:5} {len(one.left):4} {one.deadline:5.0f} {clean:>7} {reads}"
    return f"{text} {verdict} {one.trouble}".rstrip() + "".join(f"\n    left: {what}" for what in one.left)


def last_line(outcomes: list[Outcome]) -> str:
    left, doubled, wrong = (
        sum(map(bool, column))
        for column in (
            [one.left for one in outcomes],
            [one.doubled for one in outcomes],
            [one.wrong for one in outcomes],
        )
    )
    return f"{len(outcomes)} rows, {left} left behind, {doubled} doubled, {wrong} wrong"


def known(path: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """How each row came out when it was last run."""
    return {one["name"]: one for one in json.loads(path.read_text())} if path.exists() else {}


def compared(outcomes: list[Outcome], before: dict[str, dict[str, Any]]) -> str:
    """Whether the same rows ended the same: end states, what was left, what was alive at once, right or wrong."""
    again = [(one, before[one.name]) for one in outcomes if one.name in before]
    other = [
        f"{one.name}: {old['got']} before, {one.got} now" if old["got"] != one.got else f"{one.name}: not as before"
        for one, old in again
        if (one.got, len(one.left), one.doubled, one.wrong)
        != (old["got"], len(old["left"]), old["doubled"], old["wrong"])
    ]
    return "\n".join([f"{len(again) - len(other)} of {len(again)} rows ended as in the run before", *other])


def keep(outcomes: list[Outcome], path: Path = RESULTS) -> None:
    """Into `build/faults.json`, in the place of what was known of the same rows."""
    rows = known(path)
    for one in outcomes:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        rows[one.name] = {"name": one.name, **asdict(one), "wrong": one.wrong, "doubled": one.doubled, "when": when}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(list(rows.values()), indent=1) + "\n")
