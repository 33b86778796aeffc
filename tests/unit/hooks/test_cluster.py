"""A connection as the hook reads it: what it says, what is not there, and what this machine does without one."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ConnectionResult, ErrorResponse, GetConnection
from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.hooks.cluster import BraynsClusterHook, make_cluster
from airflow_brayns.services.settings import ClusterSettings


@pytest.mark.parametrize("of", ["cluster", "ssh"])
@pytest.mark.parametrize(
    ("answer", "backend", "retry"),
    [
        (ErrorType.CONNECTION_NOT_FOUND, "", False),
        (ErrorType.API_SERVER_ERROR, "", True),
        (ErrorType.GENERIC_ERROR, "", True),
        (None, "", True),
        (ErrorType.CONNECTION_NOT_FOUND, "airflow.secrets.local_filesystem.LocalFilesystemBackend", True),
    ],
)
def test_a_connection_that_is_not_there_is_final_only_where_airflow_says_so(
    monkeypatch: pytest.MonkeyPatch, answer: ErrorType | None, backend: str, retry: bool, of: str
) -> None:
    def send(question: object) -> ErrorResponse:
        if answer is None:
            raise OSError("no answer")
        return ErrorResponse(error=answer)

    def nothing(*_: object) -> None:
        raise AirflowNotFoundException("isn't defined")

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)
    if backend:
        monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", backend)
    hook = BraynsClusterHook("wrong")
    monkeypatch.setattr(hook, "get_connection", nothing)
    if of == "ssh":
        hook.settings = ClusterSettings.read({"ssh_conn_id": "wrong"})

    def use() -> None:
        hook.prepare()
        asyncio.run(make_cluster(hook.settings, hook._login).shell.run("true", 5))

    with pytest.raises(InvalidSetting, match="no connection 'wrong'") as told:
        use()
    assert told.value.retry is retry


@pytest.mark.parametrize("asks", ["worker", "loop"])
@pytest.mark.parametrize("answer", [None, *ErrorType, "defined"])
def test_the_default_is_this_machine_only_where_airflow_says_that_it_is_not_defined(
    monkeypatch: pytest.MonkeyPatch, answer: ErrorType | str | None, asks: str
) -> None:
    """With an API server that did not answer once, a movie was rendered by the worker's emulator, and green."""

    def send(question: GetConnection) -> ErrorResponse | ConnectionResult:
        if isinstance(answer, ErrorType):
            return ErrorResponse(error=answer)
        if answer is None:
            raise OSError("no answer")
        return ConnectionResult(
            conn_id=question.conn_id, conn_type="brayns_cluster", host=None, login=None, password=None, schema=None, port=None, extra="{}"
        )  # fmt: skip

    def nothing(*_: object) -> None:
        raise AirflowNotFoundException("isn't defined")

    async def nothing_in_loop(*_: object) -> None:
        nothing()

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send, asend=None), raising=False)
    hook = BraynsClusterHook(quiet=True)
    monkeypatch.setattr(hook, "get_connection", nothing)
    monkeypatch.setattr(hook, "aget_connection", nothing_in_loop)

    def settings() -> ClusterSettings:
        return hook.settings if asks == "worker" else asyncio.run(hook.asettings())

    if answer is ErrorType.CONNECTION_NOT_FOUND:
        assert settings().scheduler == "local"
        return
    with pytest.raises(InvalidSetting, match="does not say whether 'brayns_default' is defined") as told:
        settings()
    assert told.value.retry


async def test_a_trigger_that_a_dag_test_runs_knows_the_connections_of_its_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It took `brayns_default` for undefined, so a session looked for its folder on this machine, and had lost it."""
    extra = json.dumps({"scheduler": "slurm", "ssh_conn_id": "site_login", "account": "proj3"})
    rest = {"password": None, "schema": None, "port": None}
    known = {
        "brayns_default": {"conn_type": "brayns_cluster", "host": None, "login": None, "extra": extra, **rest},
        "site_login": {"conn_type": "ssh", "host": "login.example.org", "login": "jane", "extra": None, **rest},
    }
    in_process = InProcessSupervisorComms(supervisor=SimpleNamespace())  # type: ignore[arg-type]

    def answer(question: GetConnection, *_: object) -> None:
        in_process.messages.append(ConnectionResult(conn_id=question.conn_id, **known[question.conn_id]))

    in_process.supervisor._handle_request = answer  # type: ignore[method-assign, assignment]
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", in_process, raising=False)
    hook = BraynsClusterHook(quiet=True)
    settings = await hook.asettings()
    assert (settings.scheduler, settings.account, hook.embedded) == ("slurm", "proj3", "")
    assert hook.login("site_login").host == "login.example.org"


@pytest.mark.parametrize("extra", ["no JSON", "[1]", '"text"', "7"])
def test_an_extra_that_is_no_object_is_refused(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HERE", json.dumps({"conn_type": "brayns_cluster", "extra": extra}))
    with pytest.raises(
        InvalidSetting, match=r"^extra: write a JSON object .*\n.*that of the connection 'here' is none"
    ):
        _ = BraynsClusterHook("here").settings


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        ({"scheduler": "local"}, "brayns-emulator"),
        ({"scheduler": "local", "executable": None}, "brayns-emulator"),
        ({"scheduler": "local", "executable": "mine"}, "mine"),
        ({"scheduler": "local", "setup": "module load brayns"}, "braynsService"),
        ({"scheduler": "slurm"}, "braynsService"),
    ],
)
def test_this_machine_without_an_executable_has_that_of_the_default(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, str | None], found: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HERE", json.dumps({"conn_type": "brayns_cluster", "extra": extra}))
    assert BraynsClusterHook("here").settings.executable.rpartition("/")[2] == found


async def test_what_asks_as_in_0_2_0_shares_the_poller_and_is_told_what_it_is_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_HERE", json.dumps({"conn_type": "brayns_cluster", "extra": {"scheduler": "local"}})
    )
    hook = BraynsClusterHook("here")
    settings = await hook.asettings()
    async with hook.session() as session:
        with pytest.warns(DeprecationWarning, match=r"use session\(\)") as told:
            async with hook.connect(settings) as poller:
                assert poller is session.poller
    assert told[0].filename == __file__
