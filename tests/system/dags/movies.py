"""A movie as one task with retries, for tests that kill it."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_brayns import BraynsMovieOperator

with DAG(
    "test_movie",
    schedule=None,
    render_template_as_native_obj=True,
    params={
        "specification": Param({}, type="object"),
        "folder": Param("", type="string"),
        "nodes": Param(2, type="integer"),
        "emulator": Param("snapshot_seconds=0,frame_seconds=0.1", type="string"),
        "cluster_conn_id": Param("test_cluster", type="string"),
        "time_limit": Param(None, type=["null", "string"]),
        "renew_before": Param(None, type=["null", "number"]),
    },
):
    BraynsMovieOperator(
        task_id="movie",
        cluster_conn_id="{{ params.cluster_conn_id }}",
        specification="{{ params.specification }}",
        output_file="{{ params.folder }}/movie.mp4",
        frames_dir="{{ params.folder }}/frames",
        keep_frames=True,
        nodes="{{ params.nodes }}",
        plugins=[],
        environment={"BRAYNS_EMULATOR": "{{ params.emulator }}"},
        time_limit="{{ params.time_limit }}",
        renew_before="{{ params.renew_before }}",
        retries=4,
        retry_delay=timedelta(seconds=1),
    )
