"""What outlives an upgrade, with the code of 0.2.0 run beside this version's: keepers that run, tasks half-way, frames, hand-overs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from airflow_brayns import (
    BraynsServiceOperator,
    BraynsServiceSensor,
    ReleaseNodesOperator,
    RenderFramesOperator,
    StartBraynsServiceOperator,
    StopBraynsServiceOperator,
    open_endpoint,
)
from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import probe
from tests.released import acts
from tests.released.process import Process
from tests.support.cluster import REPO
from tests.support.local import FAST
from tests.support.movie import check_whole, records
from tests.support.task import NAME_OF_EMULATOR, Ti

FORMER = "0.2.0"
PLUGIN = "braynsCircuitExplorer"


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    with Process(FORMER) as one:
        yield one


class Worker:
    """Does tasks of one run under 0.2.0."""

    def __init__(self, process: Process, variables: dict[str, str]) -> None:
        self._process, self._variables = process, variables
        self.ti = {"id": str(uuid4()), "run_id": f"run-{uuid4()}", "task_id": "task"}

    def act(self, act: str, **arguments: Any) -> Any:
        return self._process.act(act, environment=self._variables, **arguments)

    def execute(self, operator: str, **arguments: Any) -> dict[str, Any]:
        told: dict[str, Any] = self.act("execute", operator=operator, arguments=here(arguments), ti=self.ti)
        return told

    def context(self, told: dict[str, Any]) -> dict[str, Any]:
        """The same try of the same task, for this version's code."""
        ti = Ti()
        for name, value in {**self.ti, "xcom": told["xcom"]}.items():
            setattr(ti, name, value)
        return {"ti": ti}


def here(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"cluster_conn_id": "here", **arguments}


