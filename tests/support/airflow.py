"""A real Airflow: scheduler, triggerer, DAG processor and API server as their own processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.strays import end_strays, remember

BIN = Path(sys.executable).parent
TAKEN_OVER = (
    r"trigger \S+ \(ID \d+\) starting"  # what Airflow puts into a task's log when a triggerer has taken its trigger
)
COMPONENTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler",),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer",),
}


def database(home: Path) -> Path:
    """One that many processes can write: with SQLite's usual journal a reader holds them up, and Airflow does not try again."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "airflow.db"
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode=WAL")
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def children(pid: int) -> list[int]:
    """Of a process, the dead that it has not looked at included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            if int(stat.read_text().rpartition(") ")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def _part(pid: int) -> str:
    """Which of `COMPONENTS` a process is; nothing for another one."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""
    command = command.replace("_", "-")
    return next((name for name in COMPONENTS if name in command), "")


class Airflow:
    """One installation in a folder of its own."""

    def __init__(self, home: Path, dags: Path, environment: dict[str, str]) -> None:
        self.home = home
        self.port = free_port()
        self.environment = {
            **os.environ,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home.absolute() / 'airflow.db'}?timeout=60",
            **environment,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{self.port}/execution/",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3",
            # A busy machine takes its time over a DAG file. One that is not read in time is stale after 50 s, and Airflow's
            # scheduler (3.3.2) passes over the runs of a stale DAG without a word.
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "180",
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "240",
            "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "900",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.components: dict[str, subprocess.Popen[bytes]] = {}
        self._sessions_begun: set[int] = set()
        self._parts: dict[int, str] = {}

    def command(self, *words: str, timeout: float = 120) -> str:
        done = subprocess.run(
            [BIN / "airflow", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"airflow {words}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def start(self) -> None:
        """`airflow standalone`, until it is healthy."""
        end_strays()
        database(self.home)
        with (self.home / "standalone.log").open("wb") as log:
            self._process = subprocess.Popen(
                [BIN / "airflow", "standalone"],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._begun(self._process.pid)
        self.await_healthy()
        self._parts = {pid: name for pid in children(self._process.pid) if (name := _part(pid))}
        assert len(self._parts) == len(COMPONENTS), f"Airflow's parts are {self._parts}"

    def start_apart(self) -> None:
        """The same as processes of their own, each of which a test can kill and start again; until all are healthy."""
        end_strays()
        database(self.home)
        secrets = {"AIRFLOW__API_AUTH__JWT_SECRET": "of-this-test-only" * 4, "AIRFLOW__API__SECRET_KEY": "of-this-test"}
        self.environment = {**self.environment, **secrets}
        self.command("db", "migrate", timeout=300)
        for name in COMPONENTS:
            self.start_component(name)
        self.await_healthy()

    def start_component(self, name: str, programs: Path = BIN) -> None:
        """One of `COMPONENTS`; does not wait.

        :param programs: the folder that has `airflow`.
        """
        with (self.home / f"{name}.log").open("ab") as log:
            self.components[name] = subprocess.Popen(
                [programs / "airflow", *COMPONENTS[name]],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._begun(self.components[name].pid)

    def _begun(self, session: int) -> None:
        self._sessions_begun.add(session)
        remember(session)

    def signal_component(self, name: str, number: signal.Signals) -> None:
        """To the whole process group: a component's children are part of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.components[name].pid, number)

    def await_healthy(self, seconds: float = 400) -> None:
        """Its parts take a minute of processor time to start, of which a busy machine gives a quarter."""
        self.until(self._healthy, seconds, "Airflow is healthy")

    def check_alive(self) -> None:
        """`airflow standalone` goes on without a part that has died, and the runs just stand still (3.3.2).

        :raises AssertionError: a part has died; with what it last said.
        """
        if self._process is None:
            return
        assert self._process.poll() is None, f"airflow standalone has ended:\n{self._tail()}"
        for pid, name in self._parts.items():
            assert is_alive(pid), f"Airflow's {name} has died:\n{self._tail(name)}"

    def _tail(self, part: str = "") -> str:
        """The last lines of a part in the log of standalone, each of which begins with its name."""
        lines = (self.home / "standalone.log").read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if part in line.partition("|")[0]][-40:])

    def _healthy(self) -> bool:
        self.check_alive()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v2/monitor/health", timeout=2) as answer:
                health = json.load(answer)
        except OSError:
            return False
        return all(health[part]["status"] == "healthy" for part in ("scheduler", "triggerer", "dag_processor"))

    def stop(self) -> None:
        """By SIGINT, which ends its children too; then whatever is left of its session."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
        for one in self.components.values():
            one.send_signal(signal.SIGTERM)
        end = time.monotonic() + (30 if self._process is not None else 8)
        for process in filter(None, [self._process, *self.components.values()]):
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
        for found in Path("/proc").glob("[0-9]*"):
            try:  # one that has given itself a title hides its environment
                session = int((found / "stat").read_text().rpartition(") ")[2].split()[3])
                ours = (
                    session in self._sessions_begun
                    or f"AIRFLOW_HOME={self.home}\0".encode() in (found / "environ").read_bytes()
                )
                if ours:
                    os.kill(int(found.name), signal.SIGKILL)
            except (OSError, IndexError, ValueError):
                continue
        self._process = None
        self._parts = {}
        self.components = {}

    def until(self, holds: Any, seconds: float, what: str | Callable[[], str]) -> Any:
        """What `holds` gives, as soon as it is something.

        :param what: for the message; a function for what can be told only when the time is over.
        """
        end = time.monotonic() + seconds
        while not (value := holds()):
            self.check_alive()
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {what if isinstance(what, str) else what()}")
            time.sleep(0.5)
        return value

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Airflow's own REST API."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v2/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.token()}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def token(self, role: str = "admin") -> str:
        """What a person of a role is known by; here everybody is admin."""
        if not hasattr(self, "_kept"):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/auth/token", timeout=30) as answer:
                self._kept: str = json.load(answer)["access_token"]
        return self._kept

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run; its id."""

        def known() -> bool:
            try:
                return not self.api("GET", f"dags/{dag_id}")["is_stale"]
            except OSError:
                return False

        self.until(known, 240, lambda: f"{dag_id} is parsed; {self.import_errors()}")
        self.api("PATCH", f"dags/{dag_id}", {"is_paused": False})
        return str(self.api("POST", f"dags/{dag_id}/dagRuns", {"conf": conf, "logical_date": None})["dag_run_id"])

    def state(self, dag_id: str, run_id: str) -> str:
        return str(self.api("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def finished(self, dag_id: str, run_id: str, seconds: float = 300) -> str:
        return str(
            self.until(
                lambda: state if (state := self.state(dag_id, run_id)) in ("success", "failed") else None,
                seconds,
                lambda: f"{dag_id} {run_id} has ended; {self.why_not(dag_id, run_id)}",
            )
        )

    def why_not(self, dag_id: str, run_id: str) -> str:
        """All that may tell why a run does not end."""
        told = {
            "run": self.state(dag_id, run_id),
            "tasks": {
                one["task_id"]: (one["state"], one["try_number"])
                for one in self.api("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
            },
            "stale": self.api("GET", f"dags/{dag_id}")["is_stale"],
            "import errors": self.import_errors(),
            "health": {part: one["status"] for part, one in self.api("GET", "monitor/health").items()},
        }
        log = "" if self._process is None else f"\nThe scheduler said last:\n{self._tail('scheduler')}"
        return f"{told}{log}"

    def import_errors(self) -> list[str]:
        """Of all DAG files, each in short."""
        found = self.api("GET", "importErrors")["import_errors"]
        return [f"{one['filename']}: {one['stack_trace'][-300:]}" for one in found]

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str]:
        found = self.api("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {one["task_id"]: one["state"] for one in found}

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}?deserialize=false"
        value = self.api("GET", path)["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in '[{"' else value

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> str:
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}?full_content=true"
        content = self.api("GET", path)["content"]
        return "\n".join(
            f"{one.get('event')} {_in_one_line(one.get('error_detail', ''))}" if isinstance(one, dict) else str(one)
            for one in content
        )


def _in_one_line(detail: Any) -> str:
    """An error with its traceback; a message of ours has a line every 117 characters, which may part what a test looks for."""
    return " ".join(str(detail).replace("\\n", " ").split())
