"""`python -m tests.released VERSION`: runs a released version's code on this machine, and keeps what it serialised and told."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from tests.released import COMMITS, DATA, REPO
from tests.released.process import Process
from tests.support.task import NAME_OF_EMULATOR

HOME = Path("/tmp/airflow-brayns-released")  # the same for all, since it comes into the records
PLUGIN = "braynsCircuitExplorer"
SCENE = {"models": [{"path": f"{HOME}/cube.obj"}], "frames": 3, "resolution": [96, 64], "renderer": {"name": "interactive"}}  # fmt: skip
CONNECTION = {"scheduler": "local", "state_dir": f"{HOME}/state", "poll_interval": 1}
TRIGGERS = ("service.BraynsServiceTrigger", "service.EndpointTrigger", "movie.RenderFramesTrigger")
CONNECTIONS: tuple[dict[str, Any], ...] = (
    CONNECTION,
    {"ssh_conn_id": "login", "account": "proj3", "partition": "prod", "cpus_per_task": "8", "memory": "32G",
     "exclusive": "true", "time_limit": "2:00:00", "sbatch_options": '["--mail-type=END"]', "route": "ssh",
     "environment": '{"OMP_NUM_THREADS": "8"}', "setup": "module load brayns", "generation": "3", "port": "5000-5010",
     "queue_timeout": 3600, "packing": "job_per_node", "min_ready": 1},
)  # fmt: skip


class Recording:
    """What one version does, kept case by case."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.cases: list[dict[str, Any]] = []

    def defer(self, case: str, operator: str, **arguments: Any) -> dict[str, Any]:
        """Have a task deferred, awaited and resumed; what it pushed."""
        arguments = {"cluster_conn_id": "here", "deferrable": True, **arguments}
        ti = {"id": str(uuid5(NAMESPACE_OID, case)), "run_id": "manual__2026-11-25T00:00:00+00:00"}
        deferred = self._process.act("execute", operator=operator, arguments=arguments, ti=ti)
        path, kwargs = deferred["trigger"]
        event = self._process.act("event", path=path, kwargs=kwargs)
        kept = {"case": case, "operator": operator, "arguments": arguments, "trigger": deferred["trigger"],
                "method": deferred["method"], "event": event}  # fmt: skip
        self.cases.append(kept)
        if event["status"] != "success":
            return {}
        ti["xcom"] = deferred["xcom"]
        resumed = self._process.act(
            "resume", operator=operator, arguments=arguments, ti=ti, method=deferred["method"], event=event
        )
        kept["xcom"] = resumed["xcom"]
        return {"return_value": resumed["returned"], **resumed["xcom"]}

    def do(self, operator: str, **arguments: Any) -> Any:
        """Have a task done that defers nothing; what it returns."""
        ti = {"run_id": "manual__2026-11-25T00:00:00+00:00"}
        return self._process.act(
            "execute", operator=operator, arguments={"cluster_conn_id": "here", **arguments}, ti=ti
        )["returned"]

    def release(self, told: dict[str, Any]) -> None:
        """Give back what a task has allocated."""
        self.do("ReleaseNodesOperator", allocation=told["allocation"])


def record(process: Process) -> list[dict[str, Any]]:
    """Every way to defer, with what tasks usually have."""
    one = Recording(process)
    movies = process.version != "0.1.0"
    service = one.defer(
        "services", "BraynsServiceOperator", nodes=2, plugins=[PLUGIN], start_timeout=120, queue_timeout="600"
    )
    one.defer("endpoint", "BraynsServiceSensor", endpoint=service["endpoint"], plugins=[PLUGIN])
    if movies:
        frames = {"allocation": service["allocation"], "specification": SCENE, "frames_on": "cluster"}
        one.defer("frames", "RenderFramesOperator", frames_dir=f"{HOME}/frames", **frames)
        one.defer(
            "frames, with all that can be said", "RenderFramesOperator", frames_dir=f"{HOME}/others", way="snapshot",
            frame_timeout=60, load_timeout=600, renew_before=300, start_timeout=120, **frames,
        )  # fmt: skip
    one.release(service)
    each = one.defer("services, a job each", "BraynsServiceOperator", nodes=2, packing="job_per_node", min_ready=1)
    one.release(each)
    nodes = one.defer("nodes", "AllocateNodesOperator", nodes=1)
    started = one.do("StartBraynsServiceOperator", allocation=nodes["return_value"], plugins=[PLUGIN])
    one.defer("started", "BraynsServiceSensor", started=started)
    one.release(nodes)
    if movies:
        secret = one.defer("services by TLS", "BraynsServiceOperator", tls="allocation")
        one.release(secret)
    one.defer("a service that ends", "BraynsServiceOperator", executable="/bin/false")
    return one.cases


def main(version: str) -> None:
    """Record a version."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(mode=0o700)
    shutil.copy(REPO / "tests" / "data" / "cube.obj", HOME)
    # The service is none of the version's: an emulator of 0.2.0 would need libraries that today's does without.
    extra = {**CONNECTION, "executable": NAME_OF_EMULATOR, "environment": {"PYTHONPATH": str(REPO)}}
    variables = {
        "AIRFLOW_HOME": str(HOME / "airflow"),
        "AIRFLOW_CONN_HERE": json.dumps({"conn_type": "brayns_cluster", "extra": extra}),
        "AIRFLOW__BRAYNS__INSTALLATION_ID": "released",
    }
    with Process(version, log=None) as process:
        process.act("where", environment=variables)
        form = process.act("form")
        connections = [{key: value for key, value in form.items() if value is not None}, *CONNECTIONS]
        known = [path for path in map("airflow_brayns.triggers.{}".format, TRIGGERS) if process.act("has", path=path)]
        kept = {
            "version": version,
            "commit": COMMITS[version],
            "takes": {path: process.act("takes", path=path) for path in known},
            "form": form,
            "connections": [[extra, process.act("connection", extra=extra)] for extra in connections],
            "deferred": record(process),
        }
    DATA.mkdir(exist_ok=True)
    text = json.dumps(kept, indent=1).replace(sys.prefix, "/opt/airflow")
    (DATA / f"{version}.json").write_text(f"{text}\n")
    shutil.rmtree(HOME)


if __name__ == "__main__":
    main(sys.argv[1])
