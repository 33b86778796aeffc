"""`airflow brayns …`: what the commands do."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from typing import Any

from airflow.sdk import BaseHook
from jinja2 import UndefinedError

from airflow_brayns.booking import service_commands
from airflow_brayns.cluster.allocation import AllocationStatus, JobState
from airflow_brayns.cluster.submission import comment, proofs, sbatch_line
from airflow_brayns.errors import BraynsError, InvalidSetting
from airflow_brayns.hooks.cluster import BraynsClusterHook, make_cluster
from airflow_brayns.hooks.installation import deployment, installation_id, made_of_shared_key
from airflow_brayns.operators.base import whole_number, word_list
from airflow_brayns.operators.cluster import AllocateNodesOperator
from airflow_brayns.operators.movie import BraynsMovieOperator
from airflow_brayns.reaper import Here, RunOf, find_leftovers, give_back, whose
from airflow_brayns.settings import CONNECTION_TYPE, DEFAULT_CONN_ID, is_name


def _clusters() -> list[str]:
    """Every connection of our type, and the embedded default."""
    from airflow.models import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalars(select(Connection.conn_id).where(Connection.conn_type == CONNECTION_TYPE)).all()
    prefix = "AIRFLOW_CONN_"
    defined = {name.removeprefix(prefix).lower() for name in os.environ if name.startswith(prefix)}
    ours = {name for name in defined if BaseHook.get_connection(name).conn_type == CONNECTION_TYPE}
    return sorted({*found, *ours, DEFAULT_CONN_ID})


async def _list(cluster_conn_id: str) -> list[AllocationStatus]:
    hook = BraynsClusterHook(cluster_conn_id)
    async with hook.connect(hook.settings) as poller:
        return await poller.cluster.list_all()


def _see_connections() -> None:
    """Outside of tasks Airflow reads connections from the environment only, unless a process says that it is the server's."""
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"


