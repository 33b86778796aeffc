"""Links on a task's page: its job, its endpoint, its service's log, the tunnel command.

Airflow shows what lies in XCom under a link's key, so each link stores there what `get_link` reads.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import XCom
from airflow.sdk import BaseOperatorLink

from airflow_brayns.links import keys


class _XComLink(BaseOperatorLink):
    """A link that reads one XCom key of the task."""

    key = ""

    @property
    def xcom_key(self) -> str:
        """The XCom key under which the finished link is kept."""
        return f"brayns_link_{type(self).__name__}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The link; empty while there is nothing to link to."""
        value = XCom.get_value(ti_key=ti_key, key=self.key)
        return self.link(value, ti_key) if value else ""

    def link(self, value: Any, ti_key: Any) -> str:
        """The address of the task's own page of XComs, which shows the key; Airflow's pages follow only links with an
        address.
        """
        mapped = f"/mapped/{ti_key.map_index}" if (ti_key.map_index or -1) >= 0 else ""
        parts = (quote(str(part), safe="") for part in (ti_key.dag_id, ti_key.run_id, ti_key.task_id))
        return "/dags/{}/runs/{}/tasks/{}".format(*parts) + f"{mapped}/xcom"


class EndpointLink(_XComLink):
    """A link to the first service's own address where a browser reaches it (XCom `brayns_url`); else the task's XComs,
    which tell the way.
    """

    name = "Brayns endpoint"
    key = keys.URL

    def link(self, value: Any, ti_key: Any) -> str:
        """See `_XComLink.link`."""
        return str(value["url"]) or super().link(value, ti_key)


class SlurmJobLink(_XComLink):
    """A link to the jobs, and to the commands that look at them (XCom `brayns_jobs`)."""

    name = "Slurm job"
    key = keys.JOBS


class ServiceLogLink(_XComLink):
    """A link to the commands that show the services' logs (XCom `brayns_log`)."""

    name = "Service log"
    key = keys.LOG


class TunnelLink(_XComLink):
    """A link to the command that makes a tunnel to the first service (XCom `brayns_tunnel`)."""

    name = "Tunnel command"
    key = keys.TUNNEL


class MovieLink(_XComLink):
    """A link to the path of the movie, its poster and its contact sheet (XCom `brayns_movie`)."""

    name = "Movie"
    key = keys.MOVIE


# The links of every task that hands services on.
LINKS = (EndpointLink(), SlurmJobLink(), ServiceLogLink(), TunnelLink())
