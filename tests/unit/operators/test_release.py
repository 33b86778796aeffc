"""A release that releases nothing does not show green: wrong ids, mapped tasks, names that nobody has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, task_group
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_brayns import (
    AllocateNodesOperator,
    ReleaseNodesOperator,
    StartBraynsServiceOperator,
    StopBraynsServiceOperator,
)
from airflow_brayns.operators.release import instances
from tests.support.task import Ti

HEAD = """
from airflow.sdk import DAG, task, task_group
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow_brayns import *

with DAG("dag", schedule=None):
"""
HERE = {"cluster_conn_id": "here"}


def errors_of(folder: Path, body: str) -> str:
    """What Airflow says of a DAG when it has parsed it."""
    lines = body.strip("\n").splitlines()
    (folder / "one.py").write_text(HEAD + "\n".join(f"    {line}" for line in lines) + "\n")
    bag = DagBag(str(folder), bundle_name="tests")
    assert bool(bag.dags) != bool(bag.import_errors)
    return "\n".join(bag.import_errors.values())


@pytest.mark.parametrize(
    "body",
    [
        """
start = BraynsServiceOperator(task_id="brayns")
ReleaseNodesOperator(task_id="release", allocated_by="bryans").as_teardown(setups=start)
""",
        """
@task_group
def group(n):
    start = AllocateNodesOperator(task_id="brayns", nodes=n)
    ReleaseNodesOperator(task_id="release", allocated_by="brayns").as_teardown(setups=start)
group.expand(n=[1, 2])
""",
        """
ReleaseNodesOperator(task_id="release", allocated_by="Brayns")
BraynsServiceOperator(task_id="brayns")
""",
    ],
)  # fmt: skip
def test_an_id_that_the_dag_does_not_have_fails_when_it_is_parsed(tmp_path: Path, body: str) -> None:
    """Also within a group, where a task's id begins with the group's."""
    said = errors_of(tmp_path, body)
    assert re.search(
        r"allocated_by: name the task that allocates: '(group\.)?brayns'\.\n +the DAG dag has no task", said
    )


def test_a_task_that_allocates_nothing_fails_when_it_is_parsed(tmp_path: Path) -> None:
    body = """
