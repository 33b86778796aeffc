"""`airflow brayns script`: what a task would submit, from what submits it."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.exceptions import ParamValidationError
from jinja2 import TemplateError

from airflow_brayns.cli.connections import opened
from airflow_brayns.cli.console import Answer, command, quiet, say
from airflow_brayns.cluster.owner import About, RunOf, comment
from airflow_brayns.cluster.submission import proofs, sbatch_line
from airflow_brayns.errors import InvalidSetting, reason_of
from airflow_brayns.hooks.cluster import make_cluster
from airflow_brayns.hooks.installation import deployment, installation_id
from airflow_brayns.services.booking import BookingRequest
from airflow_brayns.services.settings import FIELDS
from airflow_brayns.task.operator import BraynsOperator

_ASKS = ("cluster_conn_id", *FIELDS, "nodes", "plugins", "frames_on")  # the fields that say what is asked for


@command
def script(args: argparse.Namespace) -> Answer:
    """Tell what a task would submit."""
    task = _rendered(args.dag_id, args.task_id, _conf(args.conf))
    opened(task.cluster_conn_id)  # says where brayns_default is not defined
    asked = task.bookings()
    if not asked:
        raise InvalidSetting(
            "task_id",
            f"{args.task_id} is a {type(task).__name__}, which allocates nothing as it is.",
            remedy="name a task that allocates: BraynsServiceOperator, BraynsMovieOperator, AllocateNodesOperator.",
        )
    about = About(installation_id(), RunOf(args.dag_id, "RUN_ID", args.task_id), deployment())
    return Answer(text="\n".join(line for one in asked for line in _printed(one, about)))


def _conf(text: str) -> dict[str, Any]:
    try:
        conf = json.loads(text)
    except ValueError as error:
        raise InvalidSetting(
            "--conf", f"{text[:80]!r} is not JSON: {error}", remedy="write JSON in single quotes: '{\"nodes\": 2}'."
        ) from None
    if not isinstance(conf, dict):
        raise InvalidSetting("--conf", f"must be an object, such as '{{\"nodes\": 2}}', not {text[:80]!r}")
    return conf


def _printed(asked: BookingRequest, about: About) -> Iterator[str]:
    """The text for one request of a task: the jobs, which are alike, and what they run."""
    settings, cluster = asked.settings, make_cluster(asked.settings)
    jobs = asked.jobs()
    request, commands = jobs[0]
    where = settings.ssh_conn_id or "this machine"
    yield f"# {asked.purpose}: {_number(len(jobs), 'job')} of {_number(request.nodes, 'node')} on {where}"
    if settings.scheduler == "slurm":
        yield f"# $1: the job's name, ab-<hash of this Airflow, DAG, run, task>-<n>; $2: its folder in {settings.state_dir}"
        yield "# $avoid: nodes on which services fail, as far as others are enough"
        yield sbatch_line(request, comment("", str(about)))
    yield "\n# ---- keeper.sh"
    yield cluster.keeper_for(request, settings.keeper(), proofs(commands))
    for one in commands:
        yield f"# ---- services/{one.name}/command (node {one.index})\n{one.script}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def _rendered(dag_id: str, task_id: str, conf: Mapping[str, Any]) -> BraynsOperator:
    """The task with its fields as a run with these parameters would have them."""
    dag = _dag(dag_id)
    if not dag.has_task(task_id):
        raise InvalidSetting(
            "task_id", f"{dag_id} has no {task_id!r}.", remedy=f"take one of {', '.join(sorted(dag.task_ids))}."
        )
    task = dag.get_task(task_id)
    if isinstance(task, MappedOperator):
        task = _one_of(task)
    if not isinstance(task, BraynsOperator):
        raise InvalidSetting(
            "task_id",
            f"{task_id} is a {type(task).__name__}, which allocates nothing.",
            remedy="name a task that allocates: BraynsServiceOperator, BraynsMovieOperator, AllocateNodesOperator.",
        )
    run = {"dag_run": SimpleNamespace(conf=dict(conf)), "ds": "2000-01-01", "run_id": "RUN_ID"}
    context: Any = {"params": _params(dag, conf), "dag": dag, "task": task, **run}
    task.template_fields = [name for name in task.template_fields if name in _ASKS]
    try:
        with quiet():  # Airflow's templater logs what it raises, with its traceback
            task.render_template_fields(context)
    except TemplateError as error:
        raise InvalidSetting(
            task_id,
            f"a template needs a run that is there ({error}).",
            remedy="give the run by --conf, or look at a run's task.",
        ) from None
    return task


def _params(dag: Any, conf: Mapping[str, Any]) -> dict[str, Any]:
    """The run's parameters, checked as a run's are."""
    params = copy.deepcopy(dag.params)
    for name in sorted(set(conf) - set(params)) if params else ():
        say(f"--conf: {name!r} is no parameter of {dag.dag_id}; it has {', '.join(sorted(params))}.")
    try:
        params.update(conf)
        return dict(params.dump())
    except ParamValidationError as error:
        first = reason_of(error).splitlines()[0]  # behind it stands the whole schema
        known = "see the parameters of the DAG and their help in its trigger form."
        raise InvalidSetting("--conf", first, remedy=known) from None


def _one_of(task: MappedOperator) -> Any:
    """One task of many: with the first of the values that the DAG gives, and none of those that a run finds."""
    given = getattr(task.expand_input, "value", None)
    first: dict[str, Any] = {}
    if isinstance(given, Mapping):
        first = {name: next(iter(found)) for name, found in given.items() if isinstance(found, list | tuple) and found}
    elif isinstance(given, list | tuple) and given and isinstance(given[0], Mapping):
        first = dict(given[0])
    say(
        f"{task.task_id} is mapped: this is one of its tasks, each of which submits the same but for what it is expanded by."
    )
    needed = {"specification": "", "frames_dir": "", "output_file": "", "allocation": None}
    known = {
        name: value for name, value in needed.items() if name in getattr(task.operator_class, "template_fields", ())
    }
    return task.unmap({**known, **first})


def _dag(dag_id: str) -> Any:
    """The DAG, from the bundle that it is in, which a task reads it from, too.

    :raises InvalidSetting: no bundle has it.
    """
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag

    broken: list[str] = []
    for bundle in DagBundlesManager().get_all_dag_bundles():
        bundle.initialize()
        bag = BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        if (dag := bag.dags.get(dag_id)) is not None:
            return dag
        broken += bag.import_errors
    hint = " `airflow dags list` lists those that there are."
    if broken:
        hint = f" These files cannot be read, `airflow dags list-import-errors` says why: {', '.join(broken)}"
    raise InvalidSetting(
        "dag_id", f"no bundle has a DAG {dag_id!r}.{hint}", remedy="take one that `airflow dags list` names."
    )
