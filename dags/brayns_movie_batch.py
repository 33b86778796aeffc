"""A movie for each specification in a folder, each as one task that holds a pool slot from allocation to release."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Context, Param, conf, task

from airflow_brayns import BraynsMovieOperator
from airflow_brayns.task.params import PLUGINS_OF_PARAMS, cluster_params, from_params, known_params_only, plugin_params

MORE = ("time_limit", "constraint", "exclusive", "cpus_per_task", "memory")
FOLDER = str(Path(__file__).parent / "movies")

with DAG(
    dag_id="brayns_movie_batch",
    description="A movie for each specification in a folder",
    # What follows account, partition and plugins in the form is folded.
    params={
        **cluster_params("account", "partition"),
        **plugin_params("braynsCircuitExplorer"),
        "folder": Param(
            FOLDER,
            type="string",
            title="Movies",
            description="Folder on the worker; each *.yaml, *.yml, *.json and *.py in it is a movie.",
        ),
        "output": Param(
            "out/batch",
            type="string",
            title="Output",
            description="Folder on the worker; each movie gets its specification's name.",
        ),
        "nodes": Param(
            1, type="integer", minimum=1, maximum=256, title="Nodes", description="How many nodes for each movie."
        ),
        "cluster_conn_id": Param(
            "brayns_default",
            type="string",
            title="Cluster",
            section="Cluster",
            description="Connection of type brayns_cluster.",
        ),
        **cluster_params(*MORE, section="Cluster"),
        "renew_before": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            title="Renew before",
            section="Cluster",
            description="Seconds before an allocation's end at which the next one is queued; empty: no next one.",
        ),
    },
    schedule=None,
    catchup=False,
    render_template_as_native_obj=True,
    # A try that fails comes again soon, and finds the nodes; the pauses double, so that an outage does not use the tries up.
    default_args={"retry_delay": timedelta(seconds=15), "retry_exponential_backoff": 2},
    tags=["brayns"],
    doc_md=__doc__,
):
    # [START howto_brayns_movie_batch]
    @task(pre_execute=known_params_only)
    def find(params: dict[str, Any] | None = None, **context: Any) -> list[dict[str, str]]:
        """One entry a movie; a folder without any is a mistake, not a success."""
        from airflow_brayns.task.movie_fields import find_movies

        return find_movies(params or {}, Context(**context))  # type: ignore[typeddict-item]

    BraynsMovieOperator.partial(
        task_id="movie",
        map_index_template="{{ task.output_file }}",
        **from_params("cluster_conn_id", "nodes", "account", "partition", "renew_before", *MORE),
        plugins=PLUGINS_OF_PARAMS,
        pool=conf.get("brayns", "movie_pool", fallback="default_pool"),
        retries=3,
    ).expand_kwargs(find())
    # [END howto_brayns_movie_batch]
