from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.comms import DagRunStateResult

from airflow_brayns.reaper import OVER
from airflow_brayns.task_state import run_state, supervisor_has_gone

TASK = "airflow_brayns.task_state.RuntimeTaskInstance"


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


def test_whether_the_supervisor_lives_is_told_by_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def comms(one: Any) -> None:
        monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", one, raising=False)

    comms(SimpleNamespace())
    assert not supervisor_has_gone(), "in `airflow dags test` there is none"
    ours, theirs = socket.socketpair()
    comms(SimpleNamespace(socket=ours))
    assert not supervisor_has_gone()
    theirs.send(b"answer")
    assert not supervisor_has_gone()
    assert ours.recv(6) == b"answer", "nothing is taken away from whoever reads it"
    theirs.close()
    assert supervisor_has_gone()
    ours.close()
    assert supervisor_has_gone()
