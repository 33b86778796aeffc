"""The commands `airflow brayns services`, `release` and `reap`: they tell what is on the clusters, and give it back."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from airflow_brayns.cli.connections import ask_each
from airflow_brayns.cli.console import Answer, clear, command, pause, say
from airflow_brayns.cli.script import script as script
from airflow_brayns.cluster import orphans
from airflow_brayns.cluster.allocation import AllocationStatus, JobState
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.orphans import UNTOLD, Here, Reaped, leftovers
from airflow_brayns.cluster.owner import About, RunOf, whose
from airflow_brayns.errors import BraynsError, InvalidSetting
from airflow_brayns.hooks.installation import deployment, installation_id, made_of_shared_key
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import is_name

Row = dict[str, Any]
LEAST_WATCH_SECONDS = 5.0
_DONE = {
    Reaped.GIVEN_BACK: "given back",
    Reaped.TAKEN_OVER: "left alone: taken over meanwhile",
    Reaped.FOREIGN: "left alone",
    Reaped.FOUND: "would be given back",
}


def services(args: argparse.Namespace) -> None:
    """Print the allocations that have not ended; with `--watch` again and again, until somebody ends it."""
    if args.watch is None:
        _services(args)
        return
    if not args.watch >= LEAST_WATCH_SECONDS:
        raise SystemExit(f"--watch: at least {LEAST_WATCH_SECONDS:g} seconds: each look logs in to every cluster.")
    while True:
        clear()
        try:
            _services(args)
        except SystemExit as end:
            if isinstance(end.code, str):
                say(end.code)
            elif end.code != 1:  # somebody has ended it; else something went wrong, and the next look may go well
                raise
        pause(args.watch)


@command
def _services(args: argparse.Namespace) -> Answer:
    mine, failing = _here(), set[str]()

    async def look(session: Session) -> list[tuple[AllocationStatus, list[Row]]]:
        if session.cluster.scheduler == "slurm":
            failing.update(map(str, await session.cluster.failing_nodes()))
        found = [one for one in await session.cluster.list_all() if one.state is not JobState.ENDED]
        return [(one, list(_rows(session.cluster, one, _of_another(one, mine)))) for one in found]

    told, failed = ask_each(args.cluster_conn_id, look)
    for node in sorted(failing):
        say(node)
    rows: dict[tuple[str, int, str], list[Row]] = {}
    for conn_ids, found in told:
        for status, more in found:
            # Two login nodes of one cluster know the same allocation.
            seen = rows.get((status.name, status.incarnation, status.job_id))
            names = f"{seen[0]['cluster']},{conn_ids}" if seen else conn_ids
            rows[status.name, status.incarnation, status.job_id] = [{"cluster": names} | row for row in seen or more]
            for row in rows[status.name, status.incarnation, status.job_id]:
                row["cluster"] = names
    listed = [row for more in rows.values() for row in more]
    return Answer(listed, none="" if failed else "Nothing is running.", failed=failed)


def _here() -> tuple[str, Here]:
    """The mark of this Airflow, and what tells it from another one with the same mark."""
    mark = installation_id()
    return mark, Here(deployment(), made_of_shared_key(mark))


def _of_another(status: AllocationStatus, mine: tuple[str, Here]) -> str:
    """The other Airflow that asked for an allocation; empty for this one's, and for one without a mark (a preview's)."""
    mark, where = whose(status)
    if not mark or (mark == mine[0] and not mine[1].foreign(where)):
        return ""
    return where or ("of version 0.2.0 with this one's mark" if mark == mine[0] else f"with the mark {mark[:64]}")


def _rows(cluster: Cluster, status: AllocationStatus, other: str = "") -> Iterator[Row]:
    """The rows of an allocation: one for each service that lives, or a single one where none does."""
    what = str(About.read(status.about).run or "unknown") + (f" (another Airflow, {other})" if other else "")
    head = {"name": status.name, "job": status.job_id, "state": status.state.value}
    alive = [service for service in status.services if service.exit_code is None]
    for service in alive:
        port = service.port or "-"
        endpoint = f"{cluster.address(service.node)}:{port}" if service.node else "-"
        yield {**head, "service": service.name, "endpoint": endpoint, "for": what}
    if not alive:
        yield {**head, "service": "-", "endpoint": "-", "for": what}


@command
def release(args: argparse.Namespace) -> Answer:
    """Give an allocation back."""
    name, mine = args.name, _here()
    if not is_name(name):
        raise InvalidSetting(
            "name", f"{name!r} is no allocation's.", remedy="take one of those that `airflow brayns services` lists."
        )

    async def give(session: Session) -> int:
        for status in [] if args.any_installation else await session.cluster.list_all():
            if status.name.startswith(name) and (other := _of_another(status, mine)):
                raise InvalidSetting(
                    "name",
                    f"{status.name} was asked for by another Airflow, {other}.",
                    remedy="if you are sure, give it back with --any-installation.",
                )
        return await session.cluster.release(name, elsewhere=args.any_installation)

    told, failed = ask_each(args.cluster_conn_id, give)
    found = [conn_ids for conn_ids, number in told if number]
    if not found and not failed:
        raise InvalidSetting(
            "name",
            f"no cluster has an allocation {name}.",
            remedy="take one of those that `airflow brayns services` lists.",
        )
    rows = [{"cluster": conn_ids, "name": name, "given_back": True} for conn_ids in found]
    return Answer(rows, text=f"{name} has been given back." if found else "", failed=failed)


@command
def reap(args: argparse.Namespace) -> Answer:
    """Print the allocations of this Airflow that nobody will give back any more; with `--yes` they are given back."""
    mark, here = _here()
    if not here.deployment:
        say(UNTOLD)
    seen, troubles = set[tuple[str, str]](), list[BraynsError]()

    async def look(session: Session) -> list[Row]:
        found = leftovers(*await session.cluster.survey(), mark, _state_of, here=here)
        new = [
            one for one in found if (one.name, one.job_id) not in seen
        ]  # else by another login node of the same cluster
        seen.update((one.name, one.job_id) for one in new)
        rows = []
        async for one, became in orphans.reap(session.cluster, new, really=args.yes):
            done = _DONE[became] if isinstance(became, Reaped) else "could not be given back"
            if isinstance(became, BraynsError):
                troubles.append(became)
                say(f"{one.name}: {became}")
            elif one.foreign:
                done = f"{done}: {one.foreign}"
            row = {"name": one.name, "job": one.job_id, "for": str(one.run or "unknown"), "why": one.why}
            rows.append({**row, "done": done})
        return rows

    told, failed = ask_each(args.cluster_conn_id, look)
    rows = [{"cluster": conn_ids} | row for conn_ids, found in told for row in found]
    ours = sum(row["done"] == _DONE[Reaped.FOUND] for row in rows)
    if ours:
        say(f"{ours} would be given back; do it with --yes.")
    failed = failed or bool(troubles)
    return Answer(rows, none="" if failed else "Nothing is left behind.", failed=failed)


def _state_of(run: RunOf) -> str | None:
    """The state of a DAG run, from Airflow's database; None where there is no such run."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        wanted = select(DagRun.state).where(DagRun.dag_id == run.dag_id, DagRun.run_id == run.run_id)
        found = session.scalars(wanted).one_or_none()
    return None if found is None else str(getattr(found, "value", found))
