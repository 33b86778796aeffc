"""`airflow brayns script` prints what a task submits, and refuses what submits nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.errors import ConnectionLost
from tests.support.cluster import REPO
from tests.support.command_line import CommandLine, airflow_brayns_command
from tests.support.local import cluster, state
from tests.support.task import Ti

__all__ = ["airflow_brayns_command", "cluster", "state"]

DAG = """
from airflow.sdk import dag, task
from airflow_brayns import AllocateNodesOperator, BraynsMovieOperator, BraynsServiceOperator, EncodeMovieOperator
from airflow_brayns import RenderFramesOperator

print("a DAG file that prints")
CUBE = {"models": [{"path": %r}], "frames": 8, "output": "/data/x.mp4"}

@dag(schedule=None, params={"nodes": 3})
def mine():
    there = {"cluster_conn_id": "slurm", "nodes": "{{ params.nodes }}"}
    AllocateNodesOperator(task_id="allocate", **there)
    BraynsServiceOperator(task_id="serve", plugins=["x"], **there)
    BraynsMovieOperator(task_id="movie", specification=CUBE, plugins=[], **there)
    BraynsMovieOperator(task_id="packed", specification=CUBE, packing="one_job", **there)
    BraynsMovieOperator(task_id="far", specification=CUBE, frames_on="cluster", frames_dir="/gpfs/f", output_file="/gpfs/x.mp4", **there)
    EncodeMovieOperator(task_id="encode", cluster_conn_id="slurm", frames_dir="/gpfs/f", output_file="/gpfs/x.mp4", frames_on="cluster")
    EncodeMovieOperator(task_id="encode_here", cluster_conn_id="slurm", frames_dir="/f", output_file="/x.mp4")
    RenderFramesOperator(task_id="render", cluster_conn_id="slurm", specification=CUBE, frames_dir="/f", allocation="{{ ti.xcom_pull('a') }}")
    BraynsServiceOperator(task_id="of_a_run", cluster_conn_id="{{ ti.xcom_pull('a') }}")
    BraynsMovieOperator.partial(task_id="mapped", plugins=[], **there).expand(specification=[CUBE, CUBE])
    AllocateNodesOperator.partial(task_id="by_account", **there).expand(account=["first", "second"])

    @task
    def other(): ...
    other()

