"""Gives back what no DAG run uses any more, every quarter of an hour."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, Param

from airflow_brayns import ReapNodesOperator
from airflow_brayns.task.params import known_params_only

# [START howto_brayns_reaper]
with DAG(
    "brayns_reaper",
    schedule=pendulum.duration(minutes=15),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    render_template_as_native_obj=True,
    doc_md=__doc__,
    params={
        "cluster_conn_id": Param(
            "brayns_default", type="string", title="Cluster", description="Connection of type Brayns cluster."
        ),
        "only_say": Param(
            False,
            type="boolean",
            title="Only say",
            description="Say in the log what would be given back, and leave it.",
        ),
    },
):
    ReapNodesOperator(
        task_id="reap",
        pre_execute=known_params_only,
        cluster_conn_id="{{ params.cluster_conn_id }}",
        only_say="{{ params.only_say }}",
    )
# [END howto_brayns_reaper]
