"""Links lead somewhere that a browser reaches: an address, or the task's page of XComs, which shows what to type."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_brayns.links import cluster
from airflow_brayns.links.cluster import EndpointLink, MovieLink, ServiceLogLink, TunnelLink
from airflow_brayns.operators.encode import EncodeMovieOperator
from airflow_brayns.operators.movie import BraynsMovieOperator
from airflow_brayns.operators.service import BraynsServiceOperator

KEY = SimpleNamespace(dag_id="d", run_id="r 1", task_id="t", map_index=-1)
PAGE = "/dags/d/runs/r%201/tasks/t/xcom"


@pytest.mark.parametrize(
    ("link", "told", "leads"),
    [
        (EndpointLink, {"brayns_url": {"url": "http://n1:5000/healthz"}}, "http://n1:5000/healthz"),
        (EndpointLink, {"brayns_url": {"url": ""}}, PAGE),
        (EndpointLink, {"brayns_url": ""}, ""),
        (EndpointLink, {}, ""),
        (ServiceLogLink, {"brayns_log": "ssh login 'tail -f /x'"}, PAGE),
        (TunnelLink, {"brayns_tunnel": "ssh -N"}, PAGE),
        (MovieLink, {"brayns_movie": {"movie": "/m.mp4"}}, PAGE),
        (MovieLink, {}, ""),
    ],
)
def test_a_link_leads_somewhere_or_is_none(
    monkeypatch: pytest.MonkeyPatch, link: Any, told: dict[str, Any], leads: str
) -> None:
    monkeypatch.setattr(cluster.XCom, "get_value", lambda ti_key, key: told.get(key))
    assert link().get_link(None, ti_key=KEY) == leads


def test_who_makes_a_movie_links_to_it_and_who_starts_a_service_to_its_log() -> None:
    for operator in (BraynsMovieOperator, EncodeMovieOperator):
        assert "Movie" in {link.name for link in operator.operator_extra_links}
    assert {"Brayns endpoint", "Service log"} <= {link.name for link in BraynsServiceOperator.operator_extra_links}
