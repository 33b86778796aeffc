"""A dozen rows of the fault table (`make faults` runs all): nothing left behind, nothing doubled, ends and words as told."""

from __future__ import annotations

import pytest

from tests.system.faults.__main__ import DOZEN, chosen, run
from tests.system.faults.bench import bench
from tests.system.faults.report import last_line, line

pytestmark = pytest.mark.slurm


def test_a_dozen_faults() -> None:
    """Nothing left and nothing doubled, ever. What ends or reads otherwise is looked at once more: on a busy machine Airflow 3.3.2 itself
    fails tasks that resume soon after their deferral, before they can say why."""
    with bench() as one:
        outcomes = run(one, chosen(DOZEN), jobs=12)
        again = [outcome.name for outcome in outcomes if outcome.wrong]
        repeated = run(one, chosen(again), jobs=12) if again else []
    table = "\n".join(line(outcome) for outcome in [*outcomes, *repeated])
    assert not any(outcome.left or outcome.doubled for outcome in outcomes), f"\n{table}"
    assert len(outcomes) >= len(DOZEN)
    assert last_line(repeated).endswith("0 left behind, 0 doubled, 0 wrong"), f"\n{table}"