mine()
"""


@pytest.fixture
def dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle beside the DAG folder, and a connection to a cluster."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "mine.py").write_text(DAG % str(REPO / "tests" / "data" / "cube.obj"))
    bundles = [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(path)},
        }
        for name, path in (("mine", folder), ("examples", REPO / "dags"))
    ]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    extra = {"scheduler": "slurm", "account": "proj3"}
    monkeypatch.setenv("AIRFLOW_CONN_SLURM", json.dumps({"conn_type": "brayns_cluster", "extra": extra}))
    return folder


def submitted(monkeypatch: pytest.MonkeyPatch, task: Any) -> list[str]:
    """The keepers and sbatch lines that a task sends to its cluster."""
    sent: list[str] = []

    async def call(self: Cluster, command: str, body: str, timeout: float) -> str:
        if command == "submit":
            sent.append(body)
            number = len(sent)
            return f"incarnation 1\njob {number} x\nfolder /s/{number}\n"
        if command in ("look", "find"):
            raise ConnectionLost("enough")
        return ""

    monkeypatch.setattr(Cluster, "call", call)
    monkeypatch.setattr("airflow_brayns.services.waiting.Waiting.services", _stop)
    monkeypatch.setattr("airflow_brayns.services.waiting.Waiting.nodes", _stop)
    monkeypatch.setattr("airflow_brayns.rendering.render.render_with", _stop)
    try:
        task.execute({"ti": Ti(task.task_id)})
    except Exception:
        assert sent
    return sent


async def _stop(*_: object) -> None:
    raise ConnectionLost("enough", retry=False)


@pytest.mark.parametrize("task_id", ["allocate", "serve", "packed", "movie"])
def test_what_is_printed_is_what_is_submitted(
    airflow_brayns_command: CommandLine, dags: Path, monkeypatch: pytest.MonkeyPatch, task_id: str
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    said = airflow_brayns_command("script", "mine", task_id)
    assert said.code == 0, said.err
    jobs, nodes = map(int, re.match(r"# [a-z ]+: (\d+) jobs? of (\d+) nodes?", said.out).groups())  # type: ignore[union-attr]
    task = DagBag(str(dags)).dags["mine"].get_task(task_id)
    task.nodes = 3
    monkeypatch.setattr("airflow_brayns.rendering.render.RenderRequest.prepared", _as_it_is)
    monkeypatch.setattr("airflow_brayns.movie.production.Production.look", _nothing)
    sent = submitted(monkeypatch, task)
    assert len(sent) == jobs
    assert jobs * nodes == 3
    keeper = said.out.partition("# ---- keeper.sh\n")[2].partition("# ---- services")[0].strip()
    [line] = [line for line in said.out.splitlines() if " sbatch " in line]
    for body in sent:
        assert _quoted(keeper) in body
        assert _without_run(line) in _without_run(body)
        for command in re.findall(r"(?s)# ---- services/\S+ .*?\n(.*?)(?=\n# ----|\Z)", said.out):
            assert _quoted(command.strip()) in body


def _quoted(text: str) -> str:
    return text.replace("'", "'\"'\"'")


def _without_run(text: str) -> str:
    return re.sub(r"--comment=\S+", "--comment", text)


async def _as_it_is(self: Any, cluster: Cluster) -> Any:
    return self


async def _nothing(self: Any) -> None:
    return None


def test_a_movie_whose_frames_stay_there_is_encoded_there(airflow_brayns_command: CommandLine, dags: Path) -> None:
    said = airflow_brayns_command("script", "mine", "far", "--conf", '{"nodes": 2}')
    heads = [line for line in said.out.splitlines() if re.match("# to ", line)]
    assert heads == ["# to render: 2 jobs of 1 node on this machine", "# to encode: 1 job of 1 node on this machine"]
    assert said.out.count("# ---- keeper.sh") == 2
    assert "# to encode: 1 job of 1 node" in airflow_brayns_command("script", "mine", "encode").out


def test_a_mapped_task_is_shown_as_one_of_many(airflow_brayns_command: CommandLine, dags: Path) -> None:
    said = airflow_brayns_command("script", "mine", "mapped")
    assert said.out.startswith("# to render: 3 jobs of 1 node")
    assert "mapped" in said.err
    assert "--account=first" in airflow_brayns_command("script", "mine", "by_account").out


def test_the_examples_can_be_shown(
    airflow_brayns_command: CommandLine, dags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for dag_id, task_id in (("brayns_movie_batch", "movie"), ("brayns_movie", "brayns"), ("brayns_session", "brayns")):
        said = airflow_brayns_command("script", dag_id, task_id, "-c", '{"cluster_conn_id": "slurm", "nodes": 2}')
        assert "sbatch" in said.out, (dag_id, said.err)
        assert said.out.startswith("# "), "nothing else is on stdout"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["mine", "encode_here"], "allocates nothing"),
        (["mine", "render"], "allocates nothing"),
        (["mine", "other"], "allocates nothing"),
        (["mine", "nix"], "allocate, by_account, encode"),
        (["nix", "x"], "no bundle has a DAG 'nix'"),
        (["mine", "of_a_run"], "a template needs a run"),
        (["mine", "serve", "-c", "{bad"], "'{bad' is not JSON"),
        (["mine", "serve", "-c", "[1]"], "must be an object"),
        (["mine", "serve", "-c", '{"nodes": 0}'], "nodes: must be a whole number from 1"),
        (["mine", "serve", "-c", '{"nodes": -1}'], "nodes: must be a whole number from 1"),
        (["mine", "movie", "-c", '{"nodes": 100000}'], "nodes: must be a whole number from 1"),
        (["mine", "allocate", "-c", '{"nodes": "x"}'], "nodes: must be a whole number"),
        (["brayns_movie", "brayns", "-c", '{"nodes": 0}'], "nodes: 0 is less than the minimum of 1"),
        (["brayns_movie", "brayns", "-c", '{"nodes": 2.7}'], "nodes: 2.7 is not of type 'integer'"),
        (["brayns_movie", "brayns", "-c", '{"cluster_conn_id": "nix"}'], "no connection 'nix'"),
    ],
)
def test_what_cannot_be_shown_says_why(
    airflow_brayns_command: CommandLine, dags: Path, words: list[str], told: str
) -> None:
    said = airflow_brayns_command("script", *words)
    assert (said.code, said.out) == (1, "")
    assert told in said.err
    assert len(said.err.splitlines()) <= 4, "a person reads a sentence, no schema"


def test_a_parameter_that_the_dag_does_not_have_is_told(airflow_brayns_command: CommandLine, dags: Path) -> None:
    said = airflow_brayns_command("script", "mine", "serve", "-c", '{"nods": 2}')
    assert "'nods' is no parameter of mine; it has nodes" in said.err
