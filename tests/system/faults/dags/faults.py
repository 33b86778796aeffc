"""DAGs that the fault table breaks: a service with something to do, a movie as one task, a service for each of three films."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task, task_group

from airflow_brayns import (
    BraynsMovieOperator,
    BraynsServiceOperator,
    ReleaseNodesOperator,
    RenderFramesOperator,
    brayns_service,
    open_endpoint,
)
from airflow_brayns.brayns.client import BraynsClient

# A service whose gate is there is being set up for as long as it is.
SETUP = 'while [ -e "$HOME/faults/gates/start.$FAULTS_RUN" ]; do sleep 0.2; done'

PARAMS = {
    "specification": Param({}, type="object"),
    "folder": Param("", type="string"),
    "output": Param(None, type=["null", "string"]),
    "gate": Param("", type="string", description="`use` ends when this file is there."),
    "executable": Param(None, type=["null", "string"]),
    "emulator": Param("snapshot_seconds=0", type="string"),
    "plugins": Param([], type="array"),
    "sbatch_options": Param([], type="array"),
    "partition": Param(None, type=["null", "string"]),
    "state_dir": Param(None, type=["null", "string"]),
    "time_limit": Param(None, type=["null", "string"]),
    "port": Param("0", type="string"),
    "idle_limit": Param(40, type="number"),
    "start_timeout": Param(90, type="number"),
}


def fields() -> dict[str, Any]:
    """What every operator here is told by the run's conf."""
    templated = ("executable", "plugins", "sbatch_options", "partition", "state_dir", "time_limit", "port", "idle_limit", "start_timeout")  # fmt: skip
    return {
        **{name: f"{{{{ params.{name} }}}}" for name in templated},
        "cluster_conn_id": "test_cluster",
        "environment": {"BRAYNS_EMULATOR": "{{ params.emulator }}", "FAULTS_RUN": "{{ run_id }}"},
        "setup": SETUP,
        "retry_delay": timedelta(seconds=1),
    }


def renders(retries: int, retry_delay: timedelta) -> RenderFramesOperator:
    return RenderFramesOperator(
        task_id="render",
        cluster_conn_id="test_cluster",
        state_dir="{{ params.state_dir }}",
        start_timeout="{{ params.start_timeout }}",
        allocation="{{ ti.xcom_pull(task_ids='brayns', key='allocation') }}",
        specification="{{ params.specification }}",
        frames_dir="{{ params.folder }}/frames",
        retries=retries,
        retry_delay=retry_delay,
    )


@task
def use(params: dict[str, Any] | None = None) -> None:
    """Stands for whoever works with the service, until told to stop."""
    while not Path((params or {})["gate"]).exists():
        time.sleep(0.2)


def dag(dag_id: str, **kwargs: Any) -> DAG:
    return DAG(dag_id, schedule=None, params=PARAMS, render_template_as_native_obj=True, **kwargs)


def service_dag(dag_id: str, *, rendering: bool = False, run_timeout: int | None = None, **kwargs: Any) -> DAG:
    """A service, somebody who uses it, and its release.

    :param rendering: it renders frames; else it waits for the file `gate`.
    :param run_timeout: seconds of `dagrun_timeout`.
    :param kwargs: of the operator.
    """
    limit = None if run_timeout is None else timedelta(seconds=run_timeout)
    arguments = {"deferrable": True, "retries": 0, **fields(), **kwargs}
    with dag(dag_id, dagrun_timeout=limit) as made, brayns_service(**arguments):
        renders(arguments["retries"], arguments["retry_delay"]) if rendering else use()
    return made


@task(task_id="use")
def work(endpoint: str, params: dict[str, Any] | None = None) -> None:
    """Works with the service for as long as it is told to, without a byte on its port in between."""
    with open_endpoint(endpoint, "test_cluster") as near:
        while not Path((params or {})["gate"]).exists():
            time.sleep(0.2)

        async def version() -> Any:
            async with BraynsClient(near) as client:
                return (await client.call("get-version")).result["major"]

        print("it still answers:", asyncio.run(version()))


def working_dag(dag_id: str) -> DAG:
    """A service, and somebody whose work takes long."""
    with dag(dag_id) as made, brayns_service(deferrable=True, retries=2, **fields()):
        work("{{ ti.xcom_pull(task_ids='brayns', key='endpoint') }}")
    return made


def shared_dag(dag_id: str) -> DAG:
    """Two movies that are given the same endpoint, side by side."""
    with dag(dag_id) as made, brayns_service(deferrable=True, retries=2, **fields()):
        for name, folder in (("render", "frames"), ("render_too", "frames-too")):
            RenderFramesOperator(
                task_id=name,
                cluster_conn_id="test_cluster",
                endpoints="{{ ti.xcom_pull(task_ids='brayns', key='return_value') }}",
                specification="{{ params.specification }}",
                frames_dir="{{ params.folder }}/" + folder,
            )
    return made


def movie_dag(dag_id: str, **kwargs: Any) -> DAG:
    """All of it as one task."""
    with dag(dag_id) as made:
        BraynsMovieOperator(
            task_id="movie",
            specification="{{ params.specification }}",
            output_file="{{ params.output or params.folder ~ '/movie.mp4' }}",
            frames_dir="{{ params.folder }}/frames",
            keep_frames=True,
            poster=False,
            contact_sheet=False,
            **{**fields(), **kwargs},
        )
    return made


def mapped_dag(dag_id: str) -> DAG:
    """Three services, each in a group of its own."""
    with dag(dag_id) as made:

        @task_group
        def film(number: int) -> None:
            with brayns_service(deferrable=True, retries=2, **fields()):
                use()

        film.expand(number=[0, 1, 2])
    return made


def mapped_whole_dag(dag_id: str) -> DAG:
    """Two services of one mapped task, and one release for both."""
    with dag(dag_id) as made:
        start = BraynsServiceOperator.partial(task_id="brayns", deferrable=True, retries=2, **fields()).expand(
            nodes=[1, 1]
        )
        release = ReleaseNodesOperator(
            task_id="brayns_release", cluster_conn_id="test_cluster", allocated_by="brayns", retries=3
        )
        start >> use() >> release.as_teardown(setups=start, on_failure_fail_dagrun=True)
    return made


LIMIT = timedelta(seconds=45)
MADE = [
    service_dag("faults_service", retries=2),
    service_dag("faults_once"),
    service_dag("faults_blocking", deferrable=False, retries=2),
    service_dag("faults_impatient", patience=0),
    service_dag("faults_render", rendering=True, retries=2),
    service_dag("faults_patient", retries=3, retry_delay=timedelta(seconds=20)),
    service_dag("faults_patient_render", rendering=True, retries=3, retry_delay=timedelta(seconds=20)),
    service_dag("faults_render_once", rendering=True),
    service_dag("faults_paused", retries=2),
    service_dag("faults_run_timeout", run_timeout=50),
    service_dag("faults_deferred_timeout", execution_timeout=LIMIT),
    service_dag("faults_blocking_timeout", deferrable=False, execution_timeout=LIMIT),
    movie_dag("faults_movie", retries=3),
    movie_dag("faults_movie_timeout", execution_timeout=LIMIT),
    movie_dag("faults_movie_impatient", frame_timeout=5),
    mapped_dag("faults_mapped"),
    mapped_whole_dag("faults_mapped_whole"),
    working_dag("faults_working"),
    shared_dag("faults_shared"),
]
globals().update({made.dag_id: made for made in MADE})
