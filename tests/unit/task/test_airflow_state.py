from __future__ import annotations

import pytest
from airflow.sdk.execution_time.comms import DagRunStateResult

from airflow_brayns.cluster.orphans import OVER
from airflow_brayns.task.airflow_state import run_state

TASK = "airflow_brayns.task.airflow_state.RuntimeTaskInstance"


@pytest.mark.parametrize("state", ["failed", "success", "running"])
def test_the_state_of_a_run_is_its_word(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """As the supervisor answers it: an enumeration of another text, by which no run was ever over for the reaper."""
    answer = DagRunStateResult.model_validate({"state": state}).state
    monkeypatch.setattr(f"{TASK}.get_dr_count", lambda **_: 1)
    monkeypatch.setattr(f"{TASK}.get_dagrun_state", lambda **_: answer)
    assert run_state("dag", "run") == state
    assert (run_state("dag", "run") in OVER) == (state != "running")


def test_a_run_that_was_deleted_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{TASK}.get_dr_count", lambda **_: 0)
    assert run_state("dag", "run") is None