@pytest.fixture
def worker(
    process: Process, cluster: SimpleNamespace, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Worker]:
    """On the local cluster `here`; whatever it allocated is given back by this version."""
    # The service is none of the version's: an emulator of 0.2.0 would need libraries that today's does without.
    extra = {"scheduler": "local", "executable": NAME_OF_EMULATOR, "state_dir": str(state), "poll_interval": 1,
             "environment": {"PYTHONPATH": str(REPO), **FAST["environment"]}}  # fmt: skip
    connection = json.dumps({"conn_type": "brayns_cluster", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_HERE", connection)
    variables = {"AIRFLOW_CONN_HERE": connection, "AIRFLOW__BRAYNS__INSTALLATION_ID": "tests"}
    one = Worker(process, variables)
    yield one
    for name in {path.name[:-3] for path in state.glob("ab-*")}:
        ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocation=name).execute({"ti": Ti()})


def service(worker: Worker, **arguments: Any) -> dict[str, Any]:
    """What a task of 0.2.0 handed on, of a service that runs."""
    told = worker.execute("BraynsServiceOperator", plugins=[PLUGIN], deferrable=False, **arguments)
    return dict(told["xcom"])


def scene(data: Path, **changes: Any) -> dict[str, Any]:
    return {"models": [{"path": str(data / "cube.obj")}], "frames": 4, "resolution": [96, 64],
            "renderer": {"name": "interactive"}, **changes}  # fmt: skip


# ---- tasks half-way --------------------------------------------------------------------------------------------------
def deferred_tasks(worker: Worker, data: Path, tmp_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every kind of task that defers, as 0.2.0 takes its arguments."""
    yield "BraynsServiceOperator", {"plugins": [PLUGIN]}
    handed = service(worker)
    yield "BraynsServiceSensor", {"endpoint": handed["endpoint"]}
    frames = {"allocation": handed["allocation"], "specification": scene(data), "frames_on": "cluster"}
    yield "RenderFramesOperator", {**frames, "frames_dir": str(tmp_path / "frames")}
    started = worker.execute("StartBraynsServiceOperator", allocation=handed["allocation"], service="more")
    yield "BraynsServiceSensor", {"started": started["returned"]}
    yield "AllocateNodesOperator", {}


def test_a_task_resumes_whichever_version_each_part_of_it_has(worker: Worker, data: Path, tmp_path: Path) -> None:
    """Deferred by 0.2.0; awaited by either's triggerer; resumed by either's worker."""
    for operator, given in deferred_tasks(worker, data, tmp_path):
        arguments = here({**given, "deferrable": True})
        deferred = worker.act("execute", operator=operator, arguments=arguments, ti=worker.ti)
        path, kwargs = deferred["trigger"]
        ti = {**worker.ti, "xcom": deferred["xcom"]}
        half = {"operator": operator, "arguments": arguments, "ti": ti, "method": deferred["method"]}
        former, present = worker.act("event", path=path, kwargs=kwargs), acts.event(path, kwargs)
        assert (former["status"], present["status"]) == ("success", "success"), (operator, former, present)
        assert set(former) <= set(present)
        resumed = [acts.resume(**half, event=former), acts.resume(**half, event=present),
                   worker.act("resume", **half, event=present)]  # fmt: skip
        assert resumed[0]["returned"]
        assert resumed[0] == resumed[1] == resumed[2], operator
        if operator in ("BraynsServiceOperator", "AllocateNodesOperator"):
            ReleaseNodesOperator(
                task_id="release", cluster_conn_id="here", allocation=ti["xcom"]["allocation"]
            ).execute(worker.context(deferred))


def test_a_next_try_under_this_version_finds_the_nodes(worker: Worker) -> None:
    handed = service(worker)
    context = worker.context({"xcom": {}})
    context["ti"].id = str(uuid4())
    again = BraynsServiceOperator(task_id="task", cluster_conn_id="here", plugins=[PLUGIN], deferrable=False)
    assert again.execute(context) == [handed["endpoint"]]
    found = context["ti"].xcom["allocation"]
    assert all(one.pop("machine") for one in found["allocations"]), "which 0.2.0 did not tell"
    assert found == handed["allocation"]


# ---- a keeper that runs ----------------------------------------------------------------------------------------------
def test_a_keeper_of_the_former_version_does_what_this_one_asks(worker: Worker, cluster: SimpleNamespace) -> None:
    nodes = worker.execute("AllocateNodesOperator", nodes=2, deferrable=False)["returned"]
    context = {"ti": Ti()}
    started = StartBraynsServiceOperator(
        task_id="start", cluster_conn_id="here", allocation=nodes, plugins=[PLUGIN]
    ).execute(context)
    sensor = BraynsServiceSensor(task_id="wait", cluster_conn_id="here", started=started, deferrable=False)
    assert len(sensor.execute(context)) == 2
    assert {one["node"] for one in context["ti"].xcom["services"]} == set(nodes["nodes"])
    StopBraynsServiceOperator(task_id="stop", cluster_conn_id="here", started=started).execute(context)
    more = StartBraynsServiceOperator(
        task_id="again", cluster_conn_id="here", allocation=nodes, service="more"
    ).execute(context)
    assert len(BraynsServiceSensor(task_id="wait", cluster_conn_id="here", started=more, deferrable=False).execute(context)) == 2  # fmt: skip
    ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocation=nodes).execute(context)
    assert not cluster.running()


def test_a_worker_of_the_former_version_gives_back_what_this_one_allocated(
    worker: Worker, cluster: SimpleNamespace
) -> None:
    """Its worker may still run the last task of a run."""
    context = {"ti": Ti()}
    BraynsServiceOperator(task_id="task", cluster_conn_id="here", deferrable=False).execute(context)
    worker.execute("ReleaseNodesOperator", allocation=context["ti"].xcom["allocation"])
    assert not cluster.running()


# ---- what was handed over --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tls", ["off", "allocation"])
def test_this_version_renders_with_what_the_former_one_handed_on(
    worker: Worker, data: Path, tmp_path: Path, tls: str
) -> None:
    handed = service(worker, tls=tls)
    common = {"task_id": "task", "cluster_conn_id": "here", "specification": scene(data), "tls": tls}
    frames = RenderFramesOperator(allocation=handed["allocation"], frames_dir=str(tmp_path / "one"), **common)
    check_whole(Path(frames.execute({"ti": Ti()})), 4)
    endpoints = [one["endpoint"] for one in handed["services"]]
    others = RenderFramesOperator(endpoints=endpoints, frames_dir=str(tmp_path / "two"), **common)
    check_whole(Path(others.execute({"ti": Ti()})), 4)


def test_this_version_opens_an_endpoint_that_the_former_one_handed_on(worker: Worker) -> None:
    handed = service(worker)
    with open_endpoint(handed["endpoint"], cluster_conn_id="here") as near:
        assert asyncio.run(probe(Endpoint.parse(near), [PLUGIN])).version == "3.10.1"


# ---- frames ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("frames_on", ["worker", "cluster"])
def test_a_movie_that_the_former_version_left_half_rendered_goes_on(
    worker: Worker, data: Path, tmp_path: Path, frames_on: str
) -> None:
    handed, folder = service(worker), tmp_path / "frames"
    common = {"allocation": handed["allocation"], "frames_dir": str(folder), "frames_on": frames_on, "way": "snapshot"}
    worker.execute("RenderFramesOperator", specification=scene(data, frames=4), **common)
    before = {one["frame"]: one for one in records(folder)}
    for number in (1, 3):
        (folder / before.pop(number)["file"]).unlink()
    render = RenderFramesOperator(task_id="task", cluster_conn_id="here", specification=scene(data, frames=4), **common)
    render.execute(worker.context({"xcom": {}}))
    check_whole(folder, 4, doubles=2)
    after = {one["frame"]: one for one in records(folder)}
    assert {number: after[number] for number in before} == before, "what is whole is not rendered again"


def test_a_movie_that_the_former_version_accumulated_is_rendered_anew(
    worker: Worker, data: Path, tmp_path: Path
) -> None:
    """Its `render-image` gave another picture than any way gives now."""
    handed, folder = service(worker), tmp_path / "frames"
    common = {"allocation": handed["allocation"], "frames_dir": str(folder)}
    worker.execute("RenderFramesOperator", specification=scene(data), way="render-image", **common)
    assert len(records(folder)) == 4
    render = RenderFramesOperator(task_id="task", cluster_conn_id="here", specification=scene(data), **common)
    render.execute(worker.context({"xcom": {}}))
    check_whole(folder, 4)