def services(args: argparse.Namespace) -> None:
    """Print what has not ended."""
    _see_connections()
    mine = _here()
    rows: list[tuple[str, ...]] = [("CLUSTER", "NAME", "JOB", "STATE", "SERVICE", "ENDPOINT", "FOR")]
    for cluster in [args.cluster_conn_id] if args.cluster_conn_id else _clusters():
        try:
            found = asyncio.run(_list(cluster))
        except BraynsError as error:
            print(f"{cluster}: {error}")
            continue
        for status in found:
            if status.state is not JobState.ENDED:
                rows.extend(_rows(cluster, status, _of_another(status, mine)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _here() -> tuple[str, Here]:
    """This Airflow's mark, and what tells it from another one with the same."""
    mark = installation_id()
    return mark, Here(deployment(), made_of_shared_key(mark))


def _of_another(status: AllocationStatus, mine: tuple[str, Here]) -> str:
    """Which other Airflow asked for an allocation; empty for this one's, and for what bears no mark (a preview)."""
    mark, where = whose(status)
    if not mark or (mark == mine[0] and not mine[1].foreign(where)):
        return ""
    return where or ("of version 0.2.0 with this one's mark" if mark == mine[0] else f"with the mark {mark[:64]}")


def _rows(cluster: str, status: AllocationStatus, other: str = "") -> list[tuple[str, ...]]:
    try:
        about = json.loads(status.about)
        what = f"{about['dag_id']} {about['run_id']} {about['task_id']}"
    except (ValueError, KeyError, TypeError):
        what = "unknown"
    what += f" (another Airflow, {other})" if other else ""
    head = (cluster, f"{status.name}", status.job_id, status.state.value)
    alive = [service for service in status.services if service.exit_code is None]
    return [
        (*head, service.name, f"{service.node}:{service.port or '-'}" if service.node else "-", what)
        for service in alive
    ] or [(*head, "-", "-", what)]


def release(args: argparse.Namespace) -> None:
    """Give an allocation back."""
    _see_connections()
    if not is_name(args.name):
        raise SystemExit(f"{args.name!r} is no allocation's name; `airflow brayns services` lists them.")
    found, troubles = 0, []
    for cluster in [args.cluster_conn_id] if args.cluster_conn_id else _clusters():
        try:
            found += asyncio.run(_release(cluster, args.name, args.any_installation))
        except BraynsError as error:  # the others are still asked: it may be there
            troubles.append(f"{cluster}: {error}")
    if troubles:
        done = f"{args.name} has been given back on another cluster.\n" if found else ""
        raise SystemExit(done + "\n".join(troubles))
    if not found:
        raise SystemExit(f"No cluster has an allocation {args.name}; `airflow brayns services` lists what there is.")
    print(f"{args.name} has been given back.")


async def _release(cluster_conn_id: str, name: str, any_installation: bool = False) -> int:
    hook, mine = BraynsClusterHook(cluster_conn_id), _here()
    async with hook.connect(hook.settings) as poller:
        for status in [] if any_installation else await poller.cluster.list_all():
            if status.name.startswith(name) and (other := _of_another(status, mine)):
                raise InvalidSetting(
                    "name",
                    f"{status.name} was asked for by another Airflow, {other}. With --any-installation it is given back.",
                )
        return await poller.cluster.release(name)


def reap(args: argparse.Namespace) -> None:
    """Say which allocations of this Airflow nobody will give back any more; with `--yes`, give them back."""
    _see_connections()
    failures = found = 0
    for cluster in [args.cluster_conn_id] if args.cluster_conn_id else _clusters():
        try:
            number, failed = asyncio.run(_reap(cluster, args.yes))
            found, failures = found + number, failures + failed
        except BraynsError as error:
            print(f"{cluster}: {error}")
            failures += 1
    if not found and not failures:
        print("Nothing is left behind.")
    elif found and not args.yes:
        print(f"{found} would be given back; do it with --yes.")
    if failures:
        raise SystemExit(1)


async def _reap(cluster_conn_id: str, really: bool) -> tuple[int, int]:
    """How many there are, and how many could not be given back."""
    hook = BraynsClusterHook(cluster_conn_id)
    failed = 0
    async with hook.connect(hook.settings) as poller:
        mark, here = _here()
        found = await find_leftovers(poller.cluster, mark, _state_of, here=here)
        for one in found:
            print(f"{cluster_conn_id}  {one.name}  job {one.job_id}  {one.run or 'unknown'}: {one.why}")
            if one.foreign:
                print(f"  {one.foreign}")
            elif really:
                try:
                    done = await give_back(poller.cluster, one)
                    print("  given back" if done else "  somebody has taken it over meanwhile; left alone")
                except BraynsError as error:
                    failed += 1
                    print(f"  {error}")
    return sum(not one.foreign for one in found), failed


def _state_of(run: RunOf) -> str | None:
    """From Airflow's database."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        wanted = select(DagRun.state).where(DagRun.dag_id == run.dag_id, DagRun.run_id == run.run_id)
        found = session.scalars(wanted).one_or_none()
    return None if found is None else str(getattr(found, "value", found))


def script(args: argparse.Namespace) -> None:
    """Print what would be submitted."""
    _see_connections()
    task = _rendered(args.dag_id, args.task_id, json.loads(args.conf))
    if not isinstance(task, AllocateNodesOperator | BraynsMovieOperator):
        raise SystemExit(f"{args.task_id} is a {type(task).__name__}, which allocates nothing.")
    try:
        settings = task.hook.settings
        cluster = make_cluster(settings)
        nodes = whole_number("nodes", task.nodes)
        size = nodes if settings.packing == "one_job" else 1
        request = settings.request(size)
        plugins = word_list("plugins", getattr(task, "plugins", None) or [])
        starts = isinstance(task, BraynsMovieOperator) or hasattr(task, "plugins")
        commands = service_commands(settings, plugins, size) if starts else []
    except BraynsError as error:
        raise SystemExit(str(error)) from None
    jobs = nodes // size
    print(
        f"# {jobs} job{'s' if jobs > 1 else ''} of {size} node{'s' if size > 1 else ''} on {settings.ssh_conn_id or 'this machine'}"
    )
    if settings.scheduler == "slurm":
        told = {"installation": installation_id(), "dag_id": args.dag_id, "run_id": "RUN_ID", "task_id": args.task_id}
        told["deployment"] = deployment()
        about = json.dumps(told)
        line = sbatch_line(request, comment("", about)).removeprefix("at_most 60 ")
        print(
            "# $1: the job's name, ab-<hash of this Airflow, DAG, run, task>-<n>; $2: its folder in", settings.state_dir
        )
        print(line)
    print("\n# ---- keeper.sh")
    print(cluster.keeper_for(request, settings.keeper(), proofs(commands)))
    for command in commands:
        print(f"# ---- services/{command.name}/command (node {command.index})")
        print(command.script)


def _rendered(dag_id: str, task_id: str, conf: dict[str, Any]) -> Any:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import conf as configuration

    bag = DagBag(configuration.get("core", "dags_folder"))
    dag = bag.dags.get(dag_id)
    if dag is None:
        raise SystemExit(f"No DAG {dag_id!r} in the DAG folder. {bag.import_errors or ''}")
    if not dag.has_task(task_id):
        raise SystemExit(f"{dag_id} has no task {task_id!r}; it has {', '.join(dag.task_ids)}.")
    task = dag.get_task(task_id)
    params = {**dag.params.dump(), **conf}
    try:
        _render(task, dag, params)
    except UndefinedError as error:
        raise SystemExit(
            f"{task_id}: a template needs a run that is there ({error}); give it by --conf, or look at a run's task."
        ) from None
    return task


def _render(task: Any, dag: Any, params: dict[str, Any]) -> None:
    task.render_template_fields({"params": params, "dag": dag, "task": task, "ds": "2000-01-01", "run_id": "script"})
