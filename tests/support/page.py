"""Airflow's own web app in this process, with the page's part and a database of its own, and what tasks store in it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

ROLES = ("viewer", "user", "op", "admin")
NOW = datetime.now(UTC)


class Page:
    """The app, asked as one of the roles, or as nobody."""

    def __init__(self, app: Any, engine: Any) -> None:
        from fastapi.testclient import TestClient

        self.app, self.engine = app, engine
        self._client = TestClient(app, raise_server_exceptions=False, follow_redirects=False)

    def ask(self, role: str, path: str, method: str = "GET", **more: Any) -> Any:
        """The answer to a request with the cookie of a role; with none for `nobody`."""
        self._client.cookies.clear()
        if role != "nobody":
            self._client.cookies.set("_token", token_of(role))
        return self._client.request(method, path, **more)

    def state(self, role: str = "viewer") -> dict[str, Any]:
        answer = self.ask(role, "/brayns/state")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def token_of(role: str) -> str:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return str(get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=role, role=role)))


@contextmanager
def page(folder: Path) -> Iterator[Page]:
    """Airflow's app as its API server makes it."""
    import airflow.settings
    from airflow.api_fastapi.app import create_app, purge_cached_app
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from sqlalchemy import create_engine, event
    from sqlalchemy.orm import scoped_session, sessionmaker

    import_all_models()
    engine = create_engine(f"sqlite:///{folder / 'airflow.db'}", connect_args={"check_same_thread": False})
    event.listen(engine, "connect", lambda made, _: made.execute("PRAGMA synchronous=OFF"))  # a scratch one
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine, expire_on_commit=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", ",".join(f"{role}:{role}" for role in ROLES))
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(folder / "passwords.json"))
        patch.setattr(airflow.settings, "Session", scoped_session(sessions))
        patch.setattr(airflow.settings, "NonScopedSession", sessions)
        yield Page(create_app("core"), engine)
    purge_cached_app()
    engine.dispose()


class Stored:
    """What tasks have stored, put into the database as Airflow puts it."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._run = 0

    def clear(self) -> None:
        from airflow.models.base import Base

        with self._engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())

    def dag(self, dag_id: str, **more: Any) -> None:
        from airflow.models.dag import DagModel

        self._add(DagModel, dag_id=dag_id, **{"is_paused": False, "is_stale": False, "bundle_name": "b", **more})

    def run(self, dag_id: str = "brayns_session", state: str = "running", **more: Any) -> tuple[int, str, str]:
        """A DAG run; what tells it from others."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.types import DagRunType

        self._run += 1
        run_id = more.pop("run_id", f"run {self._run}")
        values = {"triggering_user_name": "anna", "queued_at": NOW, "run_type": DagRunType.MANUAL, "run_after": NOW}
        self._add(DagRun, id=self._run, dag_id=dag_id, run_id=run_id, state=state, **{**values, **more})
        return self._run, dag_id, run_id

    def task(self, run: tuple[int, str, str], task_id: str, state: str | None, index: int = -1, **facts: Any) -> None:
        """A task instance with what it has pushed to XCom, or put into its state store."""
        from airflow.models.task_state_store import TaskStateStoreModel
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel

        key, dag_id, run_id = run
        at = facts.pop("at", NOW)
        place = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": index}
        self._add(TaskInstance, id=uuid.uuid4(), state=state, **place)
        for name, value in facts.items():
            if name in ("brayns_progress", "brayns_extension"):
                text = json.dumps(value)
                self._add(TaskStateStoreModel, dag_run_id=key, key=name, value=text, updated_at=at, **place)
            else:
                self._add(XComModel, dag_run_id=key, key=name, value=value, timestamp=at, **place)

    def question(self, run: tuple[int, str, str], task_id: str, subject: str, *options: str, **more: Any) -> None:
        """A task that waits for a person's answer."""
        from airflow.models.hitl import HITLDetail
        from airflow.models.taskinstance import TaskInstance

        _, dag_id, run_id = run
        key, state = uuid.uuid4(), more.pop("state", "awaiting_input")
        self._add(TaskInstance, id=key, state=state, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=-1)
        self._add(HITLDetail, ti_id=key, options=list(options or ("Approve", "Reject")), subject=subject, **more)

    def session(self, state: str = "running", number: int = 1, **more: Any) -> tuple[int, str, str]:
        """A session that is ready, as `brayns_session` leaves it."""
        run = self.run(state=state, **more)
        told, until = booking(number), (NOW + timedelta(hours=1)).isoformat()
        held = {"allocation": told["name"], "until": until}
        self.task(run, "brayns", "success", allocation=told, services=[service(number)], brayns_tunnel="ssh -N x")
        self.task(run, "keep", "deferred" if state == "running" else "success", brayns_held=held)
        return run

    def extension(self, run: tuple[int, str, str], state: str | None = "success", number: int = 1, **told: Any) -> None:
        """The task that gives a session more time, and what it tells."""
        jobs = [one["job_id"] for one in booking(number)["allocations"]]
        fact = {"allocation": booking(number)["name"], "jobs": jobs, "minutes": 60, **told}
        self.task(run, "extend", state, brayns_extension=fact)

    def _add(self, model: Any, **values: Any) -> None:
        """A row by its columns: what else a model does is none of a test's business."""
        from sqlalchemy import insert

        table = model.__table__
        known = {}
        for name, value in values.items():
            known[getattr(model, name).property.columns[0].name] = value
        for column in table.columns:
            given = column.name in known or column.primary_key or column.nullable
            if not given and column.default is None and not column.server_default:
                known[column.name] = column.type.python_type()
        with self._engine.begin() as connection:
            connection.execute(insert(table).values(**known))


def crowd(stored: Stored, services: int, movies: int) -> None:
    """As many sessions that are ready, and movies that are being rendered."""
    for number in range(1, services + 1):
        stored.session(number=number, run_id=f"manual__2026-11-26T10:{number}")
    for number in range(movies):
        run = stored.run("brayns_movie", run_id=f"manual__2026-11-26T11:{number}")
        stored.task(run, "render", "running", brayns_progress=progress(number, movies))


def booking(number: int = 1, **more: Any) -> dict[str, Any]:
    """As `task.handover.announce` tells it."""
    name = f"ab-{number:012x}"
    one = {"name": f"{name}000", "incarnation": 1, "job_id": str(1000 + number), "submitted": "", "folder": "/s"}
    cluster = {"scheduler": "slurm", "ssh_conn_id": "login", "state_dir": "~/.airflow-brayns"}
    return {"name": name, "allocations": [one], "cluster": cluster, "plugins": ["braynsCircuitExplorer"], **more}


def service(number: int = 1, **more: Any) -> dict[str, Any]:
    """An entry of XCom `services`, whose form is a contract."""
    return {
        "endpoint": f"n{number}:5000",
        "node": f"n{number}",
        "job_id": str(1000 + number),
        "service": "brayns1",
        "version": "3.10.1",
        "plugins": ["braynsCircuitExplorer"],
        "generation": 3,
        "log": "/s/services/brayns1/log",
        "ends_at": (NOW + timedelta(hours=2)).isoformat(),
        **more,
    }


def progress(done: int, total: int, **more: Any) -> dict[str, Any]:
    """As `task.report.value_of` gives it."""
    told = {"done": done, "total": total, "frames_per_second": 0.5, "seconds_left": 12, "nodes": {"n1": done}}
    return {**told, "at": NOW.isoformat(), **more}
