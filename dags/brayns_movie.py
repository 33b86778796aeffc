"""The main job: allocate nodes, start braynsService on each, render a movie with all of them, give the nodes back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Context, Param, task
from airflow.sdk.exceptions import AirflowSkipException

from airflow_brayns import EncodeMovieOperator, PreviewMovieOperator, RenderFramesOperator, brayns_service
from airflow_brayns.movie.fields import MOST_NODE_HOURS
from airflow_brayns.task.params import PLUGINS_OF_PARAMS, cluster_params, from_params, known_params_only, plugin_params

MORE = ("time_limit", "constraint", "exclusive", "cpus_per_task", "memory")
MOVIE = str(Path(__file__).parent / "movies" / "neuron.yaml")

# What follows account, partition and plugins in the form is folded.
PARAMS = {
    **cluster_params("account", "partition"),
    **plugin_params("braynsCircuitExplorer"),
    "specification": Param(
        MOVIE,
        type=["string", "object"],
        title="Movie",
        description_md="What to render: path of a YAML, JSON or Python file on the worker, or the specification itself. "
        "`airflow brayns movie check FILE` tells whether it can work.",
    ),
    "output": Param(
        None,
        type=["null", "string"],
        title="Output",
        description="The movie's file on the worker; empty: the specification's output.",
    ),
    "nodes": Param(
        2, type="integer", minimum=1, maximum=256, title="Nodes", description="How many nodes, a service each."
    ),
    "budget": Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        maximum=MOST_NODE_HOURS,
        title="Budget",
        description="Node-hours that rendering may use. Then no further frame is begun, what is whole stays, the nodes are given back, and "
        "the run fails without a retry. Empty: the specification's. To go on, write a larger one into the specification and "
        "clear the run.",
    ),
    "approve": Param(
        False,
        type="boolean",
        title="Ask first",
        description="Render a contact sheet with one node, give that back, and wait until somebody approves it in Airflow's "
        "Required Actions or on the page Brayns; only then the nodes are asked for.",
    ),
    "cluster_conn_id": Param(
        "brayns_default",
        type="string",
        title="Cluster",
        section="Cluster",
        description_md="Connection of type `brayns_cluster`. `brayns_default`, where it is not defined, is this machine.",
    ),
    **cluster_params(*MORE, section="Cluster"),
    "renew_before": Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        title="Renew before",
        section="Cluster",
        description="Seconds before an allocation's end at which the next one is queued, for movies longer than a time limit; "
        "empty: no next one.",
    ),
}


def only_where_asked_for(context: Any) -> None:
    """Skip a task of a run that nobody has to approve."""
    if not context["params"]["approve"]:
        raise AirflowSkipException("The run's parameter `approve` is off.")


with DAG(
    dag_id="brayns_movie",
    description="A movie of a scene, rendered by braynsService on as many nodes as you like",
    params=PARAMS,
    schedule=None,
    catchup=False,
    render_template_as_native_obj=True,
    # A try that fails comes again soon, and finds the nodes; the pauses double, so that an outage does not use the tries up.
    default_args={"retry_delay": timedelta(seconds=15), "retry_exponential_backoff": 2},
    tags=["brayns"],
    doc_md=__doc__,
):
    # [START howto_brayns_movie]
    @task(pre_execute=known_params_only)
    def check(params: dict[str, Any] | None = None, run_id: str | None = None, **context: Any) -> dict[str, Any]:
        """Bad input fails here, before a node is asked for."""
        from airflow_brayns.task.movie_fields import check_movie

        return check_movie(params or {}, run_id or "", Context(**context))  # type: ignore[typeddict-item]

    movie = check()
    preview = PreviewMovieOperator(
        task_id="preview",
        pre_execute=only_where_asked_for,
        **from_params("cluster_conn_id", "account", "partition", *MORE),
        plugins=PLUGINS_OF_PARAMS,
        specification="{{ ti.xcom_pull(task_ids='check')['specification'] }}",
        output_file="{{ ti.xcom_pull(task_ids='check')['frames'] }}.preview.jpg",  # this run's own
        retries=3,
    )
    approve = ApprovalOperator(
        task_id="approve",
        pre_execute=only_where_asked_for,
        subject="Render {{ ti.xcom_pull(task_ids='check')['movie'] }} on {{ params.nodes }} node(s)?",
        body="{% set shown = ti.xcom_pull(task_ids='preview', key='brayns_preview') or {} %}"
        "![frames of the movie]({{ shown.picture }})\n\n{{ shown.contact_sheet }}",
    )

    with brayns_service(
        **from_params("cluster_conn_id", "nodes", "account", "partition", *MORE),
        plugins=PLUGINS_OF_PARAMS,
        packing="job_per_node",
        min_ready=1,
        deferrable=True,
        retries=3,
        trigger_rule="none_failed",  # where nobody has to approve it, the two tasks before are skipped
    ) as service:
        frames = RenderFramesOperator(
            task_id="render",
            **from_params("cluster_conn_id", "account", "partition", *MORE),
            allocation="{{ ti.xcom_pull(task_ids='brayns', key='allocation') }}",
            specification="{{ ti.xcom_pull(task_ids='check')['specification'] }}",
            frames_dir="{{ ti.xcom_pull(task_ids='check')['frames'] }}",
            renew_before="{{ params.renew_before }}",
            retries=3,
        )

    EncodeMovieOperator(
        task_id="encode",
        frames_dir=frames.output,
        output_file="{{ ti.xcom_pull(task_ids='check')['movie'] }}",
        keep_frames=False,
        retries=3,
    )
    movie >> preview >> approve >> service
    # [END howto_brayns_movie]
