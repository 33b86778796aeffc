"""Which files load and which are refused, and in which words: the emulator's loaders beside braynsService 3.10.1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect

from airflow_brayns.emulator.loaders import LoadError, icosphere, load_mesh, load_morphology
from airflow_brayns.emulator.rays import View
from airflow_brayns.emulator.render import Quality, Tracer, developed
from airflow_brayns.emulator.scene import Content, Model
from tests.support.files import FILES, NEURON, TABLE, Row, found


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_file_loads_or_is_refused_as_by_the_real_service(row: Row, tmp_path: Path) -> None:
    assert found(row, tmp_path) == (row.loads, row.words)


def test_the_table_has_every_kind_both_ways() -> None:
    assert len(TABLE) >= 40
    for ending in ("obj", "stl", "ply", "off", "swc"):
        assert {row.loads is None for row in TABLE if row.name.endswith(ending)} == {True, False}
    assert {row.name for row in TABLE if row.content is None} == {file.name for file in FILES.iterdir()}


@pytest.mark.parametrize("name", ["latin1_ascii.stl", "binary_solid_bytes.stl"])
def test_a_quoted_line_goes_out_as_the_bytes_that_it_is(emulator, name: str) -> None:
    with connect(f"ws://{emulator().endpoint}", ping_interval=None, proxy=None) as client:
        params = {"path": str(FILES / name), "loader_name": "mesh", "loader_properties": {}}
        client.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "add-model", "params": params}))
        raw = client.recv(timeout=20, decode=False)
        with pytest.raises(UnicodeDecodeError):
            raw.decode()
        assert "Parsing error at line" in json.loads(raw.decode("utf-8", "replace"))["error"]["message"]
        client.send(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "get-version"}))
        assert json.loads(client.recv(timeout=20))["id"] == 2  # the service goes on


@pytest.mark.parametrize(
    ("path", "ending", "words"),
    [("nothing.obj", "obj", "File {} does not exists"), (".", "obj", "File {} is not a regular file"),
     ("nothing.obj", "swc", "File {} does not exists")],
)  # fmt: skip
def test_what_is_no_file_is_refused(tmp_path: Path, path: str, ending: str, words: str) -> None:
    with pytest.raises(LoadError) as refused:
        load_mesh(str(tmp_path / path), ending)
    assert str(refused.value) == words.format(tmp_path / path)


def test_a_morphology_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    for name, words in (
        ("nothing.swc", "File: {} does not exist."),
        ("cube.obj", "Unhandled file type: 'obj' only SWC, ASC and H5 are supported"),
        ("folder", "File has no extension"),
    ):
        with pytest.raises(LoadError) as refused:
            load_morphology(str(tmp_path / name), NEURON)
        assert str(refused.value) == words.format(tmp_path / name)


def picture(path: Path) -> set[tuple[int, ...]]:
    geometry, names = load_morphology(str(path), NEURON)
    tracer = Tracer([Model(0, Content("morphology", geometry, section_names=names))])
    size, view = (64, 64), View((0, 10, 90), (0, 10, 0), (0, 1, 0))
    light = tracer.light(size, view, [{"kind": "ambient"}], Quality(1, True, 0, (0, 0, 0, 0)))
    drawn = developed(light)[..., :3]
    return {tuple(color) for color in drawn.reshape(-1, 3).tolist()}


def test_radii_of_0_are_loaded_and_nothing_is_seen(tmp_path: Path) -> None:
    assert picture(FILES / "zeroradius.swc") == {(0, 0, 0)}
    seen = tmp_path / "seen.swc"
    seen.write_bytes((FILES / "zeroradius.swc").read_bytes().replace(b" 0 -1", b" 5 -1"))
    assert len(picture(seen)) == 2  # lit from all sides: the soma, and what is behind it


def test_constant_radii_are_the_multiplier_as_recorded() -> None:
    path = FILES.parent / "neuron.swc"
    geometry, _ = load_morphology(str(path), {**NEURON, "geometry_type": "constant_radii"})
    assert np.allclose(geometry.high, [208.232, 222.54, 169.826], atol=1e-3)
    assert np.allclose(geometry.low, [-166.801, -214.252, -208.697], atol=1e-3)


def test_section_smooth_thins_from_section_to_section_as_recorded() -> None:
    path = FILES.parent / "neuron.swc"
    geometry, _ = load_morphology(str(path), {**NEURON, "geometry_type": "section_smooth"})
    assert np.allclose(geometry.high, [208.99442, 223.30241, 170.58842], atol=1e-3)
    assert np.allclose(geometry.low, [-167.56342, -215.01442, -209.45943], atol=1e-3)


def test_balls_are_closed_and_look_outward() -> None:
    points, faces = icosphere(1)
    assert points.shape == (42, 3) and faces.shape == (80, 3)
    assert np.allclose(np.linalg.norm(points, axis=1), 1)
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normals * corners.mean(1)).sum(1) > 0).all()
