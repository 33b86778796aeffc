"""Rows of the page, made of what is stored. Whoever can write XCom may have stored anything, so nothing is relied on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from shlex import quote
from typing import Any

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.errors.plain import one_line
from airflow_brayns.links import keys
from airflow_brayns.links.texts import tunnel_to
from airflow_brayns.movie.glimpse import GLIMPSE
from airflow_brayns.page.stored import Run, Task
from airflow_brayns.services.settings import is_name

_FAILED = ("failed", "upstream_failed")
_DONE = ("success", "skipped", *_FAILED, "removed")
_TO_COME = ("", "scheduled", "queued", "up_for_retry")  # what such a task has stored is a former try's
_UNKNOWN = "The run failed; whether its nodes were given back is not known."
_NEVER = datetime.min.replace(tzinfo=UTC)
_MOST = 300  # of services, jobs, plugins or nodes in one row
_SERVICE = ("endpoint", "node", "job_id", "service", "version", "log", "ends_at")


@dataclass(frozen=True)
class Booked:
    """A booking, as a task has announced it."""

    task: Task
    name: str
    jobs: tuple[str, ...]
    allocations: dict[str, str]  # name by job
    scheduler: str
    plugins: tuple[str, ...]

    @classmethod
    def of(cls, task: Task) -> Booked | None:
        """The booking of a task; None where what is stored is none."""
        told = task.facts.get(keys.ALLOCATION)
        if not isinstance(told, dict) or not is_name(str(told.get("name"))):
            return None
        allocations = {_text(one, "job_id"): _text(one, "name") for one in _dicts(told.get("allocations"))}
        cluster = told.get("cluster")
        scheduler = _text(cluster, "scheduler") if isinstance(cluster, dict) else ""
        return cls(task, str(told["name"]), tuple(allocations), allocations, scheduler, _texts(told.get("plugins")))


class _OfRun:
    """What the tasks of one run have stored, by what it is looked up by."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.services: dict[str, dict[str, dict[str, Any]]] = {}  # by job and name
        self.released: dict[str, datetime] = {}  # when a booking was given back last, by its name
        self.held: dict[str, Task] = {}  # the task that keeps a booking for a person, by the booking's name
        self.extensions: dict[str, Task] = {}  # the task that gives a booking more time, by the booking's name
        self.asks = [task for task in tasks if task.asks and not task.run.is_over]
        self.renders = any(keys.PROGRESS in task.facts and _is_at_work(task) for task in tasks)
        for task in tasks:
            usable = _usable(task)
            for one in usable:
                row = _service_row(one, usable[0], _text(task.facts, keys.TUNNEL))
                if "job_id" in row and "service" in row:  # of an endpoint that somebody typed in, neither is known
                    self.services.setdefault(row["job_id"], {})[row["service"]] = row
            for name in _texts(task.facts.get(keys.RELEASED)):
                self.released[name] = max(task.told_at[keys.RELEASED], self.released.get(name, _NEVER))
            if isinstance(told := task.facts.get(keys.HELD), dict):
                self.held[_text(told, "allocation")] = task
            if isinstance(told := task.facts.get(keys.EXTENSION), dict):
                self.extensions[_text(told, "allocation")] = task


