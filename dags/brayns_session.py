"""A braynsService for interactive use, kept for as long as asked.

Its service is watched: when it or its job ends, the run ends at once and says why. The log of the task `how_to_connect` ends with the endpoint, the tunnel command and the Python lines to connect. To end early,
mark the task `keep` as successful: the nodes are given back at once. For more time, clear the task `extend` (that task alone): the session
lasts as many minutes again, from then on. The page *Brayns* has a button for each.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_brayns import BraynsSessionSensor, ExtendSessionOperator, brayns_service
from airflow_brayns.links.texts import connect_lines
from airflow_brayns.task.params import PLUGINS_OF_PARAMS, cluster_params, from_params, known_params_only, plugin_params

MORE = ("constraint", "exclusive", "cpus_per_task", "memory")
log = logging.getLogger(__name__)

with DAG(
    dag_id="brayns_session",
    description="A braynsService to work with interactively, for as long as asked",
    schedule=None,
    catchup=False,
    render_template_as_native_obj=True,
    # What follows account, partition and plugins in the form is folded.
    params={
        **cluster_params("account", "partition"),
        **plugin_params("braynsCircuitExplorer"),
        "minutes": Param(
            60, type="integer", minimum=1, maximum=1420, title="Minutes", description="How long the service is kept."
        ),
        "nodes": Param(
            1, type="integer", minimum=1, maximum=256, title="Nodes", description="How many nodes, a service each."
        ),
        "cluster_conn_id": Param(
            "brayns_default",
            type="string",
            title="Cluster",
            section="Cluster",
            description="Connection of type brayns_cluster.",
        ),
        **cluster_params("time_limit", *MORE, section="Cluster"),
    },
    # A try that fails comes again soon, and finds the nodes; the pauses double, so that an outage does not use the tries up.
    default_args={"retry_delay": timedelta(seconds=15), "retry_exponential_backoff": 2},
    tags=["brayns"],
    doc_md=__doc__,
):
    # [START howto_brayns_session]
    # What follows on is asked for with the same.
    asked = {
        **from_params("cluster_conn_id", "account", "partition", *MORE),
        # The session's own limit: nobody need touch it for as long as it was asked for.
        "idle_limit": "{{ params.minutes * 60 + 300 }}",
        "time_limit": "{{ params.time_limit or params.minutes + 15 }}",
    }
    with brayns_service(
        **asked,
        nodes="{{ params.nodes }}",
        plugins=PLUGINS_OF_PARAMS,
        pre_execute=known_params_only,
        deferrable=True,
        retries=3,
    ) as service:

        @task
        def how_to_connect(ti: Any = None, params: dict[str, int] | None = None) -> str:
            """What the WebBrayns page gave. Returns when the session ends."""
            keys = ("endpoint", "brayns_tunnel", "services")
            endpoint, tunnel, services = (ti.xcom_pull(task_ids="brayns", key=key) for key in keys)
            ends = datetime.now(UTC) + timedelta(minutes=(params or {})["minutes"])
            near = "localhost:5000" if tunnel.startswith("ssh") else endpoint
            log.info("The session ends at %s", ends.isoformat(timespec="seconds"))
            log.info("Endpoint: %s", endpoint)
            log.info("Tunnel: %s", tunnel)
            for line in connect_lines(near, bool(services[0].get("certificate"))).splitlines():
                log.info("%s", line)
            return ends.isoformat()

        (
            BraynsSessionSensor(
                task_id="keep",
                cluster_conn_id="{{ params.cluster_conn_id }}",
                allocation="{{ ti.xcom_pull(task_ids='brayns', key='allocation') }}",
                until="{{ ti.xcom_pull(task_ids='how_to_connect') }}",
                retries=3,  # of a cluster that cannot be reached; a service that is gone ends the session at once
            )
            << how_to_connect()
        )

    # Cleared, it gives the session `minutes` from then on.
    service >> ExtendSessionOperator(
        task_id="extend",
        **asked,
        allocation="{{ ti.xcom_pull(task_ids='brayns', key='allocation') }}",
        minutes="{{ params.minutes }}",
        retries=2,
    )
    # [END howto_brayns_session]
