"""A picture of a scene every night, under the date of its run; other DAGs can be scheduled on it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, Asset, CronTriggerTimetable, Param, task

from airflow_brayns import RenderFramesOperator, brayns_service
from airflow_brayns.task.params import PLUGINS_OF_PARAMS, cluster_params, from_params, known_params_only, plugin_params

MORE = ("time_limit", "constraint", "exclusive", "cpus_per_task", "memory")
SCENE = str(Path(__file__).parent / "scenes" / "neuron.swc")
ZONE = "Europe/Zurich"  # of the schedule, and of the dates that pictures are named by
PICTURE = Asset(name="brayns_nightly_snapshot", uri="file://brayns/nightly-snapshot.png")


def day(logical_date: Any, run_after: Any) -> str:
    """The date of a run where the schedule is at home; a run that somebody triggers may have no date of its own."""
    return str((logical_date or run_after).astimezone(ZoneInfo(ZONE)).date())


with DAG(
    dag_id="brayns_nightly_snapshot",
    description="A picture of a scene every night",
    # [START howto_brayns_nightly]
    schedule=CronTriggerTimetable("30 2 * * *", timezone=ZONE),
    # [END howto_brayns_nightly]
    catchup=False,
    max_active_runs=1,
    render_template_as_native_obj=True,
    user_defined_macros={"day": day},
    # What follows account, partition and plugins in the form is folded.
    params={
        **cluster_params("account", "partition"),
        **plugin_params("braynsCircuitExplorer"),
        "scene": Param(SCENE, type="string", title="Scene", description="A model as the node sees it."),
        "output": Param(
            "out/nightly",
            type="string",
            title="Output",
            description="Folder on the worker; a picture for each date.",
        ),
        "width": Param(1280, type="integer", minimum=64, multipleOf=2, title="Width", description="Pixels."),
        "height": Param(720, type="integer", minimum=64, multipleOf=2, title="Height", description="Pixels."),
        "cluster_conn_id": Param(
            "brayns_default",
            type="string",
            title="Cluster",
            section="Cluster",
            description="Connection of type brayns_cluster.",
        ),
        **cluster_params(*MORE, section="Cluster"),
    },
    # A try that fails comes again soon, and finds the nodes; the pauses double, so that an outage does not use the tries up.
    default_args={"retry_delay": timedelta(seconds=15), "retry_exponential_backoff": 2},
    tags=["brayns"],
    doc_md=__doc__,
):
    with brayns_service(
        **from_params("cluster_conn_id", "account", "partition", *MORE),
        plugins=PLUGINS_OF_PARAMS,
        pre_execute=known_params_only,
        deferrable=True,
        retries=3,
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
            frames_dir="{{ params.output }}/{{ ds if dag_run is not defined else day(logical_date if logical_date is defined else none, dag_run.run_after) }}",
            retries=3,
        )

    @task(outlets=[PICTURE])
    def publish(folder: str, outlet_events: Any = None) -> str:
        """Give the picture its name: `<date>.png`; the Asset's event tells those who wait for it which one it is."""
        from airflow_brayns.movie.frame_folder import remove_frames

        picture, frame = Path(folder).with_suffix(".png"), Path(folder, "00000.png")
        if frame.exists():  # not so when the task is run again
            frame.replace(picture)
            remove_frames(frame.parent)
        outlet_events[PICTURE].extra = {"path": str(picture), "date": picture.stem}
        return str(picture)

    publish(frame.output)  # type: ignore[arg-type]
