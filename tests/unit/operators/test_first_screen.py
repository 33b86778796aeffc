"""The first screen of a failed task, 20 lines of 120 characters, says what to do and what happened: the fourteen commonest faults."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from airflow.sdk.exceptions import AirflowException, TaskDeferred

from airflow_brayns import BraynsMovieOperator, BraynsServiceOperator, ReleaseNodesOperator
from airflow_brayns.services import stream
from tests.support.task import run_trigger

pytestmark = [pytest.mark.slow, pytest.mark.in_lines]

LINES, WIDTH = 20, 120
# The page opens at the log's end (3.3.2, seen): of 25 lines at 1280 x 800, one is Airflow's last and eight are the traceback's.
SEEN_ABOVE, FRAMES = 16, 8
_OF_AIRFLOW = 5  # frames of its task runner, which a test has not
_LOGGED = re.compile(r"^\S+ \[(?:info|warning|error) *\] (.*?) +\[airflow\S*\] loc=\S+$")
LMOD = "module() { echo 'Lmod has detected the following error: The following module(s) are unknown: brayns' >&2; return 1; }"


@dataclass
class Fault:
    """A fault of a task.

    :param remedy, happened: what the screen says, as patterns, and in that order.
    :param given: the operator's arguments.
    :param movie: what of a movie's specification is wrong; None for a task that starts a service.
    :param sbatch: what a Slurm cluster's sbatch refuses a job with; empty where it takes it and the job waits; None for the
        local cluster.
    """

    remedy: str
    happened: str
    given: dict[str, Any] = field(default_factory=dict)
    movie: dict[str, Any] | None = None
    sbatch: str | None = None


FAULTS = {
    "no connection": Fault("make a connection", "no connection 'nowhere' is defined", {"cluster_conn_id": "nowhere"}),
    "wrong account": Fault(
        "ask the site which accounts", "Invalid account", {"account": "proj0"},
        sbatch="sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
    ),
    "wrong partition": Fault(
        "sinfo -s", "invalid partition specified: nope", {"partition": "nope"},
        sbatch="sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified",
    ),
    "queue_timeout": Fault(
        "raise it, or ask for fewer", r"still waited after 1 s \(Priority\)", {"queue_timeout": 1, "poll_interval": 1}, sbatch="",
    ),
    "executable missing": Fault("set it to its path", "/nowhere/braynsService", {"executable": "/nowhere/braynsService"}),
    "module missing": Fault("setup: mend what its last lines say", r"module\(s\) are unknown: brayns", {"setup": f"{LMOD}\nmodule load brayns || exit 1"}),
    "plugin missing": Fault("take it off the list", "plugin 'braynsNothing'", {"plugins": ["braynsNothing"]}),
    "setup that exits": Fault("setup: mend what its last lines say", "exit code 3", {"setup": "echo no license for it; exit 3"}),
    "start_timeout": Fault("raise start_timeout", "not usable 3 s after", {"setup": "sleep 60", "start_timeout": 3}),
    "state_dir": Fault("choose another folder", "/proc/nowhere cannot be written", {"state_dir": "/proc/nowhere"}),
    "specification": Fault("did you mean frames", "It is not known here", movie={"framez": 3}),
    "model": Fault("correct it", "/nowhere.obj does not exist", movie={"models": [{"path": "/nowhere.obj"}]}),
    "ssh refused": Fault("check the connection's host", "cannot be reached", {"cluster_conn_id": "far"}),
    "host key refused": Fault("compare the login node's key", "host key is not trusted", {"cluster_conn_id": "strange"}),
}  # fmt: skip


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cluster: Any) -> Iterator[None]:
    """A local cluster `here`; one whose login node refuses connections, `far`; and one whose login node nobody knows, `strange`."""
    (tmp_path / "known_hosts").touch()
    with login_node() as port:
        for name, at in (("far", 1), ("strange", port)):
            login = {"conn_type": "ssh", "host": "127.0.0.1", "port": at, "login": "me"}
            login["extra"] = {"known_hosts": str(tmp_path / "known_hosts")}
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}_LOGIN", json.dumps(login))
            extra = {"scheduler": "slurm", "ssh_conn_id": f"{name}_login", "state_dir": str(tmp_path)}
            connection = {"conn_type": "brayns_cluster", "extra": extra}
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
        yield


@contextmanager
def login_node() -> Iterator[int]:
    """An SSH server that nobody can log in to, in a thread of its own; its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen("127.0.0.1", 0, server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")])

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(30)
    try:
        yield server.get_port()
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str) -> None:
    """A Slurm cluster, connection `here`, whose sbatch refuses, or whose job waits: what it prints is a real one's."""
    job = tmp_path / "job"
    programs = {
        "sbatch": f"cat >&2 <<'END'\n{says}\nEND\nexit 1"
        if says
        else f"for one; do case $one in --job-name=*) name=${{one#*=}} ;; esac; done\n"
        f'echo "42|PENDING|Priority||c|$name|2026-11-26T08:00:00||1:00" >{job}\necho 42',
        "squeue": f"case $* in *-h*) ;; *) echo 'JOBID|STATE|REASON|NODELIST|COMMENT|NAME|SUBMIT_TIME|START_TIME|TIME_LEFT' ;; esac\n"
        f"[ ! -e {job} ] || cat {job}",
        "scancel": f"rm -f {job}",
        "scontrol": "exit 1",
    }
    (tmp_path / "bin").mkdir()
    for name, body in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    extra = {"scheduler": "slurm", "state_dir": str(tmp_path / "state")}
    monkeypatch.setenv("AIRFLOW_CONN_HERE", json.dumps({"conn_type": "brayns_cluster", "extra": extra}))


