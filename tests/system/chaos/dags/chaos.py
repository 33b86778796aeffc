"""DAGs that are killed: a service that somebody uses, and a movie as one task. Small and quick."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from airflow_brayns import BraynsMovieOperator, ReapNodesOperator, brayns_service, open_endpoint
from airflow_brayns.brayns.client import BraynsClient

SECOND = timedelta(seconds=1)
PARAMS = {
    "specification": Param({}, type="object"),
    "folder": Param("", type="string"),
    "nodes": Param(1, type="integer"),
    "emulator": Param("snapshot_seconds=0", type="string"),
    "plugins": Param([], type="array"),
    "port": Param("0", type="string"),
    "idle_limit": Param(30, type="number"),
}


def fields() -> dict[str, Any]:
    """What both kinds are told by the run's conf. `CHAOS_RUN` marks the services of this run, for who looks from outside."""
    return {
        "cluster_conn_id": "test_cluster",
        "environment": {"BRAYNS_EMULATOR": "{{ params.emulator }}", "CHAOS_RUN": "{{ run_id }}"},
        "plugins": "{{ params.plugins }}",
        "port": "{{ params.port }}",
        "idle_limit": "{{ params.idle_limit }}",
        "start_timeout": 90,
        "retries": 3,
        "retry_delay": SECOND,
    }


def write(path: Path, value: dict[str, Any]) -> None:
    """Never seen half-written."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value))
    new.rename(path)


async def ask(near: str) -> dict[str, Any]:
    host, _, port = near.rpartition(":")
    async with BraynsClient(f"{host}:{port}", timeout=10) as client:
        version = (await client.call("get-version")).result
        return {"version": version, "plugins": (await client.call("get-application-parameters")).result["plugins"]}


@task(retries=2, retry_delay=SECOND)
def use() -> None:
    """Works with the endpoint that was handed on, and says what it found there."""
    context = get_current_context()
    ti = context["ti"]
    services = ti.xcom_pull(task_ids="brayns", key="services")
    endpoint = ti.xcom_pull(task_ids="brayns", key="endpoint")
    file = Path(context["params"]["folder"]) / f"used.{time.time_ns()}.{os.getpid()}.json"
    told: dict[str, Any] = {"endpoint": endpoint, "services": services, "at": time.time(), "answer": None}
    write(file, told)
    with open_endpoint(endpoint, "test_cluster") as near:
        told["answer"] = asyncio.run(ask(near))
    write(file, {**told, "answered": time.time()})
    time.sleep(1.5)


def dag(dag_id: str) -> DAG:
    return DAG(dag_id, schedule=None, params=PARAMS, render_template_as_native_obj=True)


def service_dag(dag_id: str, *, deferrable: bool) -> DAG:
    with dag(dag_id) as made, brayns_service(deferrable=deferrable, **fields()):
        use()
    return made


def movie_dag(dag_id: str) -> DAG:
    with dag(dag_id) as made:
        BraynsMovieOperator(
            task_id="movie",
            specification="{{ params.specification }}",
            output_file="{{ params.folder }}/movie.mp4",
            frames_dir="{{ params.folder }}/frames",
            nodes="{{ params.nodes }}",
            keep_frames=True,
            poster=False,
            contact_sheet=False,
            **fields(),
        )
    return made


def reaper_dag(dag_id: str) -> DAG:
    """For what Slurm itself still has for running after a crash of its own: nothing inside the job can end it any more."""
    with dag(dag_id) as made:
        ReapNodesOperator(task_id="reap", cluster_conn_id="test_cluster", retries=3, retry_delay=SECOND)
    return made


MADE = [
    service_dag("chaos_service", deferrable=True),
    service_dag("chaos_blocking", deferrable=False),
    movie_dag("chaos_movie"),
    reaper_dag("chaos_reaper"),
]
globals().update({made.dag_id: made for made in MADE})