class Reading:
    """What is stored, by what it means.

    :param tasks: of any runs.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        by_run: dict[Run, list[Task]] = {}
        for task in tasks:
            by_run.setdefault(task.run, []).append(task)
        self._of_run = {run: _OfRun(found) for run, found in by_run.items()}

    def services(self) -> list[dict[str, Any]]:
        """A row for each booking that is not a movie's own, and one for a session that has booked nothing yet."""
        rows = []
        for task in self._tasks:
            if not task.task_id:
                rows.append({**_head(task), "state": _state_without(task.run), "since": _time(task.run.queued_at)})
            elif not _is_movie(task) and (booked := Booked.of(task)):
                rows.append(self._service(booked))
        return rows

    def _service(self, booked: Booked) -> dict[str, Any]:
        task, run, asked = booked.task, self._of_run[booked.task.run], booked.task.told_at[keys.ALLOCATION]
        found = [_connected(one, booked) for job in booked.jobs for one in run.services.get(job, {}).values()]
        state = _state(booked, run, bool(found))
        row = {
            **_head(task),
            "state": state,
            "since": _time(asked),
            "name": booked.name,
            "jobs": list(booked.jobs),
            "scheduler": booked.scheduler,
            "plugins": list(booked.plugins),
            "services": [] if state == "asked" else found,
            "tunnel": _short(task.facts.get(keys.TUNNEL)),
            "log": _short(task.facts.get(keys.LOG)),
        }
        if state in ("queued", "starting"):
            row["wait"] = _wait(task)
        held = run.held.get(booked.name)
        if held is not None and held.told_at[keys.HELD] >= asked and state != "asked":
            told = held.facts[keys.HELD]
            row |= {"until": _text(told, "until"), "why": _text(told, "why")}
            if held.state not in _DONE and not task.run.is_over:
                row["keeper"] = [held.task_id, held.map_index]
                row["extend"] = _extension(run.extensions.get(booked.name), booked)
                row |= _followed(row, told, booked)
        if state == "failed" and task.state not in _FAILED:
            row["why"] = _UNKNOWN
        return _lean(row)

    def movies(self) -> list[dict[str, Any]]:
        """A row for each task that renders, and one for each that only made a movie of what another one rendered."""
        rows = []
        for task in self._tasks:
            progress, made = task.facts.get(keys.PROGRESS), task.facts.get(keys.MOVIE)
            preview = task.facts.get(keys.PREVIEW)
            if not _is_movie(task):
                continue
            row = {**_head(task), "state": _movie_state(task, made)}
            if isinstance(progress, dict) and row["state"] != "asked":
                booked = Booked.of(task)
                row |= _progress(progress) | {"jobs": list(booked.jobs) if booked else []}
            if isinstance(used := task.facts.get(keys.USED), dict):
                row |= {name: _number(used.get(name)) for name in ("node_hours", "efficiency")}
            if isinstance(made, dict):
                row["movie"] = {
                    name: _text(made, name) for name in ("movie", "poster", "contact_sheet") if made.get(name)
                }
            if isinstance(preview, dict):
                row |= self._preview(task, preview)
            rows.append(_lean(row))
        return rows

    def _preview(self, task: Task, told: dict[str, Any]) -> dict[str, Any]:
        """What a row says of a preview: its sheet, and the approval of its run that a person is waited for with."""
        shown: dict[str, Any] = {"state": "previewed", "movie": {"preview": _text(told, "contact_sheet")}}
        asks = [one for one in self._of_run[task.run].asks if one.map_index == task.map_index]
        if len(asks) == 1:  # of several nobody knows which is meant
            ask = {"task_id": asks[0].task_id, "map_index": asks[0].map_index, "subject": _short(asks[0].asks)}
            shown |= {"state": "approval", "ask": ask}
        return shown


def _extension(task: Task | None, booked: Booked) -> dict[str, Any]:
    """Of a session that may be given more time: by which task, and what came of it last."""
    told = task.facts[keys.EXTENSION] if task is not None else {}
    if task is None or booked.jobs != _texts(told.get("jobs")):  # told of an earlier booking
        return {}
    state = "failed" if task.state in _FAILED else "" if task.state in _DONE else "asked"
    outcome = {name: _text(told, name) for name in ("how", "why", "at")}
    place = {"task": [task.task_id, task.map_index], "minutes": _number(told.get("minutes"))}
    return _lean({**place, "state": state, **outcome})