@pytest.mark.parametrize("name", FAULTS)
def test_the_first_screen_of_a_failed_task_says_what_happened_and_what_to_do(
    name: str, context: Any, sites: None, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fault = FAULTS[name]
    if fault.sbatch is not None:
        slurm(monkeypatch, tmp_path, fault.sbatch)
    given = {"task_id": "task", "cluster_conn_id": "here", **fault.given}
    if fault.movie is None:
        operator: Any = BraynsServiceOperator(**given)
    else:
        specification = {"models": [{"path": str(data / "cube.obj")}], "frames": 2, **fault.movie}
        operator = BraynsMovieOperator(**given, specification=specification, output_file=str(tmp_path / "movie.mp4"))
    capsys.readouterr()
    with pytest.raises(AirflowException) as raised:
        operator.execute(context)
    printed = capsys.readouterr().out
    logged = [found[1] for line in printed.splitlines() if (found := _LOGGED.match(line)) and "Task Runner" not in line]
    error = str(raised.value).splitlines()
    shown = " ".join(" ".join([*folded(logged), *error][:LINES]).split())
    whole = "\n".join([*logged, *error])
    told_first = " ".join(" ".join(error).split())
    assert re.search(fault.happened, shown), whole
    assert re.search(f"{fault.remedy}.*{fault.happened}", told_first), whole
    assert len(error) <= SEEN_ABOVE, whole
    below = traceback.extract_tb(raised.value.__traceback__)[1:]
    assert len(below) + _OF_AIRFLOW <= FRAMES, below
    assert len(error[0]) < WIDTH and re.search(fault.remedy, " ".join(error[:2])), "what to do comes first"
    seen = [f"{type(raised.value).__name__}: {error[0]}", *error[1:]]
    assert [line for line in seen if len(line) >= WIDTH and " " in line.strip()] == []
    told = "".join(traceback.format_exception(raised.value))
    assert told.count(error[0]) == 1, told
    assert error[0] not in logged, "what the error says is not said before it, too"
    assert "could not be given back" not in whole


def folded(logged: list[str]) -> list[str]:
    """A log as the page shows it at first: of a group only its name (3.3.2, its page's source read)."""
    shown, depth = [], 0
    for line in logged:
        depth -= line == "::endgroup::"
        if not depth and line != "::endgroup::":
            shown.append(line)
        depth += line.startswith("::group::")
    assert depth == 0, "each group has its end, else the error would be in it"
    return shown


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the task's log has got since it was last asked for."""
    return [found[1] for line in capsys.readouterr().out.splitlines() if (found := _LOGGED.match(line))]


def test_what_a_start_waits_for_is_told_now_and_then(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service that loads for minutes: nothing was said for 150 s."""
    monkeypatch.setattr(stream, "_TELL_SECONDS", 2.0)
    operator = BraynsServiceOperator(task_id="task", cluster_conn_id="here", setup="sleep 7")
    operator.execute(context)
    told = [line for line in lines(capsys) if "(start_timeout)" in line]
    assert 1 <= len(told) <= 6
    assert re.fullmatch(r"\d+ of 600 s \(start_timeout\)\. brayns1: no port in its log yet", told[0])
    ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocated_by="task").execute(context)


def test_that_there_is_no_connection_is_said_once_a_task(
    context: Any, cluster: Any, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker said it, the triggerer, and the worker again."""
    here = {"state_dir": str(state), "poll_interval": 1}
    operator = BraynsServiceOperator(task_id="task", deferrable=True, patience=0, **here)
    with pytest.raises(TaskDeferred) as raised:
        operator.execute(context)
    event = run_trigger(raised.value)
    back = BraynsServiceOperator(task_id="task", deferrable=True, **here)
    try:
        back.resume_execution("resume", {"event": event}, context)
        assert sum("No connection 'brayns_default'" in line for line in lines(capsys)) == 1
    finally:
        ReleaseNodesOperator(task_id="release", allocated_by="task", **here).execute(context)
