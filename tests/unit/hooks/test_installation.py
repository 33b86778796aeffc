"""An Airflow's mark: made once per database, agreed on by all first tasks, and told apart where two have the same."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Variable
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, OKResponse, PutVariable

from airflow_brayns.errors import ConnectionLost
from airflow_brayns.hooks.installation import (
    CANDIDATE,
    VARIABLE,
    _InCommand,
    _variables,
    deployment,
    installation_id,
    made_of_shared_key,
    settle,
)


class Database:
    """Variables as tasks see them: who writes last wins."""

    def __init__(self, **kept: str) -> None:
        self.kept = dict(kept)

    def get(self, key: str) -> str | None:
        return self.kept.get(key)

    def put(self, key: str, value: str) -> None:
        self.kept[key] = value


class Together(Database):
    """All look before anybody has written."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self._barrier = threading.Barrier(tasks)
        self._seen = threading.local()

    def get(self, key: str) -> str | None:
        found = super().get(key)
        if key == CANDIDATE and not hasattr(self._seen, "once"):
            self._seen.once = True
            self._barrier.wait(10)
        return found


@pytest.mark.parametrize("answer", [None, *ErrorType])
def test_a_mark_that_airflow_does_not_tell_is_not_written_over(
    monkeypatch: pytest.MonkeyPatch, answer: ErrorType | None
) -> None:
    """An API server that does not answer looks as if there were no mark: all that this Airflow has asked for would be another's."""
    kept: dict[str, str] = {}

    def send(question: Any) -> ErrorResponse | OKResponse:
        if isinstance(question, PutVariable):
            kept[question.key] = str(question.value)
            return OKResponse(ok=True)
        if answer is None:
            raise OSError("no answer")
        return ErrorResponse(error=answer)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)
    monkeypatch.setattr(Variable, "get", lambda key, default: kept.get(key, default))
    if answer is ErrorType.VARIABLE_NOT_FOUND:
        assert len(settle(_variables(), 0)) == 32
        assert VARIABLE in kept
        return
    with pytest.raises(ConnectionLost, match="does not say whether the Variable brayns_installation_id is there"):
        settle(_variables(), 0)
    assert not kept


def test_two_databases_with_one_fernet_key_have_two_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "shared")
    one, other = Database(), Database()
    assert settle(one, 0) != settle(other, 0)
    assert settle(one, 0) == settle(one, 0)
    assert not made_of_shared_key(settle(one, 0))


@pytest.mark.parametrize("tasks", [2, 8])
def test_first_tasks_at_the_very_same_moment_agree(tasks: int) -> None:
    database, marks = Together(tasks), list[str]()
    threads = [threading.Thread(target=lambda: marks.append(settle(database, 0.5))) for _ in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(marks) == tasks
    assert set(marks) == {database.kept[VARIABLE]}


def test_the_mark_of_0_2_0_is_kept_and_known_for_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "shared")
    old = uuid.uuid5(uuid.NAMESPACE_OID, "shared").hex
    assert settle(Database(**{VARIABLE: old}), 0) == old
    assert made_of_shared_key(old)


def test_what_is_configured_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__BRAYNS__INSTALLATION_ID", "mine")
    assert installation_id() == "mine"


def test_outside_a_task_the_database_is_written_itself() -> None:
    """`Variable.set` needs a supervisor; `airflow brayns reap` on a new Airflow ended in a traceback."""
    assert isinstance(_variables(), _InCommand)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in ("AIRFLOW__API__BASE_URL", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.gethostname", lambda: "machine")
    return monkeypatch


def test_a_clone_is_told_by_where_its_api_server_is(place: pytest.MonkeyPatch) -> None:
    place.setenv("AIRFLOW__API__BASE_URL", "https://user:secret@prod.example.org:8443/")
    production = deployment()
    assert production.startswith("prod.example.org:8443-")
    assert "secret" not in production
    assert deployment() == production
    place.setenv("AIRFLOW_HOME", "/elsewhere")
    assert deployment() == production, "workers of one Airflow have homes of their own"
    place.setenv("AIRFLOW__API__BASE_URL", "https://staging.example.org")
    assert deployment() != production


def test_two_airflows_of_one_machine_are_told_by_their_homes(place: pytest.MonkeyPatch) -> None:
    place.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://localhost:8080/execution/")
    place.setenv("AIRFLOW_HOME", "/one")
    one = deployment()
    place.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://localhost:8081/execution/")
    assert deployment() == one
    place.setenv("AIRFLOW_HOME", "/other")
    assert deployment() != one
    json.dumps(one)


@pytest.mark.parametrize(
    "url",
    [
        "http://airflow-apiserver:8080/execution/", "http://airflow-api.airflow.svc:8080", "http://host.docker.internal:8080",
        "http://api.airflow.svc.cluster.local:8080/execution/", "http://Airflow-Apiserver.:8080",
    ],
)  # fmt: skip
def test_a_name_of_a_network_of_containers_tells_nothing(place: pytest.MonkeyPatch, url: str) -> None:
    """It is the same in two namespaces, or two projects of compose, as in a clone's."""
    place.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", url)
    assert deployment() == ""
    place.setenv("AIRFLOW__API__BASE_URL", "https://viz.example.org")
    assert deployment().startswith("viz.example.org-")
    place.setenv("AIRFLOW__API__BASE_URL", "http://10.0.0.7:8080")
    assert deployment().startswith("10.0.0.7:8080-")


def test_a_containers_name_tells_nothing(place: pytest.MonkeyPatch) -> None:
    """The next container of the same Airflow has another one, and must give back what this one asked for."""
    assert deployment().startswith("machine-")
    place.setattr("socket.gethostname", lambda: "3f2b8c0d1e4a")
    assert deployment() == ""
    place.setattr("socket.gethostname", lambda: "airflow-scheduler-0")
    place.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert deployment() == ""


def test_what_somebody_calls_this_airflow_is_what_it_is(place: pytest.MonkeyPatch) -> None:
    place.setenv("AIRFLOW__API__BASE_URL", "https://viz.example.org")
    place.setenv("AIRFLOW__BRAYNS__DEPLOYMENT", "staging of ours")
    assert deployment() == "staging_of_ours"
