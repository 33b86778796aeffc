"""A movie for each specification in a folder, each as one task that holds a pool slot from allocation to release."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, conf, task

from airflow_brayns import BraynsMovieOperator

FOLDER = str(Path(__file__).parent / "movies")

with DAG(
    dag_id="brayns_movie_batch",
    description="A movie for each specification in a folder",
    params={
        "folder": Param(
            FOLDER,
            type="string",
            section="Movies",
            description="Folder on the worker; each *.yaml, *.yml and *.json in it is a movie's specification.",
        ),
        "output": Param(
            "out/batch",
            type="string",
            section="Movies",
            description="Folder on the worker; each movie gets its specification's name.",
        ),
        "cluster_conn_id": Param(
            "brayns_default", type="string", section="Cluster", description="Connection of type brayns_cluster."
        ),
        "nodes": Param(
            1, type="integer", minimum=1, maximum=256, section="Cluster", description="Nodes for each movie."
        ),
        "plugins": Param(
            ["braynsCircuitExplorer"],
            type="array",
            items={"type": "string"},
            section="Cluster",
            description="Plugins that each service must have loaded.",
        ),
        "renew_before": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
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
    @task
    def find(params: dict[str, Any] | None = None) -> list[dict[str, str]]:
        """One entry a movie; a folder without any is a mistake, not a success."""
        from airflow_brayns.operators.check import find_movies

        return find_movies(params or {})

    BraynsMovieOperator.partial(
        task_id="movie",
        map_index_template="{{ task.output_file }}",
        cluster_conn_id="{{ params.cluster_conn_id }}",
        nodes="{{ params.nodes }}",
        plugins="{{ params.plugins }}",
        renew_before="{{ params.renew_before }}",
        pool=conf.get("brayns", "movie_pool", fallback="default_pool"),
        retries=3,
    ).expand_kwargs(find())
    # [END howto_brayns_movie_batch]