def _followed(row: dict[str, Any], told: dict[str, Any], booked: Booked) -> dict[str, Any]:
    """What a row shows otherwise where more time was given: jobs that follow on, their services, and what has ended.

    :param told: what whoever holds the booking tells.
    """
    ended, first = _texts(told.get("ended")), (row["services"] or [{}])[0]
    usable = [
        one for one in _dicts(told.get("services")) if _is_endpoint(_text(one, "endpoint")) and _text(one, "job_id")
    ]
    following = [_service_row(one, first, row["tunnel"]) for one in usable]
    services = [one for one in row["services"] if one.get("job_id") not in ended]
    services += [{**_connected(one, booked), "follows": True} for one in following]
    facts = told.get("following")
    jobs = list(facts.items())[:_MOST] if isinstance(facts, dict) else []
    waits = [_following(one_line(str(job)), one, following) for job, one in jobs if isinstance(one, dict)]
    how = row["extend"].get("how")
    if row["until"] and (waits or how) and how != "follow_on":  # their hand-over told another end
        services = [{name: value for name, value in one.items() if name != "ends_at"} for one in services]
    return {"services": services, "following": waits}


def _following(job: str, told: dict[str, Any], services: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A job that follows on: whether it is queued, starts, or is ready."""
    if any(one["job_id"] == job for one in services):
        return {"job": job, "state": "ready"}
    return {"job": job, "state": "queued" if told.get("state") == "pending" else "starting", "wait": _wait_of([told])}


def offered(found: dict[str, Any]) -> dict[str, dict[str, list[dict[str, str]]]]:
    """What clusters offer, by the connection's id and the form's field: texts to choose from, each with what there is to say of it."""
    told: dict[str, dict[str, list[dict[str, str]]]] = {}
    for conn_id, one in list(found.items())[:_MOST]:
        fields = {
            field: [{"is": name} for name in _texts(one.get(key))]
            for field, key in (
                ("account", "accounts"),
                ("qos", "qos"),
                ("constraint", "constraints"),
                ("reservation", "reservations"),
            )
        }
        fields["partition"] = [
            {"is": _text(each, "name"), "says": f"at most {_text(each, 'time_limit')} on {_text(each, 'nodes')} nodes"}
            for each in _dicts(one.get("partitions"))
            if _text(each, "name")
        ]
        told[one_line(str(conn_id))] = {field: texts for field, texts in fields.items() if texts}
    return told


def _state(booked: Booked, run: _OfRun, usable: bool) -> str:
    """One word: `failed`, `ended`, `asked`, that of `_waiting`, `rendering`, `ready` or, without a service, `nodes`."""
    task = booked.task
    if task.state in _FAILED:
        return "failed"
    if task.state in _TO_COME and not task.run.is_over:
        return "asked"
    given_back = run.released.get(booked.name)  # of an earlier try, perhaps, whose name was the same
    if given_back is not None and given_back >= task.told_at[keys.ALLOCATION]:
        return "ended"
    if task.run.is_over:
        return "ended" if task.run.state == "success" else "failed"
    if task.state not in _DONE:
        return _waiting(task)
    if run.renders:
        return "rendering"
    return "ready" if usable else "nodes"


def _is_movie(task: Task) -> bool:
    """Whether a task has a movie's row; one that has stored nothing readable of it has that of its booking."""
    return any(isinstance(task.facts.get(key), dict) for key in (keys.PROGRESS, keys.MOVIE, keys.PREVIEW))


def _is_at_work(task: Task) -> bool:
    return task.state not in (*_DONE, *_TO_COME)


def _usable(task: Task) -> list[dict[str, Any]]:
    """The services that the task's present try tells of."""
    told = [] if task.state in _TO_COME else _dicts(task.facts.get(keys.SERVICES))
    return [one for one in told if _is_endpoint(_text(one, "endpoint"))]


def _service_row(told: dict[str, Any], first: dict[str, Any], tunnel: str) -> dict[str, Any]:
    """A service as a row shows it.

    :param first: the service that `tunnel` leads to.
    """
    row: dict[str, Any] = {name: _text(told, name) for name in _SERVICE}
    row |= {"plugins": list(_texts(told.get("plugins"))), "tls": "certificate" in told}
    return _lean({**row, "tunnel": tunnel_to(row["endpoint"], _text(first, "endpoint"), tunnel)})


def _connected(service: dict[str, Any], booked: Booked) -> dict[str, Any]:
    """A service with the command that leads to it, and to no other one of its booking."""
    name = booked.allocations.get(service["job_id"], "")
    name = name if is_name(name) else booked.name
    connect = f"airflow brayns connect {name} --service {quote(service.get('service', ''))}"
    return {**service, "allocation": name, "connect": connect}


def _is_endpoint(text: str) -> bool:
    try:
        return bool(Endpoint.parse(text))
    except InvalidSetting:
        return False


def _waiting(task: Task) -> str:
    """Of a booking that is waited for: `queued` until a job has its nodes, then `starting`; `waiting` while nobody
    knows.
    """
    jobs = [one for one in _waits(task).values() if one.get("state") in ("pending", "running")]
    if any(one["state"] == "running" for one in jobs):
        return "starting"
    return "queued" if jobs else "waiting"


def _waits(task: Task) -> dict[str, dict[str, Any]]:
    """How each job of a wait stands, as `task.wait_report` stores it, by job id."""
    told = task.facts.get(keys.WAIT)
    found = list(told.items())[:_MOST] if isinstance(told, dict) else []
    return {one_line(str(job)): one for job, one in found if isinstance(one, dict)}


def _wait(task: Task) -> dict[str, Any]:
    """What a person is told of a wait: why Slurm's jobs pend and when it expects the first of them to start, by the
    cluster's clock; how many nodes and listening services there are already.
    """
    return _wait_of(list(_waits(task).values()))


def _wait_of(jobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    pending = [one for one in jobs if one.get("state") == "pending"]
    starts = sorted(start for one in pending if (start := _text(one, "start")))
    nodes = [node for one in jobs for node in _texts(one.get("nodes"))]
    told = {"reasons": sorted({_text(one, "reason") for one in pending} - {""}), "start": starts[0] if starts else ""}
    listening = sum(_number(one.get("listening")) or 0 for one in jobs)
    return _lean({**told, "nodes": nodes[:_MOST], "listening": listening})


def _state_without(run: Run) -> str:
    """The state of a session that has booked nothing."""
    if run.is_over:
        return "failed" if run.state == "failed" else "ended"
    return "asked"


def _movie_state(task: Task, made: Any) -> str:
    if task.state in _FAILED:
        return "failed"
    if task.state not in _DONE and not task.run.is_over:
        return "asked" if task.state in _TO_COME else "rendering"
    if isinstance(made, dict):
        return "made"
    return "rendered" if task.state == "success" else "ended"


def _progress(told: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: _number(told.get(name)) for name in ("done", "total", "frames_per_second", "seconds_left")}
    nodes = told.get("nodes")
    shares = {}
    if isinstance(nodes, dict):
        shares = {one_line(str(name), 100): _number(share) for name, share in list(nodes.items())[:_MOST]}
    noun = {"noun": "tiles"} if told.get("noun") == "tiles" else {}
    glimpse = f"{folder}/{GLIMPSE}" if (folder := _text(told, "frames_dir")) else ""
    return {**numbers, **noun, "nodes": shares, "at": _text(told, "at"), "glimpse": glimpse}


def _head(task: Task) -> dict[str, Any]:
    """What tells a row from every other one, and whose it is."""
    run = task.run
    place = {"task_id": task.task_id} | ({"map_index": task.map_index} if task.map_index >= 0 else {})
    told = {"dag_id": run.dag_id, "run_id": run.run_id, **(place if task.task_id else {}), "who": _short(run.who)}
    return told | {"ended_at": _time(run.ended_at)}


def _lean(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what tells nothing."""
    return {name: value for name, value in row.items() if value or (value == 0 and value is not False)}


def _time(at: datetime | None) -> str:
    return at.isoformat(timespec="seconds") if at else ""


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value[:_MOST] if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        return ()
    return tuple(one_line(one) for one in value[:_MOST] if isinstance(one, str))


def _text(told: dict[str, Any], name: str) -> str:
    return _short(told.get(name))


def _short(value: Any) -> str:
    """A text that is shown in one place, in one line; of several lines, each."""
    if not isinstance(value, str):
        return "" if value is None or isinstance(value, dict | list) else str(value)[:100]
    return "\n".join(one_line(line, 1000) for line in value[:20_000].split("\n"))


def _number(value: Any) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        return None
    return value if value == value else None  # NaN is not equal to itself
