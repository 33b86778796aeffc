"""What a model is made of besides the file that a specification names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.movie.model import Model
from airflow_brayns.rendering.model_files import files_behind, named_in
from tests.support.shell import FakeShell

SIMULATION = {
    "manifest": {"$ROOT": "/gpfs", "$OUT": "$ROOT/run1"},
    "network": "../circuit/circuit_config.json",
    "output": {"output_dir": "$OUT", "spikes_file": "spikes.h5"},
    "reports": {"soma": {"type": "compartment"}, "axon": {"file_name": "a.h5"}},
}
BLUE_CONFIG = """Run Default
{
  CircuitPath /gpfs/circuit
  nrnPath /gpfs/circuit/ncsFunctional/nrn.h5
  OutputRoot out
}
Report soma
{
  Format HDF5
}
"""


@pytest.mark.parametrize(
    ("path", "text", "names"),
    [
        ("/sim/one/simulation_config.json", json.dumps(SIMULATION),
         ["/sim/circuit/circuit_config.json", "/gpfs/run1/spikes.h5", "/gpfs/run1/soma.h5", "/gpfs/run1/a.h5"]),
        ("/sim/BlueConfig", BLUE_CONFIG, ["/gpfs/circuit/ncsFunctional/nrn.h5", "/sim/out/soma.h5", "/sim/out/soma.bbp"]),
        ("/v/brain.mhd", "NDims = 3\nElementDataFile=brain.raw\n", ["/v/brain.raw"]),
    ],
)  # fmt: skip
def test_what_a_configuration_names(path: str, text: str, names: list[str]) -> None:
    assert set(names) <= set(named_in(path, text))


@pytest.mark.parametrize(
    "text",
    ["", "3", "null", "[[[", "[" * 100_000, '{"a": "\\ud800", "b": "x\\u0000y", "c": "l\\ni"}', json.dumps({"manifest": [1]}),
     json.dumps({"manifest": {"": "a", "$A": "$B", "$B": "$A", "$C": 3}}), json.dumps({"a": "x" * 5000})],
)  # fmt: skip
def test_what_is_no_configuration_names_what_can_be_asked_for(text: str) -> None:
    for one in named_in("/a/b.json", text):
        assert one.isprintable()
        assert len(one) < 1000


async def told(*models: Model) -> str:
    return await files_behind(LocalCluster(LocalShell()), models)


async def test_the_files_of_a_simulation_are_known_through_the_circuits_configuration(tmp_path: Path) -> None:
    for name in ("circuit/nodes.h5", "sim/out/soma.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("data")
        os.utime(tmp_path / name, (1_000_000_000, 1_000_000_000))
    circuit = {"networks": {"nodes": [{"nodes_file": "nodes.h5", "populations": {"All": {"morphologies_dir": "."}}}]}}
    (tmp_path / "circuit" / "circuit.json").write_text(json.dumps(circuit))
    (tmp_path / "sim" / "sim.json").write_text(
        json.dumps({"network": "../circuit/circuit.json", "output": {"output_dir": "out"}, "reports": {"soma": {}}})
    )
    properties = {"node_population_settings": [{"node_population": "All"}]}
    model = Model(path=str(tmp_path / "sim" / "sim.json"), loader="SONATA loader", properties=properties)
    found = await told(model, model)
    assert [line.split(" ")[0] for line in found.splitlines()] == [
        str(tmp_path / name) for name in ("circuit/circuit.json", "circuit/nodes.h5", "sim/out/soma.h5")
    ]
    assert found == await told(model)
    (tmp_path / "sim" / "out" / "soma.h5").write_text("other data")
    assert found != await told(model)


async def test_nothing_is_asked_for_models_that_name_no_files() -> None:
    shell = FakeShell()
    assert await files_behind(LocalCluster(shell), [Model(path="/a.obj"), Model(path="/b.swc")]) == ""
    assert shell.commands == 0


async def test_what_the_cluster_does_not_see_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "large.mhd").write_text("x" * 300_000)
    assert await told(Model(path=str(tmp_path / "large.mhd"), loader="mhd-volume")) == ""
    assert await told(Model(path="/nowhere/v.mhd", loader="mhd-volume")) == ""
