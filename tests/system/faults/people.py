"""What people do to runs."""

from __future__ import annotations

import time
import urllib.error

from tests.system.faults.bench import Run
from tests.system.faults.table import Fault, Row, Scene


def marked(state: str) -> object:
    def act(scene: Scene) -> None:
        for run in scene:
            task = "use" if run.stage == "using" else "render" if run.stage == "rendering" else run.task_id
            run.patch({"new_state": state}, task)

    return act


def run_marked(state: str) -> object:
    def act(scene: Scene) -> None:
        for run in scene:
            run.patch({"state": state})

    return act


def cleared(scene: Scene) -> None:
    for run in scene:
        run.clear(run.task_id)


def one_cleared(scene: Scene) -> None:
    scene.only.clear(("film.brayns", 1))


def run_deleted(scene: Scene) -> None:
    """Airflow refuses to delete a run that is not over (409), so it is marked failed, and deleted as soon as it may be."""
    for run in scene:
        run.patch({"state": "failed"})

    def gone(run: Run) -> bool:
        try:
            scene.bench.api("DELETE", f"dags/{run.dag_id}/dagRuns/{run.run_id}")
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
            return False
        return True

    for run in scene:
        scene.bench.until(lambda run=run: gone(run), 60, "the run may be deleted")


def paused(seconds: float) -> object:
    def act(scene: Scene) -> None:
        dag = f"dags/{scene.only.dag_id}"
        scene.bench.api("PATCH", dag, {"is_paused": True})
        time.sleep(seconds)
        scene.bench.api("PATCH", dag, {"is_paused": False})

    return act


def time_passes(scene: Scene) -> None:
    """The DAG's own time-out, of 45 or 50 s, is the fault."""


GIVEN_BACK = r"\d+ job\(s\) given back|has been given back|told to stop"

FAULTS = [
    Fault(
        "marked_failed",
        marked("failed"),  # type: ignore[arg-type]
        (
            Row("pending", "failed/failed", GIVEN_BACK),
            Row("starting", "failed/failed", GIVEN_BACK),
            Row("waiting", "failed/failed", GIVEN_BACK),
            Row("rendering", "failed/failed", GIVEN_BACK),
            Row("movie", "failed/failed", GIVEN_BACK),
        ),
        stays=True,
    ),
    Fault(
        "marked_failed_running",
        marked("failed"),  # type: ignore[arg-type]
        (
            Row("asking", "failed/failed", GIVEN_BACK, jobs=(0, 1), dag_id="faults_blocking"),
            Row("submitting", "failed/failed", GIVEN_BACK, dag_id="faults_blocking"),
            Row("pending", "failed/failed", GIVEN_BACK, dag_id="faults_blocking"),
            Row("waiting", "failed/failed", GIVEN_BACK, dag_id="faults_blocking"),
        ),
        stays=True,
    ),
    Fault(
        "marked_success",
        marked("success"),  # type: ignore[arg-type]
        (
            Row("pending", "success/success", GIVEN_BACK),
            Row("waiting", "success/success", GIVEN_BACK),
            Row("using", "success/success", GIVEN_BACK),
        ),
    ),
    Fault(
        "cleared",
        cleared,
        (
            Row("pending", "success/success", "Found the running|Submitted", jobs=(1, 2)),
            Row("starting", "success/success", "Found the running|Submitted", jobs=(1, 2)),
            Row("waiting", "success/success", "Found the running|Submitted", jobs=(1, 2)),
            Row("movie", "success/success", "Found the running|Submitted", jobs=(1, 2)),
            Row("using", "success/success", "Found the running|Submitted", jobs=(1, 2)),
            Row("releasing", "success/success", "Found the running|Submitted", jobs=(1, 2)),
        ),
    ),
    Fault(
        "cleared_running",
        cleared,
        (
            Row("submitting", "success/success", "Found the running|Submitted", jobs=(1, 2), dag_id="faults_blocking"),
            Row("waiting", "success/success", "the nodes stay for its next try.*Found the running", dag_id="faults_blocking"),
        ),
    ),
    Fault(
        "one_mapped_cleared",
        one_cleared,
        (Row("using", "none/success", GIVEN_BACK, jobs=(3, 6), dag_id="faults_mapped", deadline=120),),
    ),
    Fault(
        "run_marked_failed",
        run_marked("failed"),  # type: ignore[arg-type]
        (
            Row("pending", "(failed|skipped)/failed", GIVEN_BACK),
            Row("waiting", "(failed|skipped)/failed", GIVEN_BACK),
            Row("using", "(failed|skipped)/.*", GIVEN_BACK),
            Row("movie", "failed/failed", GIVEN_BACK),
        ),
        stays=True,
    ),
    Fault(
        "dagrun_timeout",
        time_passes,
        (
            Row("waiting", "(failed|skipped)/failed", GIVEN_BACK, dag_id="faults_run_timeout"),
            Row("using", "(failed|skipped)/failed", ".", dag_id="faults_run_timeout", conf={"idle_limit": 40}),
        ),
        stays=True,
    ),
    Fault(
        "execution_timeout",
        time_passes,
        (
            Row("waiting", "failed/failed", GIVEN_BACK, dag_id="faults_blocking_timeout"),
            Row("movie", "failed/failed", GIVEN_BACK, dag_id="faults_movie_timeout", conf={"frames": 600}),
        ),
        stays=True,
    ),
    Fault(
        "task_timeout",
        time_passes,
        (
            Row("pending", "failed/failed", GIVEN_BACK, dag_id="faults_deferred_timeout"),
            Row("waiting", "failed/failed", GIVEN_BACK, dag_id="faults_deferred_timeout"),
        ),
        stays=True,
    ),
    Fault(
        "run_deleted",
        run_deleted,
        (
            Row("pending", "none/none", "."),
            Row("waiting", "none/none", "."),
            Row("using", "none/none", ".", conf={"idle_limit": 40}),
            Row("movie", "none/none", "."),
        ),
        stays=True,
    ),
    Fault(
        "dag_paused",
        paused(15),  # type: ignore[arg-type]
        (Row("waiting", "success/success", "is usable at", dag_id="faults_paused"),),
    ),
]  # fmt: skip
