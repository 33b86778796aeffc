"""A picture of a scene every night, under the date of its run; other DAGs can be scheduled on it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Asset, CronTriggerTimetable, Param, task

from airflow_brayns import RenderFramesOperator, brayns_service

SCENE = str(Path(__file__).parent / "scenes" / "neuron.swc")
PICTURE = Asset(name="brayns_nightly_snapshot", uri="file://brayns/nightly-snapshot.png")

with DAG(
    dag_id="brayns_nightly_snapshot",
    description="A picture of a scene every night",
    # [START howto_brayns_nightly]
    schedule=CronTriggerTimetable("30 2 * * *", timezone="Europe/Zurich"),
    # [END howto_brayns_nightly]
    catchup=False,
    max_active_runs=1,
    render_template_as_native_obj=True,
    params={
        "cluster_conn_id": Param(
            "brayns_default", type="string", section="Cluster", description="Connection of type brayns_cluster."
        ),
        "plugins": Param(
            ["braynsCircuitExplorer"],
            type="array",
            items={"type": "string"},
            section="Cluster",
            description="Plugins that the service must have loaded.",
        ),
        "scene": Param(SCENE, type="string", section="Picture", description="A model as the node sees it."),
        "width": Param(1280, type="integer", minimum=64, multipleOf=2, section="Picture", description="Pixels."),
        "height": Param(720, type="integer", minimum=64, multipleOf=2, section="Picture", description="Pixels."),
        "output": Param(
            "out/nightly",
            type="string",
            section="Picture",
            description="Folder on the worker; a picture for each date.",
        ),
    },
    # A try that fails comes again soon, and finds the nodes; the pauses double, so that an outage does not use the tries up.
    default_args={"retry_delay": timedelta(seconds=15), "retry_exponential_backoff": 2},
    tags=["brayns"],
    doc_md=__doc__,
):
    with brayns_service(
        cluster_conn_id="{{ params.cluster_conn_id }}", plugins="{{ params.plugins }}", deferrable=True, retries=3
    ) as service:
        frame = RenderFramesOperator(
            task_id="snapshot",
            cluster_conn_id="{{ params.cluster_conn_id }}",
            allocation="{{ ti.xcom_pull(task_ids='brayns', key='allocation') }}",
            specification={
                "models": [{"path": "{{ params.scene }}"}],
                "camera": {"path": "still"},
                "frames": 1,
                "resolution": ["{{ params.width }}", "{{ params.height }}"],
            },
            frames_dir="{{ params.output }}/{{ ds if ds is defined else dag_run.run_after | ds }}",
            retries=3,
        )

    @task(outlets=[PICTURE])
    def publish(folder: str) -> str:
        """Give the picture its name: `<date>.png`; the Asset tells those who wait for it."""
        from airflow_brayns.movie.store import remove_frames

        picture, frame = Path(folder).with_suffix(".png"), Path(folder, "00000.png")
        if frame.exists():  # not so when the task is run again
            frame.replace(picture)
            remove_frames(frame.parent)
        return str(picture)

    publish(frame.output)  # type: ignore[arg-type]
