"""What tasks and triggers have stored about services and movies, read from Airflow's database.

XCom holds what was asked for, what became usable, and what was given back; the task state store, how far a movie is.
Both are written by the processes that ask the clusters anyway, survive their restarts, and are deleted with their run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.models import Connection
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.task_state_store import TaskStateStoreModel as StateStore
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import and_, case, or_, select, union

from airflow_brayns.links import keys
from airflow_brayns.page.access import Access
from airflow_brayns.services.settings import CONNECTION_TYPE

SESSION = "brayns_session"  # the DAG by which the page allocates
_KEYS = (
    keys.ALLOCATION,
    keys.SERVICES,
    keys.WAIT,
    keys.TUNNEL,
    keys.LOG,
    keys.MOVIE,
    keys.PREVIEW,
    keys.USED,
    keys.HELD,
    keys.RELEASED,
)
_PLACE = ("dag_id", "run_id", "task_id", "map_index")  # what a task instance is found by
_LIVE = ("queued", "running")
_RECENT = timedelta(hours=24)  # for so long what has ended is shown
_MOST_RUNS = 1000
_MOST_OFFERS = 100  # tasks whose findings are read; of each connection the latest counts
# Of a connection, what the form of an allocation tells; none of it is secret.
_TOLD = ("scheduler", "account", "partition", "qos", "constraint", "reservation", "time_limit", "idle_limit")


@dataclass(frozen=True)
class Run:
    """A DAG run."""

    dag_id: str
    run_id: str
    state: str
    who: str
    queued_at: datetime | None
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        return self.state not in _LIVE


@dataclass
class Task:
    """A task instance, and what it has stored.

    :param facts: by their key.
    :param told_at: when each was stored.
    :param asks: what it asks a person, and waits for the answer to.
    """

    run: Run
    task_id: str = ""
    map_index: int = -1
    state: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    told_at: dict[str, datetime] = field(default_factory=dict)
    asks: str = ""


def read(
    session: Any, readable: Callable[[Collection[str]], set[str]], asked: Callable[[Collection[str]], set[str]]
) -> tuple[list[Task], int]:
    """All that is stored of runs that go on, or have ended lately; of the newest runs, those that
    go on first, and how many more there are.

    :param readable: tells which of these DAGs may be read.
    :param asked: tells of which of these DAGs the questions to people may be read.
    """
    runs = _runs(session)
    allowed = readable({run.dag_id for run in runs.values()})
    runs = {key: run for key, run in runs.items() if run.dag_id in allowed}
    shown = dict(list(runs.items())[:_MOST_RUNS])
    tasks: dict[tuple[int, str, int], Task] = {}
    for key, task_id, map_index, state, name, value, at in _facts(session, list(shown)):
        place = (key, task_id, map_index)
        task = tasks.setdefault(place, Task(shown[key], task_id, map_index, str(state or "")))
        task.facts[name], task.told_at[name] = value, at
    askable = asked({run.dag_id for run in shown.values()})
    for key, task_id, map_index, subject in _questions(session, [key for key in shown if shown[key].dag_id in askable]):
        place = (key, task_id, map_index)
        tasks.setdefault(place, Task(shown[key], task_id, map_index, "awaiting_input")).asks = subject
    booked = {key for (key, _, _), task in tasks.items() if keys.ALLOCATION in task.facts}
    silent = [Task(run) for key, run in shown.items() if key not in booked and run.dag_id == SESSION]
    return [*tasks.values(), *silent], len(runs) - len(shown)


def _runs(session: Any) -> dict[int, Run]:
    """The runs of which something is stored, and those of the page's own DAG; those that go on first, then the newest.

    They are found by the indices of what is stored: a table of all runs that there ever were is not read through.
    """
    recent = or_(DagRun.state.in_(_LIVE), DagRun.end_date > datetime.now(UTC) - _RECENT)
    told = select(XComModel.dag_run_id).where(XComModel.key == keys.ALLOCATION)
    kept = select(StateStore.dag_run_id).where(StateStore.key == keys.PROGRESS)
    ours = union(told, kept, select(DagRun.id).where(DagRun.dag_id == SESSION))
    columns = (
        DagRun.id, DagRun.dag_id, DagRun.run_id, DagRun.state, DagRun.triggering_user_name, DagRun.queued_at,
        DagRun.end_date,
    )  # fmt: skip
    wanted = select(*columns).where(DagRun.id.in_(ours), recent)
    found = session.execute(wanted.order_by(case((DagRun.state.in_(_LIVE), 0), else_=1), DagRun.id.desc()))
    return {
        key: Run(dag_id, run_id, str(getattr(state, "value", state)), who or "", queued, ended)
        for key, dag_id, run_id, state, who, queued, ended in found
    }


def _facts(session: Any, runs: Sequence[int]) -> Iterator[tuple[int, str, int, Any, str, Any, datetime]]:
    """Run, task, map index and state, each with one fact: its key, its value, and when it was stored."""
    if not runs:
        return
    yield from session.execute(_of_tasks(XComModel, XComModel.timestamp, runs, _KEYS))
    kept = (keys.PROGRESS, keys.EXTENSION)
    for *where, value, at in session.execute(_of_tasks(StateStore, StateStore.updated_at, runs, kept)):
        yield (*where, _value(value), at)


def _questions(session: Any, runs: Sequence[int]) -> Iterator[tuple[int, str, int, str]]:
    """Run, task and map index of each approval that waits for a person, with what it asks."""
    if not runs:
        return
    told = (DagRun.id, TaskInstance.task_id, TaskInstance.map_index, HITLDetail.subject, HITLDetail.options)
    mine = and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id)
    wanted = select(*told).join(TaskInstance, HITLDetail.ti_id == TaskInstance.id).join(DagRun, mine)
    # As Airflow counts them: one whose task was marked, or runs again, is not waited for.
    waits = TaskInstance.state.in_(("awaiting_input", "deferred"))
    for *where, options in session.execute(wanted.where(DagRun.id.in_(runs), HITLDetail.responded_at.is_(None), waits)):
        if options == ["Approve", "Reject"]:
            yield tuple(where)


def _of_tasks(model: Any, at: Any, runs: Sequence[int], names: Collection[str]) -> Any:
    """The query for what tasks have stored under some keys, of one of the two tables that hold it.

    :param at: the column that says when.
    """
    mine = and_(*(getattr(TaskInstance, name) == getattr(model, name) for name in _PLACE))
    told = (model.dag_run_id, model.task_id, model.map_index, TaskInstance.state, model.key, model.value, at)
    return select(*told).join(TaskInstance, mine).where(model.dag_run_id.in_(runs), model.key.in_(names))


def facts_of(session: Any, dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any]:
    """What one task instance has stored of a movie, by key; nothing where there is no such task."""
    found = session.execute(select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).scalar()
    if found is None:
        return {}
    facts = {}
    for model, at, names in (
        (XComModel, XComModel.timestamp, (keys.MOVIE, keys.PREVIEW)),
        (StateStore, StateStore.updated_at, (keys.PROGRESS,)),
    ):
        mine = _of_tasks(model, at, [found], names).where(model.task_id == task_id, model.map_index == map_index)
        for *_, name, value, _ in session.execute(mine):
            facts[name] = value if model is XComModel else _value(value)
    return facts


def _value(text: str) -> Any:
    """A value of the task state store, which is JSON; None for anything else."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def session_dag(session: Any, access: Access) -> dict[str, Any] | None:
    """The DAG by which the page allocates, and what the user may do with it; None where there is none, or none for this
    user.
    """
    if not access.readable([SESSION]):
        return None
    found = session.execute(
        select(DagModel.is_paused, DagModel.is_stale).where(DagModel.dag_id == SESSION)
    ).one_or_none()
    if found is None or found[1]:
        return None
    return {"dag_id": SESSION, "paused": bool(found[0]), "may": access.may(SESSION)}


