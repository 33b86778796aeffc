"""Links on a task's page: its job, its endpoint, its service's log, the tunnel command.

Airflow shows what lies in XCom under a link's key, so each link stores there what `get_link` reads.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import XCom
from airflow.sdk import BaseOperatorLink


class _XComLink(BaseOperatorLink):
    """Reads one XCom key of the task and makes a link of it."""

    key = ""

    @property
    def xcom_key(self) -> str:
        """Where the finished link is kept."""
        return f"brayns_link_{type(self).__name__}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The link, or nothing while there is nothing to link to."""
        value = XCom.get_value(ti_key=ti_key, key=self.key)
        return self.link(value, ti_key) if value else ""

    def link(self, value: Any, ti_key: Any) -> str:
        """The task's own page of XComs, which shows the key: Airflow's pages follow only links with an address."""
        mapped = f"/mapped/{ti_key.map_index}" if (ti_key.map_index or -1) >= 0 else ""
        parts = (quote(str(part), safe="") for part in (ti_key.dag_id, ti_key.run_id, ti_key.task_id))
        return "/dags/{}/runs/{}/tasks/{}".format(*parts) + f"{mapped}/xcom"


class EndpointLink(_XComLink):
    """The first service's own address: its health, or its version for generation 1."""

    name = "Brayns endpoint"
    key = "services"

    def link(self, value: Any, ti_key: Any) -> str:
        """See `_XComLink.link`."""
        first = value[0]
        scheme = "https" if "certificate" in first else "http"
        return f"{scheme}://{first['endpoint']}/{'version' if first['generation'] == 1 else 'healthz'}"


class SlurmJobLink(_XComLink):
    """The jobs, and how to look at them (XCom `brayns_jobs`)."""

    name = "Slurm job"
    key = "brayns_jobs"


class ServiceLogLink(_XComLink):
    """Where the services' logs are (XCom `services`)."""

    name = "Service log"
    key = "services"


class TunnelLink(_XComLink):
    """The command that makes a tunnel to the first service (XCom `brayns_tunnel`)."""

    name = "Tunnel command"
    key = "brayns_tunnel"
