"""The main job: allocate nodes, start braynsService on each, render a movie with all of them, give the nodes back."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_brayns import EncodeMovieOperator, RenderFramesOperator, brayns_service

SCENE = str(Path(__file__).parent / "scenes" / "neuron.swc")

PARAMS = {
    "cluster_conn_id": Param(
        "brayns_default",
        type="string",
        title="Cluster",
        section="Cluster",
        description_md="Connection of type `brayns_cluster`. `brayns_default`, where it is not defined, is this machine.",
    ),
    "nodes": Param(
        2, type="integer", minimum=1, maximum=256, section="Cluster", description="How many nodes, a service each."
    ),
    "account": Param(
        None, type=["null", "string"], section="Cluster", description="Slurm account; empty: the connection's."
    ),
    "partition": Param(
        None, type=["null", "string"], section="Cluster", description="Slurm partition; empty: the connection's."
    ),
    "plugins": Param(
        ["braynsCircuitExplorer"],
        type="array",
        items={"type": "string"},
        examples=[
            "braynsCircuitExplorer",
            "braynsAtlasExplorer",
            "braynsCylindricCamera",
            "braynsDTI",
            "braynsMoleculeExplorer",
        ],
        section="Cluster",
        description="Plugins that each service must have loaded.",
    ),
    "scene": Param(
        SCENE,
        type="string",
        section="Picture",
        description_md="A model as the nodes see it: SWC, ASC, H5 (a neuron; needs braynsCircuitExplorer), OBJ, PLY, STL or OFF.",
    ),
    "camera": Param(
        "turntable",
        type="string",
        enum=["turntable", "swing", "still"],
        section="Picture",
        description="One turn about the vertical, a swing to both sides, or none.",
    ),
    "frames": Param(60, type="integer", minimum=1, section="Picture", description="How many frames."),
    "width": Param(
        640, type="integer", minimum=64, multipleOf=2, section="Picture", description="Pixels, an even number."
    ),
    "height": Param(
        360, type="integer", minimum=64, multipleOf=2, section="Picture", description="Pixels, an even number."
    ),
    "fps": Param(24, type="integer", minimum=1, maximum=120, section="Picture", description="Frames a second."),
    "renderer": Param(
        "production",
        type="string",
        enum=["production", "interactive"],
        section="Picture",
        description="Production: more samples, soft shadows. Interactive: quick.",
    ),
    "output": Param("out/movie.mp4", type="string", section="Picture", description="The movie, on the worker."),
}

with DAG(
    dag_id="brayns_movie",
    description="A movie of a scene, rendered by braynsService on as many nodes as you like",
    params=PARAMS,
    schedule=None,
    catchup=False,
    render_template_as_native_obj=True,
    tags=["brayns"],
    doc_md=__doc__,
):
    # [START howto_brayns_movie]
    @task
    def check(params: dict[str, object] | None = None, run_id: str | None = None) -> dict[str, str]:
        """Bad input fails here, before a node is asked for."""
        from airflow_brayns.operators.check import check_movie

        return check_movie(params or {}, run_id or "")

    paths = check()

    with brayns_service(
        cluster_conn_id="{{ params.cluster_conn_id }}",
        nodes="{{ params.nodes }}",
        account="{{ params.account }}",
        partition="{{ params.partition }}",
        plugins="{{ params.plugins }}",
        deferrable=True,
        retries=1,
    ) as service:
        frames = RenderFramesOperator(
            task_id="render",
            cluster_conn_id="{{ params.cluster_conn_id }}",
            endpoints=service.output,
            allocation="{{ ti.xcom_pull(task_ids='brayns', key='allocation') }}",
            scene="{{ params.scene }}",
            camera="{{ params.camera }}",
            frames="{{ params.frames }}",
            width="{{ params.width }}",
            height="{{ params.height }}",
            renderer="{{ params.renderer }}",
            frames_dir="{{ ti.xcom_pull(task_ids='check')['frames'] }}",
            retries=1,
        )

    movie = EncodeMovieOperator(
        task_id="encode",
        frames_dir=frames.output,
        output_file="{{ ti.xcom_pull(task_ids='check')['movie'] }}",
        fps="{{ params.fps }}",
        frames="{{ params.frames }}",
        keep_frames=False,
    )
    paths >> service
    # [END howto_brayns_movie]