def offers_of(session: Any, readable: Callable[[Collection[str]], set[str]]) -> dict[str, Any]:
    """What the clusters' users may ask for, by the connection's id, as reapers have found it last.

    :param readable: tells which of these DAGs may be read.
    """
    told = select(XComModel.dag_id, XComModel.value).where(XComModel.key == keys.OFFERS)
    rows = session.execute(told.order_by(XComModel.timestamp.desc()).limit(_MOST_OFFERS)).all()
    allowed = readable({dag_id for dag_id, _ in rows})
    found: dict[str, Any] = {}
    for dag_id, value in rows:
        if dag_id in allowed and isinstance(value, dict):
            found = {name: one for name, one in value.items() if isinstance(one, dict)} | found
    return found


def clusters_of(session: Any, readable: Collection[str]) -> list[dict[str, Any]]:
    """The connections of our type that are in the database, among those that may be read."""
    wanted = select(Connection).where(Connection.conn_type == CONNECTION_TYPE).order_by(Connection.conn_id)
    found = [one for one in session.scalars(wanted) if one.conn_id in readable]
    return [{"id": one.conn_id, "says": _told(one)} for one in found]


def _told(connection: Connection) -> dict[str, str]:
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        return {}
    given = extra if isinstance(extra, dict) else {}
    return {name: str(given[name])[:200] for name in _TOLD if given.get(name) not in (None, "")}
