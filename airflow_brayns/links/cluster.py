"""Links on a task's page: its job, its endpoint, its service's log, the tunnel command.

Airflow shows what lies in XCom under a link's key, so each link stores there what `get_link` reads.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import XCom
from airflow.sdk import BaseOperatorLink

from airflow_brayns.links import texts


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
        return self.link(value) if value else ""

    def link(self, value: Any) -> str:
        raise NotImplementedError


class EndpointLink(_XComLink):
    """The first service's own address: its health, or its version for generation 1."""

    name = "Brayns endpoint"
    key = "services"

    def link(self, value: Any) -> str:
        """See `_XComLink.link`."""
        first = value[0]
        return f"http://{first['endpoint']}/{'version' if first['generation'] == 1 else 'healthz'}"


class SlurmJobLink(_XComLink):
    """The jobs and how to look at them."""

    name = "Slurm job"
    key = "allocation"

    def link(self, value: Any) -> str:
        """See `_XComLink.link`."""
        return _text(texts.jobs([allocation["job_id"] for allocation in value["allocations"]]))


class ServiceLogLink(_XComLink):
    """Where the services' logs are."""

    name = "Service log"
    key = "services"

    def link(self, value: Any) -> str:
        """See `_XComLink.link`."""
        return _text("\n".join(f"{one['node']}: {one['log']}" for one in value))


class TunnelLink(_XComLink):
    """The command that makes a tunnel to the first service."""

    name = "Tunnel command"
    key = "brayns_tunnel"

    def link(self, value: Any) -> str:
        """See `_XComLink.link`."""
        return _text(str(value))


def _text(text: str) -> str:
    """A text as a page of its own; what it shows is a command or a path, for which no address exists."""
    return "data:text/plain;charset=utf-8," + quote(text)
