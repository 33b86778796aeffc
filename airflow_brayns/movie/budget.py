"""The budget of a movie: node-hours after which no further frame is begun."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_brayns.errors import BudgetSpent
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.used import Used, hours_text


def budget_spent(budget: float, used: Used, left: tuple[Sequence[int], Plan] | None) -> BudgetSpent:
    """The error that says what was used, which frames are missing, and how to go on.

    :param budget: the budget in node-hours.
    :param used: what all tries of the movie have used.
    :param left: the pictures that are missing, and their plan; None where that is not known, since no scene was
        loaded.
    """
    told = "no scene was loaded, so nothing is known of its frames"
    if left is not None:
        missing, plan = left
        told = f"{len(missing)} of {len(plan.pictures)} {plan.noun} are missing ({plan.listed(missing)})"
    return BudgetSpent(
        f"the {budget:g} node-hours are spent: {told}. The movie has used {used.text()}.",
        remedy=f"clear the task with a larger one, more than {hours_text(used.node_hours)}: it goes on from the frames that are there, and "
        "counts what was used.",
        field="budget",
        used=used.node_hours,
        missing=None if left is None else len(left[0]),
    )
