"""A braynsService for interactive use, kept for as long as asked.

The log of the task `how_to_connect` ends with the endpoint, the tunnel command and the Python lines to connect. To end early,
mark the task `keep` as successful: the nodes are given back at once.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import DAG, Param, task

from airflow_brayns import brayns_service
from airflow_brayns.links.texts import connect_lines

log = logging.getLogger(__name__)

with DAG(
    dag_id="brayns_session",
    description="A braynsService to work with interactively, for as long as asked",
    schedule=None,
    catchup=False,
    render_template_as_native_obj=True,
    params={
        "cluster_conn_id": Param(
            "brayns_default", type="string", section="Cluster", description="Connection of type brayns_cluster."
        ),
        "account": Param(None, type=["null", "string"], section="Cluster", description="Empty: the connection's."),
        "partition": Param(None, type=["null", "string"], section="Cluster", description="Empty: the connection's."),
        "minutes": Param(
            60, type="integer", minimum=1, maximum=1420, section="Session", description="How long the service is kept."
        ),
        "plugins": Param(
            ["braynsCircuitExplorer"],
            type="array",
            items={"type": "string"},
            examples=[
                "braynsCircuitExplorer",
                "braynsAtlasExplorer",
                "braynsCylindricCamera",
                "braynsDTI",
                "braynsMoleculeExplorer",
            ],
            section="Session",
            description="Plugins to load.",
        ),
    },
    # A try that fails comes again soon, and finds the nodes; the pauses double, so that an outage does not use the tries up.
    default_args={"retry_delay": timedelta(seconds=15), "retry_exponential_backoff": 2},
    tags=["brayns"],
    doc_md=__doc__,
):
    # [START howto_brayns_session]
    with brayns_service(
        cluster_conn_id="{{ params.cluster_conn_id }}",
        account="{{ params.account }}",
        partition="{{ params.partition }}",
        plugins="{{ params.plugins }}",
        # The session's own limit: nobody need touch it for as long as it was asked for.
        idle_limit="{{ params.minutes * 60 + 300 }}",
        time_limit="{{ params.minutes + 15 }}",
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
            DateTimeSensorAsync(task_id="keep", target_time="{{ ti.xcom_pull(task_ids='how_to_connect') }}")
            << how_to_connect()
        )
    # [END howto_brayns_session]