RenderFramesOperator(task_id="render", specification="x", frames_dir="y")
ReleaseNodesOperator(task_id="release", allocated_by="render")
"""
    assert "'render' is a RenderFramesOperator, which allocates nothing" in errors_of(tmp_path, body)
    itself = 'ReleaseNodesOperator(task_id="release", allocated_by="release")'
    assert "is a ReleaseNodesOperator, which allocates nothing" in errors_of(tmp_path, itself)


@pytest.mark.parametrize(
    "body",
    [
        'ReleaseNodesOperator(task_id="release", allocated_by="late")\nAllocateNodesOperator(task_id="late")',
        'ReleaseNodesOperator(task_id="release", allocated_by="{{ params.which }}")\nEmptyOperator(task_id="x")',
        'with brayns_service(task_id="one"):\n    EmptyOperator(task_id="x")',
        'EmptyOperator(task_id="own")\nReleaseNodesOperator(task_id="release", allocated_by="own")',
        'BraynsServiceOperator.partial(task_id="m").expand(nodes=[1, 2])\n'
        'ReleaseNodesOperator(task_id="r", allocated_by="m")',
        'BraynsMovieOperator(task_id="m", specification="x")\nReleaseNodesOperator(task_id="r", allocated_by="m")',
        "@task_group\ndef group(n):\n    with brayns_service(nodes=n):\n        EmptyOperator(task_id='x')\ngroup.expand(n=[1, 2])",
    ],
)  # fmt: skip
def test_what_can_be_right_is_parsed(tmp_path: Path, body: str) -> None:
    assert errors_of(tmp_path, body) == ""


def context_of(index: int = -1, run_id: str = "run") -> dict[str, Any]:
    ti = Ti("brayns")
    ti.map_index, ti.run_id = index, run_id
    return {"ti": ti}


class Teller(Ti):
    """A task instance of a run in which others have handed on what they allocated."""

    def __init__(self, index: int, told: dict[int, Any]) -> None:
        super().__init__("release")
        self.map_index, self.run_id, self.told = index, "run", told

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        return self.told.get(map_indexes)


def allocated(*indices: int) -> dict[int, Any]:
    """An allocation for each map index, that run."""
    found = {}
    for index in indices:
        context = context_of(index)
        AllocateNodesOperator(task_id="brayns", deferrable=False, **HERE).execute(context)
        found[index] = context["ti"].xcom["allocation"]
    return found


def states(monkeypatch: pytest.MonkeyPatch, **found: str) -> None:
    monkeypatch.setattr("airflow_brayns.operators.cluster.states_by_key", lambda ti, task_id: found)


@pytest.mark.parametrize("handed_on", [True, False])
def test_all_instances_of_a_mapped_task_are_given_back(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, handed_on: bool
) -> None:
    """Also those that were killed half-way and handed on nothing."""
    found = allocated(0, 1, 10)
    states(monkeypatch, brayns_0="success", brayns_1="failed", brayns_10="success", brayns_2="skipped")
    with DAG("dag", schedule=None):
        AllocateNodesOperator.partial(task_id="brayns", **HERE).expand(nodes=[1, 2])
        release = ReleaseNodesOperator(task_id="release", allocated_by="brayns", **HERE)
    release.execute({"ti": Teller(-1, found if handed_on else {0: found[0]})} if handed_on else {"ti": Teller(-1, {})})
    assert not cluster.running()


def in_a_group() -> ReleaseNodesOperator:
    with DAG("dag", schedule=None) as dag:

        @task_group
        def group(n: Any) -> None:
            AllocateNodesOperator(task_id="brayns", nodes=n, **HERE)
            ReleaseNodesOperator(task_id="release", allocated_by="group.brayns", **HERE)

        group.expand(n=[1, 2])
    found: ReleaseNodesOperator = dag.get_task("group.release")
    return found


def test_in_one_mapped_group_that_of_the_same_index(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {}
    for index in (0, 1):
        context = context_of(index)
        context["ti"].task_id = "group.brayns"
        AllocateNodesOperator(task_id="brayns", deferrable=False, **HERE).execute(context)
        names[index] = context["ti"].xcom["allocation"]["name"]
    release = in_a_group()
    states(monkeypatch, **{"group.brayns_0": "success", "group.brayns_1": "success"})
    release.execute({"ti": Teller(0, {})})
    assert any(names[1] in one for one in cluster.running())
    assert not any(names[0] in one for one in cluster.running())
    release.execute({"ti": Teller(1, {})})
    assert not cluster.running()


def test_a_mapped_release_of_one_allocation_finds_it(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    allocated(-1)
    states(monkeypatch, brayns="success")
    with DAG("dag", schedule=None):
        AllocateNodesOperator(task_id="brayns", **HERE)
        release = ReleaseNodesOperator(task_id="release", allocated_by="brayns", **HERE)
    release.execute({"ti": Teller(3, {})})
    assert not cluster.running()


def test_a_wrong_id_that_came_by_a_template_fails_when_it_runs(cluster: Any) -> None:
    with DAG("dag", schedule=None):
        AllocateNodesOperator(task_id="brayns", **HERE)
        release = ReleaseNodesOperator(task_id="release", allocated_by="bryans", **HERE)
    with pytest.raises(AirflowFailException, match="(?s)name the task that allocates: 'brayns'.*no task 'bryans'"):
        release.execute({"ti": Teller(-1, {})})


def test_nothing_found_is_not_given_back(cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    release = ReleaseNodesOperator(task_id="release", allocated_by="brayns", **HERE)
    states(monkeypatch, brayns="success")
    with pytest.raises(AirflowException, match="has succeeded, but the cluster has no record"):
        release.execute({"ti": Teller(-1, {})})
    states(monkeypatch)
    with pytest.raises(AirflowException, match="nothing was released"):
        release.execute({"ti": Teller(-1, {})})
    states(monkeypatch, brayns="upstream_failed")
    capsys.readouterr()
    release.execute({"ti": Teller(-1, {})})
    said = capsys.readouterr().out
    assert "did not run" in said
    assert "has been given back" not in said
    typed = ReleaseNodesOperator(task_id="release", allocation="ab-0123456789ab", **HERE)
    with pytest.raises(AirflowFailException, match="no allocation ab-0123456789ab"):
        typed.execute({"ti": Teller(-1, {})})


def test_what_is_gone_already_is_success(cluster: Any, state: Path, capsys: Any) -> None:
    """Folders of what has ended are taken away after a week."""
    import shutil

    told = allocated(-1)[-1]
    release = ReleaseNodesOperator(task_id="release", allocation=told, **HERE)
    release.execute({"ti": Teller(-1, {})})
    release.execute({"ti": Teller(-1, {})})
    for folder in state.glob(f"{told['name']}*"):
        shutil.rmtree(folder)
    release.execute({"ti": Teller(-1, {})})
    assert "is gone already" in capsys.readouterr().out


def test_the_teardown_of_a_clone_gives_nothing_back(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs are those of the Airflow that it was made of, so are their names, and their tries."""
    release = ReleaseNodesOperator(task_id="release", allocated_by="brayns", **HERE)
    allocate = AllocateNodesOperator(task_id="brayns", nodes=1, deferrable=False, **HERE)
    context["ti"].task_id = "brayns"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://prod.example.org")
    allocate.execute(context)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://staging.example.org")
    with pytest.raises(
        AirflowFailException, match=r"(?s)\[brayns\]\s+deployment.*another\s+Airflow, prod\.example\.org-"
    ):
        release.execute(context)
    allocate.give_back_now(context)
    assert cluster.running(), "the other Airflow's nodes"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow-apiserver:8080")
    release.execute(context)  # what does not know its own name gives its own back


