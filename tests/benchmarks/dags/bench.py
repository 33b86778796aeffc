"""The hand-over, and a deferrable task that does nothing."""

from __future__ import annotations

from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import DAG

from airflow_brayns import brayns_service

with (
    DAG("bench_handover", schedule=None),
    brayns_service(cluster_conn_id="test_cluster", plugins=["braynsCircuitExplorer"], deferrable=True),
):
    pass

with DAG("bench_nothing", schedule=None):
    DateTimeSensorAsync(task_id="nothing", target_time="2020-01-01T00:00:00+00:00")
