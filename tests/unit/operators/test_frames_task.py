from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns import BraynsServiceOperator
from airflow_brayns.operators.frames_task import brayns_frames_task
from tests.support.local import FAST
from tests.support.movie import check_whole
from tests.support.script import NEEDS_CLIENT

pytestmark = NEEDS_CLIENT
CUBE = str(Path(__file__).parents[2] / "data" / "cube.obj")


def cube(service: Any, path: str = CUBE) -> None:
    import brayns

    brayns.add_light(service, brayns.DirectionalLight(4))
    brayns.MeshLoader().load_models(service, path)


def task_of(**options: Any) -> Any:
    @brayns_frames_task(cluster_conn_id="here", **options)
    def around(service: Any, number: int, far: float) -> Any:
        import brayns

        print("at", number)
        view = brayns.View(brayns.Vector3(far, 3, number), brayns.Vector3(0, 0, 0))
        return brayns.Snapshot(camera=brayns.Camera(view), renderer=brayns.InteractiveRenderer())

    with DAG("decorated", schedule=None):
        return around(far=6).operator


@pytest.mark.slow
def test_a_function_renders_its_frames_with_an_allocation(
    context: Any, cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = BraynsServiceOperator(task_id="task", cluster_conn_id="here", nodes=1, **FAST)
    service.execute(context)
    try:
        operator = task_of(
            frames=3, resolution=(96, 64), scene=cube, frames_dir=str(tmp_path / "f"), allocation=context["ti"].xcom["allocation"]
        )  # fmt: skip
        assert operator.execute(context) == str(tmp_path / "f")
    finally:
        service.give_back_now(context)
    check_whole(tmp_path / "f", 3)
    assert "frame 2 on brayns" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "^frames: say how many"),
        ({"frames": 3, "fps": 0}, "fps"),
        ({"frames": 3, "scene": lambda: None}, "scene takes"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_rendered(
    context: Any, cluster: Any, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(AirflowFailException, match=told):
        task_of(frames_dir=str(tmp_path / "f"), allocation={}, **options).execute(context)


def test_arguments_are_given_by_name() -> None:
    @brayns_frames_task(frames=3, frames_dir="/f", allocation={})
    def frame(service: Any, number: int, far: float = 1) -> None: ...

    with DAG("by_place", schedule=None), pytest.raises(TypeError, match="by name"):
        frame(6)
