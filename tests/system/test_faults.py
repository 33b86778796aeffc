"""A dozen rows of the fault table (`make faults` runs all): nothing left behind, nothing doubled, ends and words as told."""

from __future__ import annotations

import pytest

from tests.system.faults.__main__ import DOZEN, chosen, run
from tests.system.faults.bench import bench
from tests.system.faults.report import last_line, line

pytestmark = pytest.mark.slurm


def test_a_dozen_faults() -> None:
    with bench() as one:
        outcomes = run(one, chosen(DOZEN), jobs=12)
    table = "\n".join(line(outcome) for outcome in outcomes)
    assert last_line(outcomes) == f"{len(DOZEN) + 1} rows, 0 left behind, 0 doubled, 0 wrong", f"\n{table}"