def test_what_a_mapped_task_returned_is_given_back_whole(cluster: Any) -> None:
    told = allocated(0, 1)
    ti = Teller(-1, {})
    ReleaseNodesOperator(task_id="release", allocation=[told[0], told[1]["name"]], **HERE).execute({"ti": ti})
    assert not cluster.running()
    assert ti.xcom["brayns_released"] == [told[0]["name"], told[1]["name"]], "the page shows what was given back"


def test_instances_are_told_by_their_keys() -> None:
    assert instances({"t_1_0": "a", "t_1_12": "b"}, "t_1") == {0: "a", 12: "b"}
    assert instances({"t": "skipped"}, "t") == {-1: "skipped"}


def test_what_runs_on_another_machine_is_neither_used_nor_given_back_as_if_it_were_gone(
    context: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers of a Celery executor, each with a home of its own: a release on the second found nothing, and was green."""
    allocation = AllocateNodesOperator(task_id="brayns", deferrable=False, **HERE).execute(context)
    started = {**allocation, "services": ["brayns1"]}
    found = [
        ReleaseNodesOperator(task_id="release", allocation=allocation, **HERE),
        StartBraynsServiceOperator(task_id="start", allocation=allocation, **HERE),
        StopBraynsServiceOperator(task_id="stop", started=started, **HERE),
    ]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "another-worker")
        for operator in found:
            with pytest.raises(
                AirflowException, match="(?s)a local cluster is one machine.*this is another-worker"
            ) as raised:
                operator.execute(context)
            assert not isinstance(raised.value, AirflowFailException), "the next try may come to the right worker"
    assert cluster.running()
    found[0].execute(context)
    assert not cluster.running()


def test_stopping_nothing_is_no_success(context: Any, cluster: Any) -> None:
    allocation = AllocateNodesOperator(task_id="task", deferrable=False, **HERE).execute(context)
    with pytest.raises(AirflowFailException, match=r"started: pass what .*\n +it names no service"):
        StopBraynsServiceOperator(task_id="stop", started=allocation, **HERE).execute(context)
    started = StartBraynsServiceOperator(task_id="start", allocation=allocation, **HERE).execute(context)
    with pytest.raises(AirflowFailException, match="has no service 'other'"):
        StopBraynsServiceOperator(task_id="stop", started={**started, "services": ["other"]}, **HERE).execute(context)
    for _ in range(2):
        StopBraynsServiceOperator(task_id="stop", started=started, **HERE).execute(context)
    ReleaseNodesOperator(task_id="release", allocation=allocation, **HERE).execute(context)
